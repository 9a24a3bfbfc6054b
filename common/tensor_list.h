/* The named tensors of one file. */
#ifndef TENSOR_LIST_H
#define TENSOR_LIST_H

#include "tensor.h"

enum { LEFT_OUT_NAMES = 5, MAX_TENSORS = 1000 * 1000 };

struct named_tensor {
    char *name;
    struct tensor *tensor; /* NULL: it is in the file tensor_<tid>.pt of an xser checkpoint */
    uint64_t tid;
};

/* Zero-initialise; tensor_list_free() releases the names and the tensors. */
struct tensor_list {
    struct named_tensor *items;
    size_t n, capacity;
    uint64_t n_left_out; /* values that are not tensors */
    char *left_out[LEFT_OUT_NAMES];
};

/* Takes over the tensor, copies the name. An error when the name is empty, has a NUL inside or is not UTF-8;
 * the tensor is then released. path is what messages begin with. */
bool tensor_list_add(struct tensor_list *list, const char *name, size_t length, struct tensor *tensor,
                     uint64_t tid, const char *path, struct error *err);
/* An error when two tensors have one name. */
bool tensor_list_check_unique(const struct tensor_list *list, const char *path, struct error *err);
void tensor_list_free(struct tensor_list *list);

#endif
