/* SPDX-License-Identifier: MIT */
/* Stands between tests and an emulator, whose own words the tests cannot know. The linker puts these functions in
 * place of those they are named after (--wrap). */
#include <stdlib.h>
#include <unistd.h>

_Noreturn void __wrap_abort(void);
_Noreturn void __real_abort(void);

/* The emulator reports each signal that ends a process on the process's own stderr, where tests look for
 * the message that was the last. */
void __wrap_abort(void)
{
    close(STDERR_FILENO);
    __real_abort();
}
