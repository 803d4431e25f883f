/* SPDX-License-Identifier: MIT */
/* The last words of a process: one line, built on the stack, written with write(2). */
#include <stdlib.h>

#include "core/assert.h"
#include "core/identity.h"
#include "core/lock.h"
#include "core/os.h"
#include "core/trace.h"

struct line {
    char text[512];
    size_t length;
};

static void add(struct line *line, const char *text)
{
    /* one byte is kept for the newline */
    while (*text && line->length < sizeof(line->text) - 1)
        line->text[line->length++] = *text++;
}

static void add_number(struct line *line, uintptr_t number, unsigned base)
{
    char digits[24];
    size_t at = sizeof(digits) - 1;

    digits[at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    add(line, &digits[at]);
}

_Noreturn static void finish(struct line *line)
{
    add(line, " (");
    add(line, hak_identity);
    add(line, ")");
    line->text[line->length++] = '\n';
    os_write_error(line->text, line->length);
    hak_trace_print();
    hak_lock_dying();
    abort();
}

void hak_fatal_pointer(const char *call, const void *pointer, const char *what)
{
    struct line line;

    line.length = 0;
    add(&line, "hakmem: ");
    add(&line, call);
    add(&line, ": invalid pointer 0x");
    add_number(&line, (uintptr_t)pointer, 16);
    add(&line, ": ");
    add(&line, what);
    finish(&line);
}

void hak_fatal_check(const char *condition, const char *file, int line_number)
{
    struct line line;

    line.length = 0;
    add(&line, "hakmem: internal error: ");
    add(&line, condition);
    add(&line, " does not hold at ");
    add(&line, file);
    add(&line, ":");
    add_number(&line, (uintptr_t)line_number, 10);
    finish(&line);
}
