/* A state dict that is being written: the names and shapes of its tensors, in order. */
#ifndef STATE_DICT_H
#define STATE_DICT_H

#include "copy.h"
#include "stream.h"

struct state_dict_member {
    char *name;
    struct tensor *tensor; /* for its dtype and shape only; holds no data */
};

struct state_dict {
    struct rank rank;
    char *path;                  /* of the file, with ".pt" where it has that */
    char *top;                   /* the top folder of its archive */
    struct copy_archive archive; /* the file itself */
    struct state_dict_member *members;
    size_t n, capacity;
};

/* path and top are taken over (malloc). The archive is composed as state_dict_compose() does, unless changed.
 * The dict must stay where it is. */
void state_dict_init(struct state_dict *dict, struct rank rank, char *path, char *top);
void state_dict_free(struct state_dict *dict);
/* Adds a tensor's name and shape; returns its index. */
size_t state_dict_add(struct state_dict *dict, const struct record *record);
/* Ends the program when a name is there twice. */
void state_dict_check(const struct state_dict *dict);

/* The pickles of the three forms: name -> tensor whose bytes are data/INDEX of the same archive; name ->
 * TensorReference with tid INDEX; and xser's .info.pt, tid -> dtype, shape. For copy_archive.compose, with
 * the dict as context. */
void state_dict_compose(struct copy_archive *archive);
void state_dict_compose_references(struct copy_archive *archive);
void state_dict_compose_info(struct copy_archive *archive);

/* All ranks of a sharded checkpoint. */
struct rank_set {
    struct stream_info info;
    size_t n;
    struct state_dict *dicts;
};

/* Begins the output directory with what NxD puts around the ranks ("checkpoint" first, "done" last, "model"
 * between them), and makes a state dict for every rank. */
void rank_set_begin(struct rank_set *set, const struct stream_info *info, const char *target);
void rank_set_free(struct rank_set *set);
struct state_dict *rank_set_find(struct rank_set *set, const struct record *record);
/* Ends the program when a rank has no tensors or a name twice. */
void rank_set_check(const struct rank_set *set);

#endif
