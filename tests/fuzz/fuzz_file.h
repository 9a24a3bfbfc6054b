/* What the fuzz targets share: the input as a file, since the readers take paths. */
#ifndef FUZZ_FILE_H
#define FUZZ_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char fuzz_path[] = "/dev/shm/fuzz-XXXXXX";

static inline void fuzz_remove(void)
{
    unlink(fuzz_path);
}

/* A path whose file has these bytes until the next call. It is in /dev/shm, where that costs nothing. */
static inline const char *fuzz_file(const void *bytes, size_t size)
{
    static int fd = -1;
    if (fd < 0 && ((fd = mkstemp(fuzz_path)) < 0 || atexit(fuzz_remove) != 0))
        abort();
    if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size)
        abort();
    return fuzz_path;
}

#endif
