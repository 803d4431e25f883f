# SPDX-License-Identifier: MIT
"""Loads a configuration strictly: what was asked for is what comes out, or there is an error.

Kconfig demotes silently. An unknown symbol, a value out of range, a second =y in one choice and an
option whose dependency is not met vanish without a word. Here every line of the file is compared
with the outcome, and all that differ are reported together, each with its reason. pairs.py makes
configurations of its own on top of this.

usage: configuration.py check FILE | plugins

PLUGINS in the environment names a folder outside of the tree with more policies/ and backends/.
"""

import difflib
import hashlib
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import kconfiglib

LINE_SET = re.compile(r"CONFIG_(\w+)=(.*)")
LINE_UNSET = re.compile(r"# CONFIG_(\w+) is not set")
# What was meant as a line of the second form but would be taken for a comment.
LINE_ALMOST = re.compile(r"\s*#\s*CONFIG_\w+\s+is\s+not\s+set", re.IGNORECASE)

SYNTAX = {
    kconfiglib.BOOL: (re.compile(r"[yn]"), "y or n"),
    # No leading zero: C would read the number as octal.
    kconfiglib.INT: (re.compile(r"0|-?[1-9][0-9]*"), "a whole number without leading zeros"),
    kconfiglib.HEX: (re.compile(r"0[xX][0-9a-fA-F]+"), "a hexadecimal number that starts with 0x"),
    kconfiglib.STRING: (re.compile(r'"(?:[^\\"]|\\.)*"'), 'text in double quotes, with \\" and \\\\ inside'),
}


# The folders of plug-ins, and the symbol that names the chosen one in each.
PARENTS = {"policies": "FRONTEND", "backends": "BACKEND"}


class ConfigurationError(Exception):
    """What is wrong with a configuration: one line for each problem."""

    def __init__(self, problems: "list[str]"):
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class Asked:
    """A line of the file: the value that it wants a symbol to have."""

    line: int
    name: str
    value: str
    unset: bool = False

    def __str__(self) -> str:
        return f"CONFIG_{self.name}={self.value}"


@dataclass(frozen=True)
class Configuration:
    """What the build needs to know of a configuration."""

    frontend: str  # folder below policies/
    backend: str  # folder below backends/
    places: "dict[str, Path]"  # where these two folders lie: "policies/NAME" → folder
    enabled: "frozenset[str]"  # the names of the options that are y
    autoconf: str  # text of gen/autoconf.h
    text: str  # text of gen/config: the whole as a .config
    digest: str  # names the configuration: equal options, equal digest


def plugin_root(root: Path, plugins: str) -> "Path | None":
    """The folder that PLUGINS names, if any."""
    if not plugins:
        return None
    folder = (root / plugins).resolve()
    if not folder.is_dir():
        raise ConfigurationError([f"PLUGINS={plugins}: there is no such folder"])
    if not any((folder / parent).is_dir() for parent in PARENTS):
        raise ConfigurationError([f"PLUGINS={plugins}: it has neither policies/ nor backends/, where plug-ins lie"])
    twice = [
        f"PLUGINS={plugins}: {path.relative_to(folder)} has the name of a plug-in of this tree: rename one of the two"
        for parent in PARENTS
        for path in sorted((folder / parent).glob("*/"))
        if folder != root and (root / path.relative_to(folder)).is_dir()
    ]
    if twice:
        raise ConfigurationError(twice)
    return folder if folder != root else None


def load_options(root: Path, plugins: "Path | None" = None, kind=kconfiglib.Kconfig) -> kconfiglib.Kconfig:
    """Reads the Kconfig files. A warning of kconfiglib is a mistake in one of them, so it is an error."""
    wanted = {"srctree": str(root), "PLUGINS": str(plugins or "")}  # where kconfiglib and Kconfig look for files
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        options = kind("Kconfig", warn_to_stderr=False)
    except (kconfiglib.KconfigError, OSError) as error:
        raise ConfigurationError([str(error).strip()]) from None
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    if options.warnings:
        raise ConfigurationError(options.warnings)
    return options


