/* The opcodes for numbers and texts. */
#include "pickle_machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool push_bool(struct machine *m, bool boolean)
{
    /* Shared, and never written to. */
    static struct pickle_value yes = {.kind = PICKLE_BOOL, .as.boolean = true};
    static struct pickle_value no = {.kind = PICKLE_BOOL, .as.boolean = false};
    return push(m, boolean ? &yes : &no);
}

static bool push_int(struct machine *m, int64_t number)
{
    struct pickle_value *value = machine_value(m, PICKLE_INT);
    if (value)
        value->as.integer = number;
    return push(m, value);
}

bool push_text(struct machine *m, enum pickle_kind kind, struct slice text)
{
    struct pickle_value *value = machine_value(m, kind);
    if (value)
        value->as.text = text;
    return push(m, value);
}

/* A little-endian number of n bytes, unsigned. */
bool take_number(struct machine *m, size_t n, uint64_t *number)
{
    const unsigned char *bytes;
    if (!take(m, n, &bytes))
        return false;
    *number = 0;
    for (size_t i = n; i-- > 0;)
        *number = *number << 8 | bytes[i];
    return true;
}

bool counted_text(struct machine *m, enum pickle_kind kind, size_t count_bytes)
{
    uint64_t length;
    const unsigned char *bytes;
    return take_number(m, count_bytes, &length) && take(m, length, &bytes) &&
           push_text(m, kind, (struct slice){(const char *)bytes, (size_t)length});
}

/* LONG1, LONG4: two's complement, little-endian, as many bytes as it takes. */
bool counted_int(struct machine *m, size_t count_bytes)
{
    uint64_t length, bits = 0;
    const unsigned char *bytes;
    if (!take_number(m, count_bytes, &length) || !take(m, length, &bytes))
        return false;
    if (length > 8)
        return push_text(m, PICKLE_BIG_INT, (struct slice){(const char *)bytes, (size_t)length});
    for (size_t i = 8; i-- > 0;) {
        bool negative = length && bytes[length - 1] & 0x80;
        bits = bits << 8 | (i < length ? bytes[i] : negative ? 0xff : 0);
    }
    return push_int(m, (int64_t)bits);
}

/* INT and LONG of protocol 0: decimal digits, LONG with an L behind; INT 00 and 01 are the booleans. */
bool decimal_int(struct machine *m, bool is_long)
{
    struct slice line;
    char digits[32], *end;
    if (!take_line(m, &line))
        return false;
    if (!is_long && (slice_is(line, "00") || slice_is(line, "01")))
        return push_bool(m, line.at[1] == '1');
    if (line.length && line.at[line.length - 1] == 'L')
        line.length--;
    if (!line.length || line.length >= sizeof digits)
        return push_text(m, PICKLE_BIG_INT, line);
    memcpy(digits, line.at, line.length);
    digits[line.length] = '\0';
    errno = 0;
    long long number = strtoll(digits, &end, 10);
    if (*end)
        return machine_fail(m, "it has a whole number that is none");
    return errno ? push_text(m, PICKLE_BIG_INT, line) : push_int(m, number);
}

static bool push_float(struct machine *m, double number)
{
    struct pickle_value *value = machine_value(m, PICKLE_FLOAT);
    if (value)
        value->as.real = number;
    return push(m, value);
}

bool decimal_float(struct machine *m)
{
    struct slice line;
    char digits[64], *end;
    if (!take_line(m, &line))
        return false;
    size_t n = line.length < sizeof digits ? line.length : sizeof digits - 1;
    memcpy(digits, line.at, n);
    digits[n] = '\0';
    double number = strtod(digits, &end);
    return end != digits ? push_float(m, number) : machine_fail(m, "it has a number that is none");
}

bool binary_float(struct machine *m) /* big-endian, alone among the opcodes */
{
    const unsigned char *bytes;
    uint64_t bits = 0;
    double number;
    if (!take(m, 8, &bytes))
        return false;
    for (size_t i = 0; i < 8; i++)
        bits = bits << 8 | bytes[i];
    memcpy(&number, &bits, sizeof number);
    return push_float(m, number);
}

bool quoted_string(struct machine *m)
{
    struct slice line;
    if (!take_line(m, &line))
        return false;
    if (line.length < 2 || (line.at[0] != '\'' && line.at[0] != '"') ||
        line.at[line.length - 1] != line.at[0])
        return machine_fail(m, "it has a string without quotes");
    line = (struct slice){line.at + 1, line.length - 2};
    return unescape(m, &line, false) && push_text(m, PICKLE_STRING, line);
}

bool unicode_line(struct machine *m)
{
    struct slice line;
    return take_line(m, &line) && unescape(m, &line, true) && push_text(m, PICKLE_STRING, line);
}

bool binary_int(struct machine *m, size_t n)
{
    uint64_t number;
    if (!take_number(m, n, &number))
        return false;
    return push_int(m, n == 4 ? (int32_t)(uint32_t)number : (int64_t)number);
}
