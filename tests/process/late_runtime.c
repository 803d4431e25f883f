/* SPDX-License-Identifier: MIT */
/* Proves that new throws in a plug-in written in C++ of a program in C: the C++ runtime is not there when
 * the library is bound, it comes with the plug-in. Argument: the plug-in.
 */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    void *plugin = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    int (*catches)(void) = plugin ? (int (*)(void))dlsym(plugin, "catches_bad_alloc") : NULL;

    if (catches == NULL || catches() != 1)
        return 1;
    puts("thrown and caught");
    return 0;
}