def load(root: Path, file: Path, shown: str, plugins: "Path | None" = None) -> Configuration:
    """The configuration that a .config or defconfig asks for; `shown` names the file in errors."""
    return outcome(root, load_strictly(root, file, shown, plugins), plugins)


def load_strictly(root: Path, file: Path, shown: str, plugins: "Path | None" = None) -> kconfiglib.Kconfig:
    """The options with the values that the file asks for."""
    options = load_options(root, plugins)
    asked = read(file, shown)

    problems = check_lines(options, asked, shown, read_renamed(root))
    if not problems:
        options.load_config(str(file))
        problems = check_outcome(options, asked, shown) or [f"{shown}: {w}" for w in options.warnings]
    if problems:
        raise ConfigurationError(problems)
    return options


def outcome(root: Path, options: kconfiglib.Kconfig, plugins: "Path | None" = None) -> Configuration:
    """What the options' values mean for the build."""
    autoconf = text_of(options.write_autoconf, "/* Generated from the configuration. */\n")
    chosen = {symbol: plugin(root, plugins, options, symbol, parent) for parent, symbol in PARENTS.items()}
    return Configuration(
        frontend=chosen["FRONTEND"].name,
        backend=chosen["BACKEND"].name,
        places={f"{folder.parent.name}/{folder.name}": folder for folder in chosen.values()},
        enabled=frozenset(symbol.name for symbol in options.unique_defined_syms if symbol.str_value == "y"),
        autoconf=autoconf,
        text=text_of(options.write_config, "# Generated.\n"),
        digest=hashlib.sha256(autoconf.encode()).hexdigest()[:12],
    )


