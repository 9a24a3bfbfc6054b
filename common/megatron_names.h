/* Megatron's names of the tensors that Hugging Face's Llama names otherwise. */
#ifndef MEGATRON_NAMES_H
#define MEGATRON_NAMES_H

/* The name in the other form, which the caller frees. A name that has no other form is returned as it is. */
char *name_to_megatron(const char *hf_name);
char *name_to_hf(const char *megatron_name);

#endif
