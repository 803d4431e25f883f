# SPDX-License-Identifier: MIT
"""The table of size classes: gen/size_class.h from a list of sizes, and the list that a configuration asks for.

usage: size_class.py SIZE...      prints the header for a list of one's own, or what is wrong with it
"""

import re
import sys

# One less than core/size_class.h has places for, so that the list of sizes ends with a 0.
CLASSES_MOST = 95
# A class's place in the map is its index times this (core/size_class.h).
SCALE = 16
# The range of CONFIG_SMALL_MAX_LOG2.
SMALL_MAX_LOG2 = (10, 17)
# Above so many bytes CONFIG_CLASS_FINER has twice as many classes: there a step is many bytes, and a slab few blocks.
FINE_ABOVE = 512


class SizeClassError(Exception):
    """What is wrong with a list of sizes: one line for each problem."""


def spaced(steps: int, finer: bool, smallest: int, largest: int) -> "list[int]":
    """`steps` classes to a doubling, evenly spaced but no closer than 16 bytes."""
    sizes = [8] if smallest < 16 else []
    size = 16
    while size <= largest:
        sizes.append(size)
        doubling = 1 << (size.bit_length() - 1)  # the power of two that this size is at or above
        size += max(16, doubling // (2 * steps if finer and size >= FINE_ABOVE else steps))
    return sizes


def problems(sizes: "list[int]") -> "list[str]":
    """What keeps a list from being a table of size classes."""
    if not sizes or min(sizes) <= 0:
        return ["sizes are positive numbers of bytes"]
    found = []
    if sizes[0] not in (8, 16):
        found.append(f"{sizes[0]}: the smallest class has 8 or 16 bytes")
    for before, size in zip(sizes, sizes[1:]):
        if size <= before:
            found.append(f"{size} comes after {before}: sizes rise")
        elif size > 2 * before:
            found.append(f"{size} comes after {before}: more than half of a block of {before + 1} bytes would be wasted")
    # So every class is reached through the map, whose units are the smallest block.
    found += [f"{size} is no multiple of 16: blocks are aligned to 16 bytes" for size in sizes[1:] if size % 16]
    power = sizes[0]
    while power <= sizes[-1]:
        if power not in sizes:
            found.append(f"{power} is missing: powers of two are what aligned requests are served from")
        power *= 2
    if sizes[-1] & (sizes[-1] - 1):
        found.append(f"{sizes[-1]}: the largest class is a power of two")
    if len(sizes) > CLASSES_MOST:
        found.append(f"{len(sizes)} classes: {CLASSES_MOST} is the most")
    return found


def header_text(sizes: "list[int]") -> str:
    """The text of gen/size_class.h."""
    if wrong := problems(sizes):
        raise SizeClassError("\n".join(f"size classes: {problem}" for problem in wrong))
    unit = sizes[0]
    table, ranges = [], []
    for index, (before, size) in enumerate(zip([-1, *sizes], sizes)):
        least = before + 1
        waste = f"; {size - least} wasted at most, {100 * (size - least) // size} %" if index else ""
        table.append(f"    {size:6}, /* {index:2}: blocks for {least} to {size} bytes{waste} */ \\\n")
        first, last = -(-least // unit), size // unit
        places = f"[{first} ... {last}]" if first < last else f"[{last}]"
        ranges.append(f"    {places} = {index * SCALE}, \\\n")
    return (
        "/* Generated from the configuration. core/size_class.h says what these are. */\n"
        f"#define HAK_CLASSES    {len(sizes)}u\n"
        f"#define HAK_SMALL_MAX  ((size_t){sizes[-1]}) /* bytes of the largest class */\n"
        f"#define HAK_CLASS_UNIT ((size_t){unit}) /* bytes of the smallest; sizes are rounded up to its multiples */\n"
        "\n/* Bytes, by index. */\n"
        f"#define HAK_CLASS_SIZES \\\n{''.join(table)}"
        "\n/* Index times HAK_CLASS_SCALE, by size in units. */\n"
        f"#define HAK_CLASS_MAP \\\n{''.join(ranges)}\n"
    )


def listed(table: str) -> "list[int]":
    """The sizes of a text such as "16, 32, 48". Raises SizeClassError."""
    words = [word.strip() for word in table.split(",")]
    wrong = [word for word in words if not re.fullmatch(r"[1-9][0-9]{0,8}", word)]
    if wrong:
        raise SizeClassError(f"'{wrong[0]}' is no size: write numbers of bytes with commas between them, as in 16,32,48,64")
    return [int(word) for word in words]


def table_problems(table: str, smallest: int, log2: int) -> "list[str]":
    """What is wrong with the text of CONFIG_CLASS_TABLE, beside CONFIG_MIN_BLOCK and CONFIG_SMALL_MAX_LOG2."""
    try:
        sizes = listed(table)
    except SizeClassError as error:
        return [str(error)]
    found = problems(sizes)
    if not found and sizes[0] != smallest:
        found.append(f"{sizes[0]} is the smallest class: that needs CONFIG_MIN_BLOCK_{sizes[0]}=y")
    if not found and sizes[-1] != 1 << log2:
        least, most = SMALL_MAX_LOG2
        needed = sizes[-1].bit_length() - 1
        found.append(
            f"{sizes[-1]} is the largest class: that needs CONFIG_SMALL_MAX_LOG2={needed}"
            if least <= needed <= most
            else f"{sizes[-1]} is the largest class: it must be {1 << least} to {1 << most}"
        )
    return found


def configured(autoconf: str) -> "list[int]":
    """The sizes that a configuration, as the text of its gen/autoconf.h, asks for."""
    macros = dict(re.findall(r"#define CONFIG_(\w+) (.+)", autoconf))
    if table := macros.get("CLASS_TABLE", '""').strip('"'):
        return listed(table)
    return spaced(
        int(macros["CLASS_STEPS"]),
        "CLASS_FINER" in macros,
        int(macros["MIN_BLOCK"]),
        1 << int(macros["SMALL_MAX_LOG2"]),
    )


def main(arguments: "list[str]") -> int:
    if not arguments or not all(re.fullmatch(r"[0-9]+", word) for word in arguments):
        print("usage: size_class.py SIZE...", file=sys.stderr)
        return 2
    try:
        print(header_text([int(word) for word in arguments]), end="")
    except SizeClassError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
