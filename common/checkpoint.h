/* Any checkpoint on disk, as a sequence of records.
 *
 * A path is a file of torch.save or of safetensors, a Hugging Face directory or its *.index.json, or a
 * directory of NxDT rank files (or the one above it, that has them in model/). Opening reads what describes
 * tensors and never their data; of an xser checkpoint the tensors' own files are opened one after another as
 * the records are asked for. No file stays open. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "stream.h"
#include "tensor_list.h"

struct checkpoint;

/* key, or NULL, is the dotted path of the dictionary in torch.save files that is wanted. NULL after filling
 * err. The caller ends with checkpoint_close(). */
struct checkpoint *checkpoint_open(const char *path, const char *key, struct error *err);

/* What can be said before the first record. bytes is 0 where tensors are in files of their own that have no
 * .info.pt. The config comes from a config.json beside the checkpoint, if there is one. */
const struct stream_info *checkpoint_info(const struct checkpoint *checkpoint);

/* Keeps the model's tensors only, under the names that Hugging Face or Megatron gives them: what stands
 * before "model.layers.N." (or "language_model.encoder.layers.N.") in the names of layers is stripped from
 * all names, and tensors whose names do not begin with it are left out. An error when there are several such
 * prefixes. */
bool checkpoint_pick_model(struct checkpoint *checkpoint, const char *path, struct error *err);

/* The next record, which the caller then owns: 1; 0 after the last; -1 after filling err. A whole model comes
 * in the order of its files. A sharded one comes tensor by tensor, all ranks' pieces of one together (by pp,
 * ep, tp): first the tensors that stand before the layers, then layer 0, 1, …, then all others. */
int checkpoint_next(struct checkpoint *checkpoint, struct record *record, struct error *err);

/* How many values of a whole checkpoint are no tensors and so left out; the first names of them, or NULL, in
 * names. */
uint64_t checkpoint_left_out(const struct checkpoint *checkpoint, const char *names[LEFT_OUT_NAMES]);

void checkpoint_close(struct checkpoint *checkpoint);

#endif
