/* The tensors of a torch.save file, without reading their data. */
#ifndef TORCH_READ_H
#define TORCH_READ_H

#include "tensor_list.h"

/* Lists the tensors of a file under dotted names, in the order of the file. Nested dictionaries, lists and
 * modules are flattened; a file that is one tensor has the name "tensor". key, or NULL, is the dotted path of
 * the part that is wanted. Tensors of xser files have no tensor but a tid. Other values are counted in
 * list->n_left_out. The caller ends with tensor_list_free(), also after a failure. */
bool torch_read(const char *path, const char *key, struct tensor_list *list, struct error *err);

#endif
