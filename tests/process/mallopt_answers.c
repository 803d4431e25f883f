/* SPDX-License-Identifier: MIT */
/* What mallopt answers, for each parameter that glibc knows. */
#include <limits.h>
#include <malloc.h>
#include "check.h"

int main(void)
{
    static const int parameter[] = {M_MXFAST,         M_TRIM_THRESHOLD, M_TOP_PAD,
                                    M_MMAP_THRESHOLD, M_MMAP_MAX,       M_CHECK_ACTION,
                                    M_PERTURB,        M_ARENA_TEST,     M_ARENA_MAX};
    static const int value[] = {INT_MIN, -1, 0, 1, 64, 160, 161, 1 << 20, 32 << 20, INT_MAX};

    for (size_t i = 0; i < sizeof parameter / sizeof *parameter; i++) {
        printf("%d:", parameter[i]);
        for (size_t j = 0; j < sizeof value / sizeof *value; j++)
            printf(" %d=%d", value[j], mallopt(parameter[i], value[j]));
        printf("\n");
    }
    return 0;
}
