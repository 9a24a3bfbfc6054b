/* xser, the format of torch_xla.utils.serialization: a rank file R.pt names tensors by tid, each is in
 * R.pt.tensors/tensor_<tid>.pt, and R.pt.info.pt, which old checkpoints lack, says {tid: {'dtype', 'shape',
 * …}}. */
#include "checkpoint_parts.h"
#include "torch_archive.h"
#include "torch_objects.h"
#include "torch_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct expectation {
    uint64_t tid, bytes;
    uint32_t number; /* in checkpoint->expectations */
};

struct expectations {
    struct expectation *items;
    size_t n, capacity;
};

static int by_tid(const void *a, const void *b)
{
    const struct expectation *x = a, *y = b;
    return x->tid < y->tid ? -1 : x->tid > y->tid;
}

/* What a tensor is, in words that can be compared. */
static void describe(struct strbuf *text, enum dtype dtype, unsigned n_dims, const uint64_t *shape)
{
    strbuf_printf(text, "%s [", dtype_name(dtype));
    for (unsigned i = 0; i < n_dims; i++)
        strbuf_printf(text, "%s%llu", i ? "," : "", (unsigned long long)shape[i]);
    strbuf_puts(text, "]");
}

static bool add_expectation(struct checkpoint *cp, const struct pickle_value *tid,
                            const struct pickle_value *entry, struct expectations *expectations)
{
    struct expectation e;
    uint64_t shape[TENSOR_MAX_DIMS];
    unsigned n_dims;
    struct strbuf text = {0};
    enum dtype dtype = torch_dtype(pickle_get(entry, "dtype"));
    if (!pickle_u64(tid, &e.tid) || dtype == DTYPE_NONE ||
        !torch_sizes(pickle_get(entry, "shape"), shape, &n_dims))
        return false;
    e.bytes = dtype_size(dtype);
    for (unsigned i = 0; i < n_dims; i++)
        if (!mul_u64(e.bytes, shape[i], &e.bytes))
            return false;
    describe(&text, dtype, n_dims, shape);
    e.number = (uint32_t)names_add(&cp->expectations, text.data, text.length);
    strbuf_free(&text);
    GROW(expectations->items, expectations->n, expectations->capacity);
    expectations->items[expectations->n++] = e;
    return true;
}

static bool read_info(struct checkpoint *cp, const char *path, struct expectations *expectations,
                      struct error *err)
{
    struct torch_archive archive;
    struct pickle_value *tid, *entry;
    bool ok = torch_archive_open(&archive, path, err);
    if (ok && torch_object(archive.pickle.root).kind != TORCH_DICT)
        ok = fail(err, "%s: not the description of an xser checkpoint's tensors", path);
    for (size_t at = 0; ok && torch_next_pair(archive.pickle.root, &at, &tid, &entry);)
        if (!add_expectation(cp, tid, entry, expectations))
            ok = fail(
                err,
                "%s: not the description of an xser checkpoint's tensors: an entry has no usable tid, dtype "
                "or shape",
                path);
    torch_archive_close(&archive);
    if (expectations->n)
        qsort(expectations->items, expectations->n, sizeof *expectations->items, by_tid);
    return ok;
}

bool xser_add_pieces(struct checkpoint *cp, uint32_t file, struct tensor_list *list, struct error *err)
{
    struct expectations expectations = {0};
    bool references = false, ok = true;
    for (size_t i = 0; i < list->n; i++)
        references = references || !list->items[i].tensor;
    char *path = xasprintf("%s.info.pt", cp->files[file].path);
    if (references && access(path, F_OK) == 0)
        ok = read_info(cp, path, &expectations, err);
    for (size_t i = 0; i < list->n && ok; i++) {
        const struct expectation wanted = {.tid = list->items[i].tid}, *e = NULL;
        if (!list->items[i].tensor && expectations.n)
            e = bsearch(&wanted, expectations.items, expectations.n, sizeof wanted, by_tid);
        if (e && !add_u64(cp->info.bytes, e->bytes, &cp->info.bytes))
            ok = fail(err, "%s: the shapes in it are too large for 64 bits of bytes", path);
        checkpoint_add_piece(cp, file, &list->items[i], e ? e->number + 1 : 0);
    }
    free(path);
    free(expectations.items);
    return ok;
}

static bool check_tensor(const struct checkpoint *cp, const struct piece *piece, const char *path,
                         const struct tensor_list *list, struct error *err)
{
    if (list->n != 1 || !list->items[0].tensor || strcmp(list->items[0].name, "tensor") != 0)
        return fail(err, "%s: should be one tensor ('%s'), but is something else", path,
                    cp->names.text[piece->name]);
    if (!piece->expected)
        return true;
    struct strbuf text = {0};
    const struct tensor *tensor = list->items[0].tensor;
    describe(&text, tensor->dtype, tensor->n_dims, tensor->shape);
    const char *expected = cp->expectations.text[piece->expected - 1];
    bool ok = strcmp(text.data, expected) == 0 ||
              fail(err, "%s: tensor '%s' is %s, but should be %s by %s.info.pt", path,
                   cp->names.text[piece->name], text.data, expected, cp->files[piece->file].path);
    strbuf_free(&text);
    return ok;
}

struct tensor *xser_open_tensor(const struct checkpoint *cp, const struct piece *piece, struct error *err)
{
    struct tensor_list list = {0};
    struct tensor *tensor = NULL;
    const char *rank_file = cp->files[piece->file].path;
    char *path = xasprintf("%s.tensors/tensor_%llu.pt", rank_file, (unsigned long long)piece->tid);
    if (torch_read(path, NULL, &list, err) && check_tensor(cp, piece, path, &list, err))
        tensor = tensor_keep(list.items[0].tensor);
    else if (access(path, F_OK) != 0)
        fail_errno(err, "%s: cannot open, but tensor '%s' of %s should be in it", path,
                   cp->names.text[piece->name], rank_file);
    tensor_list_free(&list);
    free(path);
    return tensor;
}
