/* SPDX-License-Identifier: MIT */
/* What runs when the library is loaded. */
#ifndef HAK_START_H
#define HAK_START_H

/* The first constructor of the program or library that we are part of. Nothing waits for it: a malloc that comes before
 * finds the empty heap, and does itself what it needs. */
void hak_start(void);

#endif
