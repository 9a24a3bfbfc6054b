/* The numbers that a tensor's elements stand for. */
#ifndef ELEMENT_H
#define ELEMENT_H

#include "dtype.h"

#include <stdbool.h>

/* The little-endian element at an address as a double, which holds integers beyond 2^53 nearly. False for
 * types that it does not know: complex numbers and 8-bit floats. */
bool element_value(enum dtype dtype, const unsigned char *at, double *value);

#endif
