#include "element.h"

#include "memory.h"

#include <math.h>
#include <string.h>

static double float32_value(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double float64_value(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16: a sign, 5 bits of exponent with a bias of 15, 10 bits of fraction. */
static double float16_value(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = exponent == 31  ? (fraction ? NAN : INFINITY)
                  : exponent == 0 ? ldexp(fraction, -24)
                                  : ldexp(1024 + fraction, exponent - 25);
    return bits & 0x8000 ? -size : size;
}

bool element_value(enum dtype dtype, const unsigned char *at, double *value)
{
    switch (dtype) {
    case DTYPE_FLOAT64:
        *value = float64_value(le64(at));
        return true;
    case DTYPE_FLOAT32:
        *value = float32_value(le32(at));
        return true;
    case DTYPE_FLOAT16:
        *value = float16_value(le16(at));
        return true;
    case DTYPE_BFLOAT16: /* the upper half of a float32 */
        *value = float32_value((uint32_t)le16(at) << 16);
        return true;
    case DTYPE_INT64:
        *value = (double)(int64_t)le64(at);
        return true;
    case DTYPE_INT32:
        *value = (int32_t)le32(at);
        return true;
    case DTYPE_INT16:
        *value = (int16_t)le16(at);
        return true;
    case DTYPE_INT8:
        *value = (signed char)*at;
        return true;
    case DTYPE_UINT64:
        *value = (double)le64(at);
        return true;
    case DTYPE_UINT32:
        *value = le32(at);
        return true;
    case DTYPE_UINT16:
        *value = le16(at);
        return true;
    case DTYPE_UINT8:
    case DTYPE_BOOL:
        *value = *at;
        return true;
    default:
        return false;
    }
}
