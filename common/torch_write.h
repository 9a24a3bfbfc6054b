/* Writing torch.save's zip archives.
 *
 * An archive is planned entry by entry without touching the disk, so that every payload's place in the file
 * is known before the first byte is written and several threads (or runs of an inline stream) can fill
 * payloads in any order. archive_finish() writes what stands around the payloads. Entries are stored,
 * payloads begin at multiples of 64 bytes, large ones use zip64, as PyTorch's own writer does
 * (caffe2/serialize/inline_container.cc). */
#ifndef TORCH_WRITE_H
#define TORCH_WRITE_H

#include "tensor.h"

#include "memory.h"

struct archive_entry {
    char *name; /* below the top folder: "data/0" */
    uint64_t header_at, data_at, size;
    uint32_t crc;
};

struct archive {
    char *path;
    char *top; /* the top folder's name */
    struct archive_entry *entries;
    size_t n, capacity;
    uint64_t end;       /* where the next entry's local header goes */
    uint64_t tail_from; /* from here on the file's bytes are in tail */
    struct strbuf tail;
};

/* Both strings are copied. */
struct archive *archive_new(const char *path, const char *top);
void archive_free(struct archive *archive);
/* Plans a payload of size bytes and returns its index; its bytes go to entries[index].data_at, its CRC-32
 * into entries[index].crc, both before archive_finish(). Not possible after archive_put(). */
size_t archive_add(struct archive *archive, const char *name, uint64_t size);
/* Adds a small entry that the archive itself will write. */
void archive_put(struct archive *archive, const char *name, const void *bytes, size_t n);
/* Writes local headers, small entries and the central directory. The archive has no entries any more then. */
bool archive_finish(struct archive *archive, struct error *err);
/* A descriptor for writing into the file, which is made if it is not there; -1 after filling err. */
int open_to_write(const char *path, struct error *err);
/* pwrite(2) of all n bytes. path is for messages. */
bool write_at(int fd, const void *bytes, size_t n, uint64_t offset, const char *path, struct error *err);

/* Pickles (protocol 2), as torch.save writes them. */
void pickle_begin(struct strbuf *p);
void pickle_end(struct strbuf *p);
void pickle_string(struct strbuf *p, const char *text);
void pickle_number(struct strbuf *p, uint64_t value);
void pickle_global(struct strbuf *p, const char *module, const char *name);
/* A dictionary: pickle_dict(), then key and value in turn, then pickle_dict_end(). */
void pickle_dict(struct strbuf *p);
void pickle_dict_end(struct strbuf *p);
void pickle_bool(struct strbuf *p, bool value);
/* A contiguous tensor with this one's dtype and shape, whose bytes are the entry "data/KEY". */
void pickle_tensor(struct strbuf *p, const struct tensor *tensor, const char *key);
/* torch.Size of the tensor's shape; its torch.dtype. */
void pickle_size(struct strbuf *p, const struct tensor *tensor);
void pickle_dtype(struct strbuf *p, enum dtype dtype);
/* torch_xla.utils.serialization.TensorReference with attribute tid, the stand-in for a tensor in an xser rank
 * file. */
void pickle_tensor_reference(struct strbuf *p, uint64_t tid);

/* Puts data.pkl, byteorder and version, which every archive has. */
void archive_put_pickle(struct archive *archive, const struct strbuf *pickle);

#endif
