/* What the values of a pickle mean to PyTorch: tensors, state dictionaries, whole modules.
 *
 * The facts come from torch/_utils.py, torch/_tensor.py and torch/serialization.py of PyTorch 1.0 to 2.7. */
#ifndef TORCH_OBJECTS_H
#define TORCH_OBJECTS_H

#include "dtype.h"
#include "pickle.h"
#include "tensor.h"

enum torch_kind {
    TORCH_OTHER, /* a number, a text, an object of whatever class */
    TORCH_TENSOR,
    TORCH_REFERENCE, /* a tensor in another file: TensorReference of torch_xla.utils.serialization */
    TORCH_DICT,
    TORCH_LIST,
    TORCH_MODULE,     /* an nn.Module saved as a whole */
    TORCH_UNSUPPORTED /* a tensor of a kind that is not plain bytes */
};

struct torch_object {
    enum torch_kind kind;
    struct slice function;                /* of a tensor: what rebuilds it, e.g. _rebuild_tensor_v2 */
    const struct pickle_value *arguments; /* of a tensor: its arguments */
    const struct pickle_value *state;     /* of a module: the dictionary of its attributes */
    uint64_t tid;                         /* of a reference */
};

/* A storage as a persistent id names it. Counts are in elements of dtype; UntypedStorage is of DTYPE_UINT8.
 */
struct torch_storage {
    struct slice key;
    enum dtype dtype;
    uint64_t elements;
    uint64_t first, visible; /* a view (legacy files): only these elements of it, else 0 and elements */
};

struct torch_tensor {
    struct torch_storage storage;
    enum dtype dtype;
    uint64_t offset; /* elements from storage.first */
    unsigned n_dims;
    uint64_t shape[TENSOR_MAX_DIMS], strides[TENSOR_MAX_DIMS]; /* elements */
};

/* Looks through Parameter and the like at what a value is. */
struct torch_object torch_object(const struct pickle_value *value);
/* Messages of these do not name the file or the tensor. The tensor's view lies inside of its storage. */
bool torch_tensor(const struct torch_object *object, struct torch_tensor *tensor, struct error *err);
bool torch_storage(const struct pickle_value *persistent, struct torch_storage *storage, struct error *err);

/* The keys and values of a TORCH_DICT, one after another: begin with at 0. False after the last. */
bool torch_next_pair(const struct pickle_value *dict, size_t *at, struct pickle_value **key,
                     struct pickle_value **value);
/* The elements of a TORCH_LIST. */
const struct pickle_items *torch_elements(const struct pickle_value *list);
/* Whether a set, of any protocol, has this text in it. */
bool torch_set_has(const struct pickle_value *set, struct slice text);

/* torch.Size, tuple or list of whole numbers; false when it is something else or has more than
 * TENSOR_MAX_DIMS. */
bool torch_sizes(const struct pickle_value *value, uint64_t *sizes, unsigned *n);
/* torch.float32 …; DTYPE_NONE when it is none or not one that we know. */
enum dtype torch_dtype(const struct pickle_value *value);

#endif
