/* Inside checkpoint.h: what its kinds of directories fill in. */
#ifndef CHECKPOINT_PARTS_H
#define CHECKPOINT_PARTS_H

#include "checkpoint.h"
#include "names.h"

struct checkpoint_file {
    char *path;
    struct rank rank;
};

/* A tensor, or a rank's piece of one. There can be a hundred thousand, so they are small. */
struct piece {
    uint32_t name;     /* number in names */
    uint32_t file;     /* number in files */
    uint32_t expected; /* what .info.pt says: number in expectations + 1, or 0 */
    uint64_t tid;      /* where tensor is NULL: it is in <file>.tensors/tensor_<tid>.pt */
    struct tensor *tensor;
};

struct checkpoint {
    struct stream_info info;
    struct names names;
    struct names expectations; /* "bfloat16 [32,64]" */
    struct checkpoint_file *files;
    size_t n_files, files_capacity;
    struct piece *pieces; /* in the order of the records */
    size_t n_pieces, pieces_capacity, next;
    bool unknown_bytes; /* some tensors' sizes are not known yet */
    uint64_t n_left_out;
    char *left_out[LEFT_OUT_NAMES];
};

/* Takes over path. Returns the file's number. */
uint32_t checkpoint_add_file(struct checkpoint *cp, char *path, struct rank rank);
/* The tensors of a file of either format. The caller ends with tensor_list_free(), also after a failure. */
bool checkpoint_read_file(const char *path, const char *key, struct tensor_list *list, struct error *err);
/* Adds one of them, which then has no tensor any more. */
void checkpoint_add_piece(struct checkpoint *cp, uint32_t file, struct named_tensor *item, uint32_t expected);
/* Takes over what the list says of values left out. */
void checkpoint_add_left_out(struct checkpoint *cp, struct tensor_list *list);

/* Sets what stream_info says of the tensors. */
void checkpoint_count(struct checkpoint *cp);

/* checkpoint_hf.c. *found tells whether the directory is of this kind; if not, nothing is changed. */
bool hf_directory_open(struct checkpoint *cp, const char *path, const char *key, bool *found,
                       struct error *err);
bool hf_index_open(struct checkpoint *cp, const char *path, const char *key, struct error *err);
/* checkpoint_nxdt.c: the same for the directory of rank files itself. */
bool nxdt_directory_open(struct checkpoint *cp, const char *path, const char *key, bool *found,
                         struct error *err);

/* xser_read.c: adds the pieces of one rank file, looking into its .info.pt for what they should be. */
bool xser_add_pieces(struct checkpoint *cp, uint32_t file, struct tensor_list *list, struct error *err);
/* The tensor of a piece that is in a file of its own; NULL after filling err. */
struct tensor *xser_open_tensor(const struct checkpoint *cp, const struct piece *piece, struct error *err);

#endif
