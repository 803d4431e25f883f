/* SPDX-License-Identifier: MIT */
/* Text that is put together without allocating, and goes out a piece at a time. Nothing here touches errno. */
#ifndef HAK_TEXT_H
#define HAK_TEXT_H

#include "core/types.h"

/* Writes to a file descriptor as much as it takes. */
void hak_write(int file, const char *text, size_t length);

/* Writes to stderr, as one write(2) where the kernel takes it whole. */
void hak_write_error(const char *text, size_t length);

/* Likewise, to the file descriptor that `file`, an int *, points to: a `write` of struct hak_text. */
void hak_write_to_file(const char *text, size_t length, void *file);

struct hak_text {
    void (*write)(const char *text, size_t length, void *context);
    void *context;
    size_t length;
    char buffer[512];
};

static inline void hak_text_end(struct hak_text *text)
{
    if (text->length > 0)
        text->write(text->buffer, text->length, text->context);
    text->length = 0;
}

static inline void hak_text_add(struct hak_text *text, const char *words)
{
    for (; *words; words++) {
        if (text->length == sizeof(text->buffer))
            hak_text_end(text);
        text->buffer[text->length++] = *words;
    }
}

/* A decimal number, at the right of at least `width` columns. */
static inline void hak_text_number(struct hak_text *text, uint64_t number, int width)
{
    char digits[32];
    size_t at = sizeof(digits) - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + number % 10);
        width--;
    } while ((number /= 10) > 0);
    while (width-- > 0 && at > 0)
        digits[--at] = ' ';
    hak_text_add(text, &digits[at]);
}

/* A hexadecimal number, with 0x before it. */
static inline void hak_text_hex(struct hak_text *text, uint64_t number)
{
    char digits[32];
    size_t at = sizeof(digits) - 1;

    digits[at] = '\0';
    do
        digits[--at] = "0123456789abcdef"[number % 16];
    while ((number /= 16) > 0);
    hak_text_add(text, "0x");
    hak_text_add(text, &digits[at]);
}

#endif
