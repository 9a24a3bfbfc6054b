/* A file of torch.save, of either kind: its pickle, and where the storages are. */
#ifndef TORCH_ARCHIVE_H
#define TORCH_ARCHIVE_H

#include "pickle.h"
#include "tensor.h"
#include "zip.h"

struct storage_place {
    uint64_t offset, size; /* bytes */
};

struct torch_archive {
    const char *path; /* the caller's */
    int fd;
    uint64_t size;
    struct pickle pickle; /* of the saved object */
    unsigned char *text;  /* what the pickle's texts are slices of */
    bool is_zip;
    struct zip zip;
    char *prefix;                 /* of the entries in the zip: "archive/" */
    struct names keys;            /* legacy: of the storages */
    struct storage_place *places; /* legacy: by number of the key */
};

/* The caller ends with torch_archive_close(), also after a failure. path must outlive it. The file stays open
 * until then. */
bool torch_archive_open(struct torch_archive *archive, const char *path, struct error *err);
/* Where a storage's bytes are in the file. The message of a failure does not name the file. */
bool torch_archive_storage(const struct torch_archive *archive, struct slice key, struct storage_place *place,
                           struct error *err);
void torch_archive_close(struct torch_archive *archive);

/* The legacy kind (torch_legacy.c), for torch_archive_open(). */
bool torch_legacy_open(struct torch_archive *archive, struct error *err);

#endif
