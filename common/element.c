#include "element.h"

#include "memory.h"

#include <math.h>
#include <stdio.h>
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

static struct number of_float(double value)
{
    return (struct number){.kind = NUMBER_FLOAT, .real = value};
}

static struct number of_signed(int64_t value)
{
    return (struct number){.kind = NUMBER_SIGNED, .integer = (uint64_t)value};
}

static struct number of_unsigned(uint64_t value)
{
    return (struct number){.kind = NUMBER_UNSIGNED, .integer = value};
}

struct number element_number(enum dtype dtype, const unsigned char *at)
{
    switch (dtype) {
    case DTYPE_FLOAT64:
        return (struct number){.kind = NUMBER_DOUBLE, .real = float64_value(le64(at))};
    case DTYPE_FLOAT32:
        return of_float(float32_value(le32(at)));
    case DTYPE_FLOAT16:
        return of_float(float16_value(le16(at)));
    case DTYPE_BFLOAT16: /* the upper half of a float32 */
        return of_float(float32_value((uint32_t)le16(at) << 16));
    case DTYPE_INT64:
        return of_signed((int64_t)le64(at));
    case DTYPE_INT32:
        return of_signed((int32_t)le32(at));
    case DTYPE_INT16:
        return of_signed((int16_t)le16(at));
    case DTYPE_INT8:
        return of_signed((signed char)*at);
    case DTYPE_UINT64:
        return of_unsigned(le64(at));
    case DTYPE_UINT32:
        return of_unsigned(le32(at));
    case DTYPE_UINT16:
        return of_unsigned(le16(at));
    case DTYPE_UINT8:
    case DTYPE_BOOL:
        return of_unsigned(*at);
    default:
        return (struct number){0};
    }
}

struct number number_distance(struct number a, struct number b)
{
    bool swap = a.kind == NUMBER_SIGNED ? (int64_t)a.integer < (int64_t)b.integer : a.integer < b.integer;
    if (a.kind == NUMBER_SIGNED || a.kind == NUMBER_UNSIGNED) /* modulo 2^64, which is enough for any two */
        return of_unsigned(swap ? b.integer - a.integer : a.integer - b.integer);
    a.real = fabs(a.real - b.real);
    return a;
}

bool number_exceeds(struct number a, struct number b)
{
    return a.kind == NUMBER_UNSIGNED ? a.integer > b.integer : a.real > b.real || isnan(a.real);
}

void number_text(struct number number, char *text, size_t size)
{
    if (number.kind == NUMBER_SIGNED)
        snprintf(text, size, "%lld", (long long)number.integer);
    else if (number.kind == NUMBER_UNSIGNED)
        snprintf(text, size, "%llu", (unsigned long long)number.integer);
    else
        snprintf(text, size, "%.*g", number.kind == NUMBER_DOUBLE ? 17 : 9, number.real);
}
