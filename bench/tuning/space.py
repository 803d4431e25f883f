# SPDX-License-Identifier: MIT
"""The compositions that a search may try, read from the Kconfig tree itself, plug-ins and all.

Every symbol and choice with a prompt takes part, with its type, its range and what it depends on, but for those under
which a line of their Kconfig file says why not:

    config DEEPBIND
            # Not tuned: what a program may do depends on it

What such a line stands for keeps the value of the base configuration. A point of the space is {name: value}; names that a
point has and a composition does not are left alone, as a value may count again with another plug-in."""

import re
from dataclasses import dataclass
from pathlib import Path

import kconfiglib

import configuration
import size_class

NOT_TUNED = re.compile(r"\s*# Not tuned: \S.*")
TABLE = "CLASS_TABLE"  # its values come from a recording


@dataclass(frozen=True)
class Dimension:
    name: str  # of a symbol, or for a choice that of its entries, with a stroke between them
    values: "tuple[str, ...]" = ()  # that it may have; of a number: none
    low: int = 0
    high: int = 0
    hexadecimal: bool = False  # a set of bits: low to high are how many, from the lowest


def is_marked(root: Path, node: kconfiglib.MenuNode) -> bool:
    """Whether a line under the node's first says that it is not tuned."""
    lines = (root / node.filename).read_text(encoding="utf-8").splitlines()
    for line in lines[node.linenr:]:
        if not line.strip().startswith("#"):
            return False
        if NOT_TUNED.fullmatch(line):
            return True
    return False


def _nodes(node):
    while node:
        yield node
        if node.list:
            yield from _nodes(node.list)
        node = node.next


def _number(symbol: kconfiglib.Symbol) -> "Dimension | None":
    """Of a number: all that any of its ranges allows."""
    base = 16 if symbol.orig_type == kconfiglib.HEX else 10
    bounds = [(int(low.str_value, base), int(high.str_value, base)) for low, high, _ in symbol.ranges]
    if not bounds:
        return None
    low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
    if base == 16:
        return Dimension(symbol.name, low=low.bit_length(), high=high.bit_length(), hexadecimal=True)
    return Dimension(symbol.name, low=low, high=high)


def dimensions(root: Path, options: kconfiglib.Kconfig, tables: "tuple[str, ...]" = ()) -> "list[Dimension]":
    """All that may be varied, what others depend on first where the Kconfig files have it first."""
    found, seen = [], set()
    for node in _nodes(options.top_node):
        item = node.item
        if not isinstance(item, (kconfiglib.Symbol, kconfiglib.Choice)) or not node.prompt or item in seen:
            continue
        seen.add(item)
        if is_marked(root, node):
            if isinstance(item, kconfiglib.Choice):
                seen.update(item.syms)
            continue
        if isinstance(item, kconfiglib.Choice):
            seen.update(item.syms)
            entries = tuple(symbol.name for symbol in item.syms)
            found.append(Dimension("|".join(entries), entries))
        elif item.name == TABLE:
            if tables:
                found.append(Dimension(TABLE, ("", *tables)))
        elif item.orig_type == kconfiglib.BOOL:
            found.append(Dimension(item.name, ("n", "y")))
        elif item.orig_type in (kconfiglib.INT, kconfiglib.HEX):
            found += [one for one in [_number(item)] if one]
    return found


def text_of(value: int, one: Dimension) -> str:
    return hex((1 << value) - 1) if one.hexadecimal else str(value)


def point_of(options: kconfiglib.Kconfig, space: "list[Dimension]") -> "dict[str, str | int]":
    """Where a configuration lies in the space."""
    point = {}
    for one in space:
        if "|" in one.name:
            chosen = [name for name in one.values if options.syms[name].str_value == "y"]
            point.update({one.name: chosen[0]} if chosen else {})
            continue
        value = options.syms[one.name].str_value
        if one.values:
            point.update({one.name: value} if value in one.values else {})
        elif value:
            number = int(value, 16).bit_length() if one.hexadecimal else int(value)
            point[one.name] = min(max(number, one.low), one.high)
    return point


class Composer:
    """Makes configurations of points, over a base whose other values stay."""

    def __init__(self, root: Path, base: Path, plugins: "Path | None" = None, tables: "tuple[str, ...]" = ()) -> None:
        self.root, self.base, self.plugins = root, base, plugins
        self._made: "dict[frozenset, configuration.Configuration]" = {}
        self.space = dimensions(root, configuration.load_options(root, plugins), tables)

    def _options(self, file: Path) -> kconfiglib.Kconfig:
        return configuration.load_strictly(self.root, file, file.name, self.plugins)

    def point(self, file: Path) -> "dict[str, str | int]":
        """Where the configuration of a file lies."""
        return point_of(self._options(file), self.space)

    def options(self, point: "dict[str, str | int]") -> kconfiglib.Kconfig:
        """What comes out where all of a point is asked for that the composition has."""
        options = self._options(self.base)
        for _ in range(2):  # what is asked for first may depend on what comes later
            for one in self.space:
                value = point.get(one.name)
                if value is None:
                    continue
                if "|" in one.name:
                    options.syms[value].set_value("y")
                else:
                    options.syms[one.name].set_value(value if one.values else text_of(value, one))
            if table := options.syms[TABLE].str_value if TABLE in options.syms else "":
                # Where a table ends is said twice.
                options.syms["SMALL_MAX_LOG2"].set_value(str(size_class.listed(table)[-1].bit_length() - 1))
        return options

    def digest(self, point: "dict[str, str | int]") -> str:
        return self.configuration(point).digest

    def configuration(self, point: "dict[str, str | int]") -> configuration.Configuration:
        key = frozenset(point.items())
        if key not in self._made:
            self._made[key] = configuration.outcome(self.root, self.options(point), self.plugins)
        return self._made[key]

    def minimal(self, point: "dict[str, str | int]") -> str:
        """The lines of a defconfig."""
        return configuration.text_of(self.options(point).write_min_config)
