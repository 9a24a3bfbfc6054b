/* Safetensors files, without reading their data. */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include "tensor_list.h"

/* Lists the tensors of a file in the order of their data. The header is checked as the format's own
 * implementation does: its length, shapes against data, and that the tensors fill the file without holes and
 * without overlap. The caller ends with tensor_list_free(), also after a failure. */
bool safetensors_read(const char *path, struct tensor_list *list, struct error *err);

#endif