def read_text(file: Path, shown: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError([f"{shown}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{shown}: is not UTF-8 text ({error.reason})"]) from None


def read(file: Path, shown: str) -> "list[Asked]":
    """The lines of the file that ask for something. A line that is neither that nor a comment is an error."""
    asked, problems = parse(read_text(file, shown), shown)
    if problems:
        raise ConfigurationError(problems)
    return asked


def parse(text: str, shown: str) -> "tuple[list[Asked], list[str]]":
    """The lines of a text that ask for something, and what is wrong with the others."""
    asked, problems = [], []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip()
        if match := LINE_SET.fullmatch(line):
            asked.append(Asked(number, match[1], match[2]))
        elif match := LINE_UNSET.fullmatch(line):
            asked.append(Asked(number, match[1], "n", unset=True))
        elif line and (not line.startswith("#") or LINE_ALMOST.match(line)):
            problems.append(
                f"{shown}:{number}: malformed line '{line}': "
                "write CONFIG_X=value, '# CONFIG_X is not set', or a comment that starts with #"
            )
    return asked, problems


# ── Options of yesterday ────────────────────────────────────────────────────────────────────────────

RENAMED = "configs/renamed"


@dataclass(frozen=True)
class Renamed:
    """What became of an option: another name for the same values, or none and why."""

    now: str
    why: str = ""


def read_renamed(root: Path) -> "dict[str, Renamed]":
    """The table of options that there are no more. A line is `OLD NEW`, or `OLD - reason`."""
    table = {}
    file = root / RENAMED
    if not file.is_file():
        return table
    for number, line in enumerate(read_text(file, RENAMED).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"CONFIG_(\w+)\s+(?:CONFIG_(\w+)|-\s+(\S.*))", line.strip())
        if not match:
            raise ConfigurationError([f"{RENAMED}:{number}: write CONFIG_OLD CONFIG_NEW, or CONFIG_OLD - and why it is gone"])
        table[match[1]] = Renamed(match[2] or "", match[3] or "")
    return table


def renamed_lines(file: Path, shown: str, table: "dict[str, Renamed]") -> "tuple[list[str], str]":
    """(what is said of options that are gone, the text with the new names and without those). Lines keep their
    numbers; one that has the new name too has the say."""
    lines = read_text(file, shown).split("\n")
    names = [LINE_SET.fullmatch(line.rstrip()) or LINE_UNSET.fullmatch(line.rstrip()) for line in lines]
    present = {match[1] for match in names if match}
    said = []
    for at, match in enumerate(names):
        entry = match and table.get(match[1])
        if not entry:
            continue
        if entry.now and entry.now not in present:
            lines[at] = lines[at].replace(f"CONFIG_{match[1]}", f"CONFIG_{entry.now}", 1)
        else:
            lines[at] = "#"
            if entry.why:
                said.append(f"{shown}:{at + 1}: CONFIG_{match[1]} is no more: {entry.why}")
    return said, "\n".join(lines)


def plain_value(symbol: kconfiglib.Symbol, item: Asked) -> str:
    """The value that a line asks for, as kconfiglib keeps it."""
    text = symbol.orig_type == kconfiglib.STRING and not item.unset
    return kconfiglib.unescape(item.value[1:-1]) if text else item.value


def check_lines(
    options: kconfiglib.Kconfig, asked: "list[Asked]", shown: str, renamed: "dict[str, Renamed] | None" = None
) -> "list[str]":
    """What is wrong with the lines themselves: names, repetitions, the form of values, choices."""
    problems = []
    first: "dict[str, Asked]" = {}
    chosen: "dict[kconfiglib.Choice, Asked]" = {}

    for item in asked:
        here = f"{shown}:{item.line}: "
        symbol = options.syms.get(item.name)
        if symbol is None or not symbol.nodes:
            if entry := (renamed or {}).get(item.name):
                now = f"is CONFIG_{entry.now} now" if entry.now else f"is no more: {entry.why}"
                problems.append(f"{here}CONFIG_{item.name} {now}; `make olddefconfig` updates a .config")
                continue
            problems.append(f"{here}CONFIG_{item.name} is not an option{suggestion(options, item.name)}")
            continue
        if item.name in first:
            problems.append(f"{here}CONFIG_{item.name} is already set on line {first[item.name].line}")
            continue
        first[item.name] = item

        pattern, form = SYNTAX[symbol.orig_type]
        # "is not set" is also what is written for a number or a text that has no value.
        if not (item.unset and symbol.orig_type != kconfiglib.BOOL) and not pattern.fullmatch(item.value):
            problems.append(f"{here}{item}: the value must be {form}")
        elif symbol.choice and item.value == "y":
            other = chosen.setdefault(symbol.choice, item)
            if other is not item:
                problems.append(
                    f"{here}{item} was asked for, but line {other.line} asks for {other}, "
                    f"and {title(symbol.choice)} takes exactly one"
                )
    return problems


def suggestion(options: kconfiglib.Kconfig, name: str) -> str:
    names = [symbol.name for symbol in options.unique_defined_syms]
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean CONFIG_{close[0]}?" if close else "; `make menuconfig` shows all there are"


def check_outcome(options: kconfiglib.Kconfig, asked: "list[Asked]", shown: str) -> "list[str]":
    """Each line whose symbol did not get the value that it asks for, with the reason."""
    wanted = {item.name for item in asked if item.value == "y"}
    problems = []
    for item in asked:
        symbol = options.syms[item.name]
        got = symbol.str_value
        value = plain_value(symbol, item)
        if got == value or (item.unset and got == ""):
            continue
        if not any(node.prompt for node in symbol.nodes) and wanted & sources(symbol):
            continue  # a full .config repeats what follows from its other lines; they have the say
        problems.append(
            f"{shown}:{item.line}: {item} was asked for, got {got or 'nothing'} because "
            + (reason(symbol, item.value) or "of the other options")
        )
    return problems


def sources(symbol: kconfiglib.Symbol) -> "set[str]":
    """The names of the symbols that a symbol's defaults depend on."""
    return {item.name for _, condition in symbol.defaults for item in kconfiglib.expr_items(condition)}


def reason(symbol: kconfiglib.Symbol, value: str) -> "str | None":
    """Why a symbol did not get the value."""
    if unmet := unmet_conditions(symbol.direct_dep):
        return f"it depends on {unmet}"
    if symbol.orig_type == kconfiglib.BOOL and value == "n":
        if symbol.choice:
            return f"{title(symbol.choice)} takes exactly one, and no other was asked for"
        if kconfiglib.expr_value(symbol.rev_dep):
            return f"it is selected by {with_values(symbol.rev_dep)}"

    prompts = [node.prompt[1] for node in symbol.nodes if node.prompt]
    if not prompts:
        names = ", ".join(sorted(f"CONFIG_{name}" for name in sources(symbol) if name in symbol.kconfig.syms))
        return "it cannot be set: it follows from " + (names or "the other options")
    if unmet := unmet_conditions(*prompts):
        return f"it can be set only if {unmet}"
    if symbol.choice:
        return f"{title(symbol.choice)} takes CONFIG_{symbol.choice.selection.name}"
    for low, high, condition in symbol.ranges:
        if kconfiglib.expr_value(condition):
            return f"the range is {low.str_value}..{high.str_value}"
    return None


def unmet_conditions(*alternatives) -> "str | None":
    """The false parts of the conditions, with their values; None if one of the alternatives holds."""
    if any(kconfiglib.expr_value(expression) for expression in alternatives):
        return None
    parts = [
        with_values(part)
        for expression in alternatives
        for part in kconfiglib.split_expr(expression, kconfiglib.AND)
        if not kconfiglib.expr_value(part)
    ]
    return " and ".join(dict.fromkeys(parts))


def with_values(expression) -> str:
    """An expression in Kconfig's notation, each symbol followed by its value: "A (=n) && !B (=y)"."""

    def shown(item) -> str:
        if isinstance(item, kconfiglib.Choice):
            return f"{title(item)} (={item.str_value})"
        return item.name if item.is_constant else f"{item.name} (={item.str_value or 'nothing'})"

    return kconfiglib.expr_str(expression, shown)


def title(choice: kconfiglib.Choice) -> str:
    return f'the choice "{choice.nodes[0].prompt[0]}"'


def text_of(write, header: str) -> str:
    """What one of kconfiglib's write functions writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "text")
        write(file, header=header)
        return Path(file).read_text(encoding="utf-8")


def plugin(root: Path, plugins: "Path | None", options: kconfiglib.Kconfig, symbol: str, parent: str) -> Path:
    """The chosen plug-in's folder, which its own Kconfig names."""
    name = options.syms[symbol].str_value
    if not name:
        raise ConfigurationError(
            [f'the chosen entry below {parent}/ does not name its folder: its Kconfig needs `default "NAME"` '
             f"for config {symbol}, inside `if` with its own symbol"]
        )
    outside = plugins and (plugins / parent / name).is_dir()
    folder = (plugins if outside else root) / parent / name
    for file in ("SConscript", f"{name}.h"):
        if not (folder / file).is_file():
            shown = folder if outside else f"{parent}/{name}"
            raise ConfigurationError([f"{shown}/{file} is missing: a plug-in's folder needs one"])
    return folder


def main(arguments: "list[str]") -> int:
    root = Path(__file__).resolve().parent.parent
    try:
        plugins = plugin_root(root, os.environ.get("PLUGINS", ""))
        if len(arguments) == 2 and arguments[0] == "check":
            load(root, Path(arguments[1]), arguments[1], plugins)
        elif arguments != ["plugins"]:
            print("usage: configuration.py check FILE | plugins", file=sys.stderr)
            return 2
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
