/* Preloaded into a packer: the rename number RENAME_FAIL fails with EIO, and every one takes RENAME_MS milliseconds, as
 * on a slow network file system. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int number_of(const char *name)
{
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

int rename(const char *from, const char *to)
{
    static int n;
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    if (++n == number_of("RENAME_FAIL")) {
        errno = EIO;
        return -1;
    }
    int result = real(from, to);
    usleep((useconds_t)number_of("RENAME_MS") * 1000);
    return result;
}
