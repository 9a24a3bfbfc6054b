/* The numbers that a tensor's elements stand for, exactly. */
#ifndef ELEMENT_H
#define ELEMENT_H

#include "dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A float64 is told from the shorter floats because it takes more digits to write. */
enum number_kind { NUMBER_UNKNOWN, NUMBER_SIGNED, NUMBER_UNSIGNED, NUMBER_FLOAT, NUMBER_DOUBLE };

struct number {
    enum number_kind kind;
    uint64_t integer; /* of the integers; in two's complement when signed */
    double real;      /* of the floats */
};

/* The little-endian element at an address. Complex numbers and 8-bit floats are NUMBER_UNKNOWN. */
struct number element_number(enum dtype dtype, const unsigned char *at);

/* |a - b| of two of the same kind, which for integers is NUMBER_UNSIGNED. NaN when one of them is. */
struct number number_distance(struct number a, struct number b);
/* Whether one distance is larger than another; NaN is larger than all. */
bool number_exceeds(struct number a, struct number b);

/* With as many digits as tell it from all others of its type: 31 bytes are enough. */
void number_text(struct number number, char *text, size_t size);

#endif
