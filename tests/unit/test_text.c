/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <string.h>

#include "core/text.h"

static struct {
    char text[4096];
    size_t length;
    unsigned pieces;
} written;

static void take(const char *text, size_t length, void *context)
{
    cr_assert_eq(context, &written);
    cr_assert(written.length + length < sizeof(written.text));
    memcpy(written.text + written.length, text, length);
    written.length += length;
    written.text[written.length] = '\0';
    written.pieces++;
}

static struct hak_text text_new(void)
{
    written.length = written.pieces = 0;
    written.text[0] = '\0';
    return (struct hak_text){.write = take, .context = &written};
}

Test(text, words_go_out_at_the_end_in_one_piece)
{
    struct hak_text text = text_new();

    hak_text_add(&text, "one ");
    hak_text_add(&text, "two");
    cr_assert_eq(written.pieces, 0);
    hak_text_end(&text);
    cr_assert_str_eq(written.text, "one two");
    hak_text_end(&text);
    cr_assert_eq(written.pieces, 1, "nothing is no piece");
}

Test(text, what_is_longer_goes_out_in_pieces)
{
    struct hak_text text = text_new();

    for (int i = 0; i < 1000; i++)
        hak_text_add(&text, "ab");
    hak_text_end(&text);
    cr_assert_eq(written.length, 2000);
    cr_assert_eq(written.pieces, 2000 / sizeof(text.buffer) + 1);
    for (size_t i = 0; i < 2000; i++)
        cr_assert_eq(written.text[i], "ab"[i % 2]);
}

static const char *number(uint64_t value, int width)
{
    struct hak_text text = text_new();

    hak_text_number(&text, value, width);
    hak_text_end(&text);
    return written.text;
}

Test(text, numbers)
{
    cr_assert_str_eq(number(0, 0), "0");
    cr_assert_str_eq(number(10, 0), "10");
    cr_assert_str_eq(number(UINT64_MAX, 0), "18446744073709551615");
    cr_assert_str_eq(number(42, 5), "   42");
    cr_assert_str_eq(number(42, 2), "42");
    cr_assert_str_eq(number(12345, 3), "12345");
}

Test(text, hexadecimal_numbers)
{
    struct hak_text text = text_new();

    hak_text_hex(&text, 0);
    hak_text_hex(&text, 0xdeadbeef0);
    hak_text_end(&text);
    cr_assert_str_eq(written.text, "0x00xdeadbeef0");
}
