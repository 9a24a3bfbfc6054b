/* Element types, and what PyTorch and safetensors call them. */
#ifndef DTYPE_H
#define DTYPE_H

#include <stddef.h>

enum dtype {
    DTYPE_NONE, /* no such type */
    DTYPE_FLOAT64,
    DTYPE_FLOAT32,
    DTYPE_FLOAT16,
    DTYPE_BFLOAT16,
    DTYPE_INT64,
    DTYPE_INT32,
    DTYPE_INT16,
    DTYPE_INT8,
    DTYPE_UINT64,
    DTYPE_UINT32,
    DTYPE_UINT16,
    DTYPE_UINT8,
    DTYPE_BOOL,
    DTYPE_COMPLEX64,
    DTYPE_COMPLEX128,
    DTYPE_FLOAT8_E4M3FN,
    DTYPE_FLOAT8_E5M2,
    DTYPE_FLOAT8_E4M3FNUZ,
    DTYPE_FLOAT8_E5M2FNUZ,
    DTYPE_FLOAT8_E8M0FNU,
    DTYPE_COUNT
};

/* Bytes an element. */
size_t dtype_size(enum dtype dtype);
/* torch's name without "torch.": "bfloat16". */
const char *dtype_name(enum dtype dtype);
/* The class in module torch that a pickled storage of this type names ("BFloat16Storage"), or NULL for the
 * types that PyTorch saves as UntypedStorage with _rebuild_tensor_v3 (torch/_utils.py). */
const char *dtype_storage_class(enum dtype dtype);
/* The name in a safetensors header ("BF16"), or NULL. */
const char *dtype_safetensors(enum dtype dtype);

/* The inverses; DTYPE_NONE when there is no such name. */
enum dtype dtype_from_name(const char *name);
enum dtype dtype_from_storage_class(const char *name);
enum dtype dtype_from_safetensors(const char *name);

#endif
