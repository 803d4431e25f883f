/* SPDX-License-Identifier: MIT */
/* The randomised exercise as a plain program, for builds with a sanitizer: eight threads at a time
 * that hand blocks to each other, end, and are replaced.
 *
 * usage: stress [steps of one life, 2000 by default]
 *
 * Compiled with BROKEN_TWIN it makes one mistake of each kind that a sanitizer is there to find, so
 * that a silent run of the sound program means something. */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/contract/exercise.h"
#include "tests/contract/support.h"

#ifdef BROKEN_TWIN
/* Two threads write the same byte of a block of this allocator with no order between them. */
static void *write_first_byte(void *block)
{
    *(volatile char *)block = 1;
    return NULL;
}

static void make_mistakes(int number)
{
    pthread_t threads[2];
    int numbers[4] = {1, 2, 3, INT_MAX};
    char *block = hak_malloc(64);

    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, write_first_byte, block);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    hak_free(block);
    printf("overflow: %d\n", numbers[3] + number);
    printf("beyond the end: %d\n", *(volatile int *)&numbers[number + 4]);
}
#else
static void make_mistakes(int number)
{
    (void)number;
}
#endif

int main(int count, char **arguments)
{
    unsigned long steps = count > 1 ? strtoul(arguments[1], NULL, 0) : 2000;

    make_mistakes(count > 0);
    exercise_run(&(struct exercise){.seed = seed_of_run(),
                                    .threads = 8,
                                    .lives = 8,
                                    .steps = steps,
                                    .size_most = (size_t)1 << 20});
    puts("stress: done");
    return 0;
}
