/* The digest of a file that is still being written.
 *
 * A thread of its own reads the file from its beginning as far as it is there, so that the digest is known
 * soon after the last byte arrived and the download itself never waits for it. */
#ifndef HUB_DIGEST_H
#define HUB_DIGEST_H

#include "hub_api.h"

struct hub_digest;

/* fd must stay open until hub_digest_stop(). size is that of the complete file. make_durable: the thread
 * also brings the file to the disk, so that after a power failure a name never stands for content that was
 * not verified. */
struct hub_digest *hub_digest_start(int fd, enum hub_digest_kind kind, uint64_t size, bool make_durable);

/* Says that the first `available` bytes are there. */
void hub_digest_available(struct hub_digest *digest, uint64_t available);

/* Whether the thread is done: all bytes read, or none can be. hub_wake() tells when that changes. */
bool hub_digest_is_done(struct hub_digest *digest);

/* Ends the thread, also before it is done, and frees the digest. True when hex was filled. */
bool hub_digest_stop(struct hub_digest *digest, char hex[HUB_HEX_SIZE], struct error *err);

/* The digest of a file that is there. */
bool hub_digest_file(const char *path, enum hub_digest_kind kind, uint64_t size, char hex[HUB_HEX_SIZE],
                     struct error *err);

#endif
