/* The input is a safetensors file. */
#include "fuzz_file.h"
#include "safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct tensor_list list;
    struct error err;
    safetensors_read(fuzz_file(bytes, size), &list, &err);
    tensor_list_free(&list);
    return 0;
}
