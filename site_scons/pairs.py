# SPDX-License-Identifier: MIT
"""Generated configurations: every pair of front end and back end, and random ones.

There is no list of plug-ins: the two choices are found through the symbols FRONTEND and BACKEND, whose
defaults name a folder for each entry.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import kconfiglib

import configuration
import size_class

# Satisfying one dependency may break another; dependencies that take more rounds than this are contradictory.
ROUNDS = 4


@dataclass(frozen=True)
class Pair:
    """One front end with one back end."""

    name: str  # the folder below build/: FRONTEND-BACKEND
    config: "configuration.Configuration | None"  # None: Kconfig forbids the pair
    note: str = ""  # why it is forbidden, or what else had to be set for it


def entries(options: kconfiglib.Kconfig, symbol: str) -> "dict[str, kconfiglib.Symbol]":
    """{folder: entry} of the choice whose entries give the symbol its value."""
    named = []  # (folder, symbols of its condition)
    for value, condition in options.syms[symbol].defaults:
        items = [item for item in kconfiglib.expr_items(condition) if isinstance(item, kconfiglib.Symbol)]
        named.append((value.str_value, [item for item in items if item.choice]))
    common = set.intersection(*({item.choice for item in items} for _, items in named)) if named else set()
    if len(common) != 1:
        raise configuration.ConfigurationError([f"the defaults of config {symbol} do not depend on one choice"])
    choice = common.pop()
    found = {folder: item for folder, items in named for item in items if item.choice is choice}
    return {folder: item for item in choice.syms for folder, entry in found.items() if entry is item}


# ── What a user would set ───────────────────────────────────────────────────────────────────────────


class Wishes:
    """Sets what entries of choices depend on, as a user would."""

    def __init__(self, entries_wanted: "list[kconfiglib.Symbol]"):
        self.entries = entries_wanted
        self.done: "list[kconfiglib.Symbol]" = []  # what was set

    def fulfil(self) -> str:
        """Takes the entries, and sets what they depend on. Returns why that cannot be, or nothing."""
        for _ in range(ROUNDS):
            for entry in self.entries:
                self.set(entry, "y")
            if all(entry.str_value == "y" for entry in self.entries):
                return ""
        return "; ".join(
            f"{entry.name}: {configuration.reason(entry, 'y') or 'it contradicts the other options'}"
            for entry in self.entries
            if entry.str_value != "y"
        )

    def others(self) -> "list[kconfiglib.Symbol]":
        """The symbols that were set in addition to the entries."""
        return [symbol for symbol in dict.fromkeys(self.done) if symbol not in self.entries]

    def satisfy(self, expression) -> bool:
        """Sets what can be set until the expression holds, as far as that goes."""
        if kconfiglib.expr_value(expression):
            return True
        if not isinstance(expression, tuple):
            return self.set(expression, "y")
        operator, *parts = expression
        if operator is kconfiglib.AND:
            for part in parts:
                self.satisfy(part)
        elif operator is kconfiglib.OR:
            return any(self.satisfy(part) for part in parts)
        elif operator is kconfiglib.NOT and isinstance(parts[0], kconfiglib.Symbol):
            self.set(parts[0], "n")
        elif operator is kconfiglib.EQUAL and not isinstance(parts[1], tuple):
            self.set(parts[0], parts[1].str_value)
        return kconfiglib.expr_value(expression) > 0

    def set(self, symbol: kconfiglib.Symbol, value: str) -> bool:
        """Gives a symbol a value, and what it depends on. An entry of a choice is refused by taking another;
        but the choices of the entries that are wanted are made."""
        if not isinstance(symbol, kconfiglib.Symbol) or symbol.is_constant:
            return False
        if not any(node.prompt for node in symbol.nodes):
            return False
        if symbol.choice in [entry.choice for entry in self.entries] and (symbol not in self.entries or value == "n"):
            return False
        if symbol.choice and value == "n":
            return any(self.set(other, "y") for other in symbol.choice.syms if other is not symbol)
        if value != "n":
            self.satisfy(symbol.direct_dep)
        symbol.set_value(value)
        if symbol.str_value == value:
            self.done.append(symbol)
            return True
        return False


# ── All pairs ───────────────────────────────────────────────────────────────────────────────────────


def all_pairs(root: Path, base: "Path | None", shown: str, plugins: "Path | None" = None) -> "list[Pair]":
    """Every pair, with all else as the file has it, or at its default without one."""

    def fresh() -> kconfiglib.Kconfig:
        if base is None:
            return configuration.load_options(root, plugins)
        return configuration.load_strictly(root, base, shown, plugins)

    options = fresh()
    pairs = []
    for frontend in entries(options, "FRONTEND"):
        for backend in entries(options, "BACKEND"):
            options = fresh()
            wishes = Wishes([entries(options, "BACKEND")[backend], entries(options, "FRONTEND")[frontend]])
            reason = wishes.fulfil()
            config = None if reason else configuration.outcome(root, options, plugins)
            note = reason or ", ".join(f"{symbol.name}={symbol.str_value}" for symbol in wishes.others())
            pairs.append(Pair(f"{frontend}-{backend}", config, note))
    return pairs


# ── Random configurations ───────────────────────────────────────────────────────────────────────────


def random_value(symbol: kconfiglib.Symbol, chance: random.Random) -> "str | None":
    """Any value that the symbol may have. Numbers: each doubling above the least is as likely as the next."""
    if symbol.orig_type == kconfiglib.BOOL:
        return chance.choice("ny")
    if symbol.orig_type not in (kconfiglib.INT, kconfiglib.HEX):
        return None
    for low, high, condition in symbol.ranges:
        if kconfiglib.expr_value(condition):
            base = 16 if symbol.orig_type == kconfiglib.HEX else 10
            least, most = int(low.str_value, base), int(high.str_value, base)
            value = least + int((most - least + 1) ** chance.random()) - 1 + chance.randint(0, 1)
            value = min(value, most)
            return hex(value) if base == 16 else str(value)
    return None


def random_options(root: Path, seed: int, plugins: "Path | None" = None) -> kconfiglib.Kconfig:
    """Options of which all that can be set has a random value. Raises ConfigurationError when Kconfig
    forbids the pair that was drawn."""
    options = configuration.load_options(root, plugins)
    chance = random.Random(seed)
    wishes = Wishes([chance.choice(list(entries(options, symbol).values())) for symbol in ("BACKEND", "FRONTEND")])
    for choice in options.unique_choices:
        chance.choice(choice.syms).set_value("y")
    wishes.fulfil()
    for symbol in options.unique_defined_syms:
        if symbol.choice or symbol in wishes.done or not any(node.prompt for node in symbol.nodes):
            continue
        if (value := random_value(symbol, chance)) is not None:
            symbol.set_value(value)
    random_table(options, chance)
    # A plain option may be what the pair depends on, or what it excludes.
    if reason := wishes.fulfil():
        raise configuration.ConfigurationError([f"seed {seed}: {reason}"])
    return options


def random_table(options: kconfiglib.Kconfig, chance: random.Random) -> None:
    """Gives some configurations a table of size classes of their own."""
    table = options.syms.get("CLASS_TABLE")
    if table is None or chance.random() < 0.7:
        return
    smallest, log2 = (int(options.syms[name].str_value) for name in ("MIN_BLOCK", "SMALL_MAX_LOG2"))
    sizes = {smallest, *(1 << n for n in range(4, log2 + 1))}
    for _ in range(chance.randrange(size_class.CLASSES_MOST - len(sizes))):
        least = 1 << chance.randrange(4, log2)
        sizes.add(least + 16 * chance.randrange(least // 16))
    table.set_value(",".join(map(str, sorted(sizes))))


def random_configuration(root: Path, seed: int, plugins: "Path | None" = None) -> configuration.Configuration:
    return configuration.outcome(root, random_options(root, seed, plugins), plugins)


def random_text(root: Path, seed: str, plugins: "Path | None" = None) -> str:
    """A .config that says its seed; any one without a seed."""
    if seed and not seed.isdigit():
        raise configuration.ConfigurationError([f"SEED={seed}: this is a number"])
    number = int(seed) if seed else random.SystemRandom().randrange(10**6)
    return f"# Random: SEED={number}\n{random_configuration(root, number, plugins).text}"
