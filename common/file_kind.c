#include "file_kind.h"

#include "memory.h"
#include "stream_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files that are met in the place of a checkpoint, and what to do about it. */
static const struct {
    size_t offset, length;
    const char *bytes, *what;
} strangers[] = {
    {0, 26, "version https://git-lfs.gi", "a Git LFS pointer and not the file itself: run 'git lfs pull'"},
    {0, 8, STREAM_MAGIC,
     "a tensor stream and not a checkpoint: the filters behind ckpt-unpack read it with '<'"},
    {0, 9, "<!DOCTYPE", "an HTML page and not a checkpoint: the download went wrong"},
    {0, 9, "<!doctype", "an HTML page and not a checkpoint: the download went wrong"},
    {0, 5, "<html", "an HTML page and not a checkpoint: the download went wrong"},
    {0, 5, "<?xml", "an XML document and not a checkpoint: the download went wrong"},
    {257, 5, "ustar", "the tar format of PyTorch before 0.2: load it with an old PyTorch and save it again"},
    {0, 2, "\x1f\x8b", "compressed with gzip: uncompress it first"},
    {0, 4, "\x28\xb5\x2f\xfd", "compressed with zstd: uncompress it first"},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     "compressed with xz: uncompress it first"},
    {0, 4, "GGUF", "a GGUF file, which is not a checkpoint that can be trained"},
    {0, 4, "\x89HDF", "an HDF5 file, of Keras perhaps, which this program does not read"},
    {0, 6, "\x93NUMPY", "a NumPy array, which this program does not read"},
};

int open_file(const char *path, uint64_t *size, struct error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* do not hang on a named pipe */
    if (fd < 0) {
        fail_errno(err, "%s: cannot open", path);
        return -1;
    }
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *size = (uint64_t)st.st_size;
        return fd;
    }
    fail(err, "%s: not a regular file", path);
    close(fd);
    return -1;
}

bool read_exactly(int fd, void *bytes, size_t length, uint64_t offset, const char *path, struct error *err)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = pread(fd, (char *)bytes + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(err, "%s: cannot read", path);
        if (n == 0)
            return fail(err, "%s: the file became shorter while it was read", path);
        done += (size_t)n;
    }
    return true;
}

/* An eight-byte length that fits, and an object behind it. */
static bool looks_like_safetensors(const unsigned char *head, size_t length, uint64_t size)
{
    return length > 8 && head[8] == '{' && le64(head) <= size - 8;
}

/* torch.save begins with the number 0x1950a86a20f9469cfc6c, which is a pickle of its own. */
static bool looks_like_legacy(const unsigned char *head, size_t length)
{
    static const unsigned char magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    static const char digits[] = "L119547037146038801333356L\n";
    size_t n = length < 32 ? length : 32;
    return memmem(head, n, magic, sizeof magic) || memmem(head, n, digits, sizeof digits - 1);
}

static bool is_stranger(const unsigned char *head, size_t length, size_t i)
{
    return length >= strangers[i].offset + strangers[i].length &&
           memcmp(head + strangers[i].offset, strangers[i].bytes, strangers[i].length) == 0;
}

bool file_kind(int fd, uint64_t size, const char *path, enum file_kind *kind, struct error *err)
{
    unsigned char head[512];
    size_t length = size < sizeof head ? (size_t)size : sizeof head;
    if (!length)
        return fail(err, "%s: the file is empty", path);
    if (!read_exactly(fd, head, length, 0, path, err))
        return false;
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        if (is_stranger(head, length, i))
            return fail(err, "%s: this is %s", path, strangers[i].what);
    if (length >= 4 && (memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0))
        *kind = FILE_ZIP;
    else if (looks_like_safetensors(head, length, size))
        *kind = FILE_SAFETENSORS;
    else if (looks_like_legacy(head, length))
        *kind = FILE_TORCH_LEGACY;
    else if (length >= 2 && head[0] == 0x80 && head[1] <= 5)
        *kind = FILE_PICKLE;
    else if (length > 8 && (head[8] == '{' || has_suffix(path, ".safetensors")))
        *kind = FILE_SAFETENSORS; /* a broken one; its reader says how */
    else
        return fail(
            err,
            "%s: neither a torch.save file nor safetensors (it begins with the bytes %02x %02x %02x %02x)",
            path, head[0], length > 1 ? head[1] : 0, length > 2 ? head[2] : 0, length > 3 ? head[3] : 0);
    return true;
}
