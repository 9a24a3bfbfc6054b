/* The input is the data.pkl of an otherwise good torch archive with one storage of 64 bytes. */
#include "fuzz_file.h"
#include "memory.h"
#include "torch_read.h"

#include <string.h>

static void add_entry(struct strbuf *zip, struct strbuf *directory, const char *name, const void *bytes,
                      size_t size)
{
    size_t n = strlen(name);
    unsigned char local[30] = {'P', 'K', 3, 4}, central[46] = {'P', 'K', 1, 2};
    put_le32(local + 18, (uint32_t)size);
    put_le32(local + 22, (uint32_t)size);
    put_le16(local + 26, (uint16_t)n);
    put_le32(central + 20, (uint32_t)size);
    put_le32(central + 24, (uint32_t)size);
    put_le16(central + 28, (uint16_t)n);
    put_le32(central + 42, (uint32_t)zip->length);
    strbuf_add(zip, local, sizeof local);
    strbuf_add(zip, name, n);
    strbuf_add(zip, bytes, size);
    strbuf_add(directory, central, sizeof central);
    strbuf_add(directory, name, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char storage[64];
    struct strbuf zip = {0}, directory = {0};
    unsigned char end[22] = {'P', 'K', 5, 6};
    add_entry(&zip, &directory, "a/data.pkl", bytes, size);
    add_entry(&zip, &directory, "a/data/0", storage, sizeof storage);
    put_le16(end + 8, 2);
    put_le16(end + 10, 2);
    put_le32(end + 12, (uint32_t)directory.length);
    put_le32(end + 16, (uint32_t)zip.length);
    strbuf_add(&zip, directory.data, directory.length);
    strbuf_add(&zip, end, sizeof end);

    struct tensor_list list;
    struct error err;
    torch_read(fuzz_file(zip.data, zip.length), size % 2 ? "a.0" : NULL, &list, &err);
    tensor_list_free(&list);
    strbuf_free(&zip);
    strbuf_free(&directory);
    return 0;
}
