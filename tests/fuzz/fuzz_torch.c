/* The input is a file of torch.save, zip or legacy. */
#include "fuzz_file.h"
#include "torch_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct tensor_list list;
    struct error err;
    torch_read(fuzz_file(bytes, size), NULL, &list, &err);
    tensor_list_free(&list);
    return 0;
}
