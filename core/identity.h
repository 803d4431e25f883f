/* SPDX-License-Identifier: MIT */
/* The text of hak_config(), for messages. */
#ifndef HAK_IDENTITY_H
#define HAK_IDENTITY_H

extern const char hak_identity[];

#endif
