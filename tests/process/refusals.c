/* SPDX-License-Identifier: MIT */
/* Proves that requests for more than there can be are refused with few system calls and leave nothing behind: neither
 * addresses nor anything that counts towards RLIMIT_DATA. With a number it makes that many more refusals between two
 * marks on stdout, for the system calls to be counted.
 */
#include <sys/resource.h>
#include "check.h"
#include "status.h"

enum { BLOCKS = 2000, BLOCK_SIZE = 100000, LOG2_LEAST = 30, LOG2_MOST = 46 };

static void refuse(size_t size)
{
    errno = 0;
    CHECK(malloc(hidden(size)) == NULL && errno == ENOMEM);
}

static void mark(const char *text)
{
    CHECK(write(1, text, strlen(text)) == (ssize_t)strlen(text));
}

int main(int count, char **arguments)
{
    struct rlimit limit = {512u << 20, 512u << 20};
    static void *blocks[BLOCKS];
    long data, addresses;

    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    block_free(block_new(&(uint64_t){1}));
    refuse((size_t)1 << LOG2_MOST); /* what was free and at hand has gone back by now */
    refuse((size_t)1 << LOG2_LEAST);
    data = status_number("VmData:");
    addresses = status_number("VmSize:");
    for (int log2 = LOG2_LEAST; log2 <= LOG2_MOST; log2++) {
        refuse((size_t)1 << log2);
        CHECK(status_number("VmData:") == data && status_number("VmSize:") == addresses);
    }
    if (count > 1) {
        mark("refusals begin\n");
        for (int i = atoi(arguments[1]); i > 0; i--)
            refuse((size_t)1 << (LOG2_LEAST + i % (LOG2_MOST - LOG2_LEAST)));
        mark("refusals end\n");
    }
    for (int i = 0; i < BLOCKS; i++) {
        CHECK((blocks[i] = malloc(BLOCK_SIZE)) != NULL);
        block_fill(blocks[i], BLOCK_SIZE);
    }
    for (int i = 0; i < BLOCKS; i++)
        block_free(blocks[i]);
    CHECK(write(1, "nothing left behind\n", 20) == 20);
    return 0;
}
