/* The tensor stream, ckpt-stream(5): how filters hand tensors to each other.
 *
 * A stream is a magic and version, a header (struct stream_info), one record a tensor, and an end record that
 * counts them. Tensors travel by reference (the record says which bytes of which file) or inline (the bytes
 * follow). A reader gives both back as a struct tensor: inline data as a view of memory that the tensor owns.
 *
 * The functions end the program themselves when a stream is broken or cannot be written: to a filter that is
 * always the end, and its main() reads as a sentence. A program that fails after stream_writer_begin() tells
 * the next program so (an abort record), which then ends without a message of its own: one failure, one line.
 */
#ifndef STREAM_H
#define STREAM_H

#include "config.h"
#include "options.h"
#include "tensor.h"

#include <stdio.h>

/* A parallel rank. */
struct rank {
    uint32_t tp, pp, ep;
};

enum backend { BACKEND_UNKNOWN, BACKEND_TRN1, BACKEND_TRN2 };

/* How a sharded stream was laid out, as far as the stream knows: 0 or false where it does not. */
struct layout {
    enum backend backend;
    uint64_t kv_size_multiplier;
    uint64_t virtual_pp_size;
    bool qkv_linear, pad_attn_heads, compat_nxd;
};

/* What stands at the beginning of a stream. Numbers are 0 where they are not known. */
struct stream_info {
    bool sharded; /* records carry a rank; tp_size, pp_size, ep_size are set */
    uint64_t tp_size, pp_size, ep_size;
    uint64_t tensors, bytes; /* of the whole stream */
    uint64_t layers;         /* model.layers.0 … layers-1 */
    int lm_head;             /* whether there is an lm_head.weight: 1, 0, or -1 for not known */
    struct model_config config;
    struct layout layout;
};

/* One tensor of a stream. The name and the tensor belong to whoever holds the record: record_free(). */
struct record {
    char *name;
    struct rank rank; /* of a sharded stream */
    struct tensor *tensor;
};
void record_free(struct record *record);

/* The options --inline and --by-reference, for a program's list of option tables. */
extern const struct option_spec stream_options[];

/* Reading: at most one stream, on file descriptor 0 or another. */
struct stream_reader;
struct stream_reader *stream_reader_open(int fd, struct stream_info *info);
/* The next record, which the caller then owns; false after the last one. */
bool stream_read(struct stream_reader *reader, struct record *record);
void stream_reader_close(struct stream_reader *reader);

/* Writing, on standard output, once a program. stream_writer_declare() comes first in main(), so that a
 * failure from then on reaches the next program; stream_writer_begin() when the header is known. */
void stream_writer_declare(void);
void stream_writer_begin(const struct stream_info *info);
/* Does not consume the record. */
void stream_write(const struct record *record);
/* Writes the end record, and closes and checks standard output. */
void stream_writer_end(void);

#endif
