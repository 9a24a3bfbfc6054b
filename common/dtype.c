#include "dtype.h"

#include <string.h>

static const struct {
    const char *name, *storage_class, *safetensors;
    size_t size;
} types[DTYPE_COUNT] = {
    [DTYPE_NONE] = {"none", NULL, NULL, 0},
    [DTYPE_FLOAT64] = {"float64", "DoubleStorage", "F64", 8},
    [DTYPE_FLOAT32] = {"float32", "FloatStorage", "F32", 4},
    [DTYPE_FLOAT16] = {"float16", "HalfStorage", "F16", 2},
    [DTYPE_BFLOAT16] = {"bfloat16", "BFloat16Storage", "BF16", 2},
    [DTYPE_INT64] = {"int64", "LongStorage", "I64", 8},
    [DTYPE_INT32] = {"int32", "IntStorage", "I32", 4},
    [DTYPE_INT16] = {"int16", "ShortStorage", "I16", 2},
    [DTYPE_INT8] = {"int8", "CharStorage", "I8", 1},
    [DTYPE_UINT64] = {"uint64", NULL, "U64", 8},
    [DTYPE_UINT32] = {"uint32", NULL, "U32", 4},
    [DTYPE_UINT16] = {"uint16", NULL, "U16", 2},
    [DTYPE_UINT8] = {"uint8", "ByteStorage", "U8", 1},
    [DTYPE_BOOL] = {"bool", "BoolStorage", "BOOL", 1},
    [DTYPE_COMPLEX64] = {"complex64", "ComplexFloatStorage", "C64", 8},
    [DTYPE_COMPLEX128] = {"complex128", "ComplexDoubleStorage", NULL, 16},
    [DTYPE_FLOAT8_E4M3FN] = {"float8_e4m3fn", NULL, "F8_E4M3", 1},
    [DTYPE_FLOAT8_E5M2] = {"float8_e5m2", NULL, "F8_E5M2", 1},
    [DTYPE_FLOAT8_E4M3FNUZ] = {"float8_e4m3fnuz", NULL, NULL, 1},
    [DTYPE_FLOAT8_E5M2FNUZ] = {"float8_e5m2fnuz", NULL, NULL, 1},
    [DTYPE_FLOAT8_E8M0FNU] = {"float8_e8m0fnu", NULL, "F8_E8M0", 1},
};

size_t dtype_size(enum dtype dtype)
{
    return types[dtype].size;
}

const char *dtype_name(enum dtype dtype)
{
    return types[dtype].name;
}

const char *dtype_storage_class(enum dtype dtype)
{
    return types[dtype].storage_class;
}

const char *dtype_safetensors(enum dtype dtype)
{
    return types[dtype].safetensors;
}

enum dtype dtype_from_name(const char *name)
{
    enum dtype found = DTYPE_NONE;
    for (enum dtype d = DTYPE_NONE + 1; d < DTYPE_COUNT; d++)
        if (strcmp(types[d].name, name) == 0)
            found = d;
    return found;
}

enum dtype dtype_from_storage_class(const char *name)
{
    enum dtype found = DTYPE_NONE;
    for (enum dtype d = DTYPE_NONE + 1; d < DTYPE_COUNT; d++)
        if (types[d].storage_class && strcmp(types[d].storage_class, name) == 0)
            found = d;
    return found;
}

enum dtype dtype_from_safetensors(const char *name)
{
    enum dtype found = DTYPE_NONE;
    for (enum dtype d = DTYPE_NONE + 1; d < DTYPE_COUNT; d++)
        if (types[d].safetensors && strcmp(types[d].safetensors, name) == 0)
            found = d;
    return found;
}
