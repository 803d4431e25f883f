/* SPDX-License-Identifier: MIT */
/* The variables of the environment that the library knows (environment.c). */
#ifndef HAK_ENVIRONMENT_H
#define HAK_ENVIRONMENT_H

/* Reads them. Once, when the library is loaded, from a file that every program has: of an archive the linker takes
 * only what is asked for. */
void hak_environment_read(void);

#endif
