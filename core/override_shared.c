/* SPDX-License-Identifier: MIT */
/* Finds a C++ runtime that is loaded late, with a plug-in. Only the shared library can do that. */
#define _GNU_SOURCE
#include <stddef.h>

#include <dlfcn.h>

void *hak_late_symbol(const char *name);
void *hak_late_symbol(const char *name)
{
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1"};
    void *symbol = NULL;

    for (int i = 0; i < 2 && symbol == NULL; i++) {
        void *runtime = dlopen(runtimes[i], RTLD_NOLOAD | RTLD_LAZY);
        if (runtime) {
            symbol = dlsym(runtime, name);
            dlclose(runtime); /* it stays loaded: the caller of new uses it */
        }
    }
    return symbol;
}
