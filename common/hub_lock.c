#include "hub_store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* huggingface_hub locks with flock() through the Python package filelock, some versions of which remove the
 * file when they unlock: a lock on a file that has no name any more locks nothing. */
static bool still_has_name(int fd, const char *path)
{
    struct stat opened, named;
    return fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_ino == named.st_ino &&
           opened.st_dev == named.st_dev;
}

bool hub_lock(const char *path, int *fd, struct error *err)
{
    for (int tries = 0; tries < 100; tries++) {
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*fd < 0)
            return fail_errno(err, "%s: cannot open the lock", path);
        int status = flock(*fd, LOCK_EX | LOCK_NB);
        bool unsupported = status != 0 && (errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOLCK);
        if (unsupported) /* a file system without locks: huggingface_hub goes on as well */
            return true;
        if (status == 0 && still_has_name(*fd, path))
            return true;
        int reason = errno;
        close(*fd);
        *fd = -1;
        errno = reason;
        if (status != 0 && errno == EWOULDBLOCK)
            return true;
        if (status != 0 && errno != EINTR)
            return fail_errno(err, "%s: cannot lock", path);
    }
    return true;
}
