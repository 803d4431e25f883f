/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include "core/vdso.h"

static const void *kernels_image(void)
{
    const void *image = (const void *)getauxval(AT_SYSINFO_EHDR);

    if (image == NULL)
        cr_skip_test("the kernel maps no vDSO here");
    return image;
}

#if defined(__x86_64__)
static const char CLOCK[] = "__vdso_clock_gettime";
#else
static const char CLOCK[] = "__kernel_clock_gettime";
#endif

Test(vdso, the_function_that_is_found_is_the_one)
{
    const void *image = kernels_image();
    int (*clock)(clockid_t, struct timespec *) =
        (int (*)(clockid_t, struct timespec *))vdso_function(image, CLOCK);
    struct timespec before, got, after;

    if (clock == NULL)
        cr_skip_test("this kernel's vDSO has no %s", CLOCK);
    cr_assert_eq(clock_gettime(CLOCK_MONOTONIC, &before), 0);
    cr_assert_eq(clock(CLOCK_MONOTONIC, &got), 0);
    cr_assert_eq(clock_gettime(CLOCK_MONOTONIC, &after), 0);
    cr_assert(got.tv_sec >= before.tv_sec && got.tv_sec <= after.tv_sec);
}

Test(vdso, a_name_is_the_whole_name)
{
    const void *image = kernels_image();
    char longer[64];
    char shorter[64];

    strcpy(longer, CLOCK);
    strcat(longer, "x");
    strcpy(shorter, CLOCK);
    shorter[strlen(shorter) - 1] = '\0';
    cr_assert_null(vdso_function(image, longer));
    cr_assert_null(vdso_function(image, shorter));
    cr_assert_null(vdso_function(image, ""));
}
