/* SPDX-License-Identifier: MIT */
/* The shared object that the kernel maps into every process (vDSO, vdso(7)), read without the dynamic linker, which
 * may allocate and whose answers can be interposed. */
#ifndef HAK_VDSO_H
#define HAK_VDSO_H

#include "core/types.h"

/* The function of this name in the image that AT_SYSINFO_EHDR tells of, or of any shared object that is mapped as
 * its file lies. NULL: it has none, or is not what is understood here. */
void *vdso_function(const void *image, const char *name);

#endif
