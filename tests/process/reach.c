/* SPDX-License-Identifier: MIT */
/* Proves that under `ulimit -v` malloc reaches at least 60 % of the limit in blocks of one size
 * before it returns NULL with ENOMEM, that it then still works: all blocks are freed, as much is
 * reached again, and as much in blocks of another size. Arguments: the two sizes.
 */
#include <sys/resource.h>
#include "check.h"

struct link {
    struct link *next;
};

/* The blocks hold the list of themselves: nothing else grows. */
static struct link *fill(size_t size, size_t *total)
{
    struct link *list = NULL, *block;

    *total = 0;
    errno = 0;
    while ((block = malloc(size))) {
        block->next = list;
        list = block;
        *total += size;
    }
    CHECK(errno == ENOMEM);
    return list;
}

static void free_all(struct link *list)
{
    while (list) {
        struct link *next = list->next;

        free(list);
        list = next;
    }
}

int main(int count, char **argument)
{
    size_t size, other, first, again, total;
    struct rlimit limit;
    struct link *list;
    int bad;

    CHECK(count == 3);
    size = strtoul(argument[1], NULL, 10);
    other = strtoul(argument[2], NULL, 10);
    CHECK(!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY);

    list = fill(size, &first);
    /* With memory exhausted, what is there must still be whole. */
    CHECK(!malloc(64 << 20) && errno == ENOMEM);
    free_all(list);
    list = fill(size, &again);
    free_all(list);
    list = fill(other, &total);
    free_all(list);
    bad = first < limit.rlim_cur / 10 * 6 || again < first / 10 * 9 ||
          total < limit.rlim_cur / 10 * 6;
    fprintf(bad ? stderr : stdout,
            "blocks of %zu reach %zu %% of the limit, then %zu %%; blocks of %zu reach %zu %%\n",
            size, first / (limit.rlim_cur / 100), again / (limit.rlim_cur / 100), other,
            total / (limit.rlim_cur / 100));
    return bad;
}
