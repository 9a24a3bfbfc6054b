/* The writing half of pickles: the opcodes that torch.save uses (Python's pickletools.py describes them). */
#include "torch_write.h"

#include <string.h>

static void op(struct strbuf *p, char code)
{
    strbuf_add(p, &code, 1);
}

void pickle_begin(struct strbuf *p)
{
    strbuf_add(p, "\x80\x02", 2);
}

void pickle_end(struct strbuf *p)
{
    op(p, '.');
}

void pickle_string(struct strbuf *p, const char *text)
{
    unsigned char length[4];
    put_le32(length, (uint32_t)strlen(text));
    op(p, 'X');
    strbuf_add(p, length, sizeof length);
    strbuf_puts(p, text);
}

void pickle_number(struct strbuf *p, uint64_t value)
{
    unsigned char bytes[9] = {0};
    unsigned char long_size = value <= INT64_MAX ? 8 : 9; /* the ninth byte keeps a LONG1 positive */
    put_le64(bytes, value);
    if (value <= UINT8_MAX) {
        op(p, 'K');
        strbuf_add(p, bytes, 1);
    } else if (value <= UINT16_MAX) {
        op(p, 'M');
        strbuf_add(p, bytes, 2);
    } else if (value <= INT32_MAX) {
        op(p, 'J');
        strbuf_add(p, bytes, 4);
    } else {
        op(p, '\x8a');
        strbuf_add(p, &long_size, 1);
        strbuf_add(p, bytes, long_size);
    }
}

void pickle_bool(struct strbuf *p, bool value)
{
    op(p, value ? '\x88' : '\x89');
}

void pickle_global(struct strbuf *p, const char *module, const char *name)
{
    strbuf_printf(p, "c%s\n%s\n", module, name);
}

void pickle_dict(struct strbuf *p)
{
    op(p, '}');
    op(p, '(');
}

void pickle_dict_end(struct strbuf *p)
{
    op(p, 'u');
}

static void add_tuple(struct strbuf *p, unsigned n, const uint64_t *numbers)
{
    static const char close[] = {')', '\x85', '\x86', '\x87'};
    if (n > 3)
        op(p, '(');
    for (unsigned i = 0; i < n; i++)
        pickle_number(p, numbers[i]);
    op(p, n > 3 ? 't' : close[n]);
}

void pickle_dtype(struct strbuf *p, enum dtype dtype)
{
    pickle_global(p, "torch", dtype_name(dtype));
}

void pickle_size(struct strbuf *p, const struct tensor *tensor)
{
    pickle_global(p, "torch", "Size");
    add_tuple(p, tensor->n_dims, tensor->shape);
    op(p, '\x85');
    op(p, 'R');
}

/* torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks); types without a
 * storage class of their own go as bytes, through _rebuild_tensor_v3, which has the dtype as a seventh
 * argument. */
void pickle_tensor(struct strbuf *p, const struct tensor *tensor, const char *key)
{
    const char *class = dtype_storage_class(tensor->dtype);
    uint64_t strides[TENSOR_MAX_DIMS], step = 1;
    for (unsigned i = tensor->n_dims; i-- > 0;) {
        strides[i] = step;
        step *= tensor->shape[i] ? tensor->shape[i] : 1;
    }
    pickle_global(p, "torch._utils", class ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
    op(p, '(');
    op(p, '(');
    pickle_string(p, "storage");
    pickle_global(p, class ? "torch" : "torch.storage", class ? class : "UntypedStorage");
    pickle_string(p, key);
    pickle_string(p, "cpu");
    pickle_number(p, class ? tensor_elements(tensor) : tensor_bytes(tensor));
    op(p, 't');
    op(p, 'Q');
    pickle_number(p, 0);
    add_tuple(p, tensor->n_dims, tensor->shape);
    add_tuple(p, tensor->n_dims, strides);
    pickle_bool(p, false);
    pickle_global(p, "collections", "OrderedDict");
    op(p, ')');
    op(p, 'R');
    if (!class)
        pickle_dtype(p, tensor->dtype);
    op(p, 't');
    op(p, 'R');
}

void pickle_tensor_reference(struct strbuf *p, uint64_t tid)
{
    pickle_global(p, "torch_xla.utils.serialization", "TensorReference");
    op(p, ')');
    op(p, '\x81');
    op(p, '}');
    pickle_string(p, "tid");
    pickle_number(p, tid);
    op(p, 's');
    op(p, 'b');
}
