/* SPDX-License-Identifier: MIT */
/* The message with which the library ends a process: one line, built on the stack, written with write(2). */
#include <stdlib.h>

#include "core/assert.h"
#include "core/identity.h"
#include "core/lock.h"
#include "core/text.h"
#include "core/trace.h"

struct fatal_line {
    char text[512];
    size_t length;
};

static void fatal_add(struct fatal_line *line, const char *text)
{
    /* one byte is reserved for the newline */
    while (*text && line->length < sizeof(line->text) - 1)
        line->text[line->length++] = *text++;
}

static void fatal_add_number(struct fatal_line *line, uintptr_t number, unsigned base)
{
    char digits[24];
    size_t at = sizeof(digits) - 1;

    digits[at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    fatal_add(line, &digits[at]);
}

_Noreturn static void fatal_finish(struct fatal_line *line)
{
    fatal_add(line, " (");
    fatal_add(line, hak_identity);
    fatal_add(line, ")");
    line->text[line->length++] = '\n';
    hak_write_error(line->text, line->length);
    hak_trace_print();
    hak_lock_dying();
    abort();
}

void hak_fatal_pointer(const char *call, const void *pointer, const char *what)
{
    struct fatal_line line;

    line.length = 0;
    fatal_add(&line, "hakmem: ");
    fatal_add(&line, call);
    fatal_add(&line, ": invalid pointer 0x");
    fatal_add_number(&line, (uintptr_t)pointer, 16);
    fatal_add(&line, ": ");
    fatal_add(&line, what);
    fatal_finish(&line);
}

void hak_fatal_check(const char *condition, const char *file, int line_number)
{
    struct fatal_line line;

    line.length = 0;
    fatal_add(&line, "hakmem: internal error: ");
    fatal_add(&line, condition);
    fatal_add(&line, " does not hold at ");
    fatal_add(&line, file);
    fatal_add(&line, ":");
    fatal_add_number(&line, (uintptr_t)line_number, 10);
    fatal_finish(&line);
}
