#include "hub_digest.h"

#include "hub_signal.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 256 * 1024, WAKE_STEP = 1 << 20, WRITE_BACK_STEP = 32 << 20 };

struct hub_digest {
    pthread_t thread;
    int fd;
    bool make_durable;
    uint64_t size, announced;
    EVP_MD_CTX *context;
    pthread_mutex_t lock;
    pthread_cond_t more;
    /* under lock: */
    uint64_t available;
    bool stop, done, ok;
    struct error error;
    char hex[HUB_HEX_SIZE];
};

/* Waits until there is more than `position` to read. Returns how much, or 0 when the work must stop. */
static uint64_t wait_for_more(struct hub_digest *d, uint64_t position)
{
    pthread_mutex_lock(&d->lock);
    while (!d->stop && d->available <= position)
        pthread_cond_wait(&d->more, &d->lock);
    uint64_t n = d->stop ? 0 : d->available - position;
    pthread_mutex_unlock(&d->lock);
    return n;
}

static bool read_all(struct hub_digest *d, struct error *err)
{
    char *block = xmalloc(BLOCK);
    bool ok = true;
    uint64_t written_back = 0;
    for (uint64_t position = 0; ok && position < d->size;) {
        /* The disk works while the rest is still arriving, so that the last fdatasync() has little to do. */
        if (d->make_durable && position - written_back >= WRITE_BACK_STEP) {
            sync_file_range(d->fd, (off_t)written_back, WRITE_BACK_STEP, SYNC_FILE_RANGE_WRITE);
            written_back += WRITE_BACK_STEP;
        }
        uint64_t n = wait_for_more(d, position);
        ssize_t got = n ? pread(d->fd, block, n < BLOCK ? n : BLOCK, (off_t)position) : 0;
        if (n == 0)
            ok = fail(err, "stopped");
        else if (got <= 0)
            ok = fail_errno(err, "cannot read back what was written");
        else if (EVP_DigestUpdate(d->context, block, (size_t)got) != 1)
            ok = fail(err, "cannot compute a digest");
        else
            position += (uint64_t)got;
    }
    free(block);
    if (ok && d->make_durable && fdatasync(d->fd) != 0)
        ok = fail_errno(err, "cannot write to the disk");
    return ok;
}

static void *run(void *argument)
{
    struct hub_digest *d = argument;
    struct error error;
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    bool ok = read_all(d, &error);
    if (ok && (EVP_DigestFinal_ex(d->context, bytes, &n) != 1 || n * 2 >= HUB_HEX_SIZE))
        ok = fail(&error, "cannot compute a digest");
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; ok && i < n; i++)
        snprintf(d->hex + 2 * i, 3, "%02x", bytes[i]);
    if (!ok)
        d->error = error;
    d->ok = ok;
    d->done = true;
    pthread_mutex_unlock(&d->lock);
    hub_wake();
    return NULL;
}

struct hub_digest *hub_digest_start(int fd, enum hub_digest_kind kind, uint64_t size, bool make_durable)
{
    struct hub_digest *d = xcalloc(1, sizeof *d);
    char header[32];
    d->fd = fd;
    d->size = size;
    d->make_durable = make_durable;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->more, NULL);
    d->context = EVP_MD_CTX_new();
    if (!d->context ||
        EVP_DigestInit_ex(d->context, kind == HUB_SHA256 ? EVP_sha256() : EVP_sha1(), NULL) != 1)
        die(EXIT_DATA, "libcrypto cannot compute %s", kind == HUB_SHA256 ? "SHA-256" : "SHA-1");
    if (kind == HUB_GIT_SHA1) {
        int n = snprintf(header, sizeof header, "blob %llu", (unsigned long long)size);
        if (EVP_DigestUpdate(d->context, header, (size_t)n + 1) != 1)
            die(EXIT_DATA, "libcrypto cannot compute SHA-1");
    }
    if (pthread_create(&d->thread, NULL, run, d) != 0)
        die(EXIT_DATA, "cannot start a thread; raise ulimit -u");
    return d;
}

void hub_digest_available(struct hub_digest *d, uint64_t available)
{
    if (available < d->size && available - d->announced < WAKE_STEP)
        return;
    d->announced = available;
    pthread_mutex_lock(&d->lock);
    d->available = available;
    pthread_cond_signal(&d->more);
    pthread_mutex_unlock(&d->lock);
}

bool hub_digest_is_done(struct hub_digest *d)
{
    pthread_mutex_lock(&d->lock);
    bool done = d->done;
    pthread_mutex_unlock(&d->lock);
    return done;
}

bool hub_digest_stop(struct hub_digest *d, char hex[HUB_HEX_SIZE], struct error *err)
{
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->more);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    bool ok = d->ok;
    if (ok && hex)
        memcpy(hex, d->hex, HUB_HEX_SIZE);
    if (!ok && err)
        *err = d->error;
    EVP_MD_CTX_free(d->context);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->more);
    free(d);
    return ok;
}

bool hub_digest_file(const char *path, enum hub_digest_kind kind, uint64_t size, char hex[HUB_HEX_SIZE],
                     struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, "%s: cannot open", path);
    struct hub_digest *d = hub_digest_start(fd, kind, size, false);
    hub_digest_available(d, size);
    while (!hub_digest_is_done(d) && !hub_interrupted())
        hub_pause(0.1);
    bool ok = hub_digest_stop(d, hex, err);
    close(fd);
    return ok;
}
