/* SPDX-License-Identifier: MIT */
/* The variables of the environment that the library knows (environment.c). */
#ifndef HAK_ENVIRONMENT_H
#define HAK_ENVIRONMENT_H

/* Reads them; once, when the library is loaded. */
void hak_environment_read(void);

#endif
