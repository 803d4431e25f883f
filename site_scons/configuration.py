# SPDX-License-Identifier: MIT
"""Loads a configuration strictly: what the file asks for is what comes out, or there is an error.

kconfiglib reads the file, and warns of what it cannot read. But Kconfig demotes silently: a value out of range, a
second =y in one choice and an option whose dependency is not met vanish without a word. So each line of the file is
compared with the outcome, and all that differ are reported together, each with its reason.
"""

import contextlib
import difflib
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import kconfiglib

import size_class
from refusal import Refusal

LINE = re.compile(r"(?:CONFIG_(\w+)=(.*)|# CONFIG_(\w+) is not set)")
# Meant to unset an option, but a comment to Kconfig.
ALMOST_UNSET = re.compile(r"(?!# CONFIG_\w+ is not set$)\s*#\s*CONFIG_\w+\s+is\s+not\s+set", re.IGNORECASE)

# What kconfiglib lets pass, but C would read as another number, or the user has not meant.
FORMS = {
    kconfiglib.BOOL: (re.compile(r"[yn]"), "y or n"),
    kconfiglib.INT: (re.compile(r"0|-?[1-9][0-9]*"), "a whole number without leading zeros"),
    kconfiglib.HEX: (re.compile(r"0[xX][0-9a-fA-F]+"), "a hexadecimal number that starts with 0x"),
    kconfiglib.STRING: (re.compile(r'"(?:[^\\"]|\\.)*"'), 'text in double quotes, with \\" and \\\\ inside'),
}

# The folders of plug-ins, and the symbol that names the chosen one in each.
PARENTS = {"policies": "FRONTEND", "backends": "BACKEND"}


class ConfigurationError(Refusal):
    """What is wrong with a configuration: one line for each problem."""

    before = "the configuration is not what was asked for; nothing was built\n"

    def __init__(self, problems: "list[str]"):
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class Configuration:
    """What the build needs to know of a configuration."""

    frontend: str  # folder below policies/
    backend: str  # folder below backends/
    space: str  # folder below core/spaces/; "": the back end has one of its own
    places: "dict[str, Path]"  # where these two folders lie: "policies/NAME" → folder
    enabled: "frozenset[str]"  # the names of the options that are y
    autoconf: str  # text of gen/autoconf.h
    text: str  # text of gen/config: the whole as a .config
    digest: str  # names the configuration: equal options, equal digest


# ── Options ─────────────────────────────────────────────────────────────────────────────────────────


def plugin_root(root: Path, plugins: str) -> "Path | None":
    """The folder that PLUGINS names, if any."""
    if not plugins:
        return None
    folder = (root / plugins).resolve()
    if not folder.is_dir():
        raise Refusal(f"PLUGINS={plugins}: there is no such folder")
    if not any((folder / parent).is_dir() for parent in PARENTS):
        raise Refusal(f"PLUGINS={plugins}: it has neither policies/ nor backends/, where plug-ins lie")
    twice = [
        f"PLUGINS={plugins}: {path.relative_to(folder)} has the name of a plug-in of this tree: rename one of the two"
        for parent in PARENTS
        for path in sorted((folder / parent).glob("*/"))
        if folder != root and (root / path.relative_to(folder)).is_dir()
    ]
    if twice:
        raise Refusal("\n".join(twice))
    return folder if folder != root else None


def load_options(root: Path, plugins: "Path | None" = None, kind=kconfiglib.Kconfig) -> kconfiglib.Kconfig:
    """Reads the Kconfig files. A warning of kconfiglib is a mistake in one of them, so it is an error."""
    # Where kconfiglib and Kconfig look for files.
    with mock.patch.dict(os.environ, {"srctree": str(root), "PLUGINS": str(plugins or "")}):
        try:
            options = kind("Kconfig", warn_to_stderr=False)
        except (kconfiglib.KconfigError, OSError) as error:
            raise ConfigurationError([str(error).strip()]) from None
    if options.warnings:
        raise ConfigurationError(options.warnings)
    options.warn_assign_undef = options.warn_assign_redun = True
    return options


def load(root: Path, file: Path, shown: str, plugins: "Path | None" = None) -> Configuration:
    """The configuration that a .config or defconfig asks for; `shown` names the file in errors."""
    return outcome(root, load_strictly(root, file, shown, plugins), plugins)


def load_strictly(root: Path, file: Path, shown: str, plugins: "Path | None" = None) -> kconfiglib.Kconfig:
    """The options with the values that the file asks for."""
    options = load_options(root, plugins)
    if problems := load_text(options, read_text(file, shown), shown, read_renamed(root)):
        raise ConfigurationError(problems)
    return options


def outcome(root: Path, options: kconfiglib.Kconfig, plugins: "Path | None" = None) -> Configuration:
    """What the options' values mean for the build."""
    autoconf = text_of(options.write_autoconf, "/* Generated from the configuration. */\n")
    chosen = {symbol: plugin(root, plugins, options, symbol, parent) for parent, symbol in PARENTS.items()}
    return Configuration(
        frontend=chosen["FRONTEND"].name,
        backend=chosen["BACKEND"].name,
        space=options.syms["SPACE"].str_value if "SPACE" in options.syms else "",
        places={f"{folder.parent.name}/{folder.name}": folder for folder in chosen.values()},
        enabled=frozenset(symbol.name for symbol in options.unique_defined_syms if symbol.str_value == "y"),
        autoconf=autoconf,
        text=text_of(options.write_config, "# Generated.\n"),
        digest=hashlib.sha256(autoconf.encode()).hexdigest()[:12],
    )


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


def read_text(file: Path, shown: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError([f"{shown}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{shown}: is not UTF-8 text ({error.reason})"]) from None


def text_of(write, header: str = "") -> str:
    """What one of kconfiglib's write functions writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "text")
        write(file, header=header)
        return Path(file).read_text(encoding="utf-8")


@contextlib.contextmanager
def as_file(text: str):
    """The name of a file with that text."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        yield file.name


# ── Options that are no more ────────────────────────────────────────────────────────────────────────

RENAMED = "configs/renamed"


@dataclass(frozen=True)
class Renamed:
    """What became of an option: another name for the same values, or none and why."""

    now: str
    why: str = ""


def read_renamed(root: Path) -> "dict[str, Renamed]":
    """The table of options that there are no more. A line is `OLD NEW`, or `OLD - reason`."""
    table = {}
    text = read_text(root / RENAMED, RENAMED) if (root / RENAMED).is_file() else ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"CONFIG_(\w+)\s+(?:CONFIG_(\w+)|-\s+(\S.*))", line.strip())
        if not match:
            raise ConfigurationError([f"{RENAMED}:{number}: write CONFIG_OLD CONFIG_NEW, or CONFIG_OLD - and why it is gone"])
        table[match[1]] = Renamed(match[2] or "", match[3] or "")
    return table


def with_new_names(text: str, table: "dict[str, Renamed]") -> str:
    """The text with the new names of options. Lines keep their numbers; one that has the new name already counts."""
    for old, entry in table.items():
        if entry.now:
            is_there = re.search(rf"^(# )?CONFIG_{entry.now}(=| is not set)", text, re.MULTILINE)
            new = "#" if is_there else rf"\1CONFIG_{entry.now}\2"
            text = re.sub(rf"^(# )?CONFIG_{old}(=.*| is not set)$", new, text, flags=re.MULTILINE)
    return text


# ── What was asked for and what comes out ───────────────────────────────────────────────────────────


def load_text(options: kconfiglib.Kconfig, text: str, shown: str, renamed: "dict[str, Renamed]" = {}) -> "list[str]":
    """Loads the text of a .config. Returns what is wrong with it, in the order of its lines."""
    del options.warnings[:]
    with as_file(text) as name:
        kconfiglib.Kconfig.load_config(options, name)
    of_line = re.compile(rf"{re.escape(name)}:(\d+): warning: (.*)")
    said = {int(match[1]): match[2] for match in map(of_line.fullmatch, options.warnings) if match}
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip()
        if problem := explained(options, said.get(number, ""), line, renamed) or line_problem(options, line):
            problems.append(f"{shown}:{number}: {problem}")
    # Without such, what else kconfiglib has to say is a mistake in a Kconfig file.
    return problems or [f"{shown}: {warning}" for warning in options.warnings] or table_problems(options, text, shown)


def table_problems(options: kconfiglib.Kconfig, text: str, shown: str) -> "list[str]":
    """What is wrong with an own table of size classes, which Kconfig takes for any text."""
    table = options.syms.get("CLASS_TABLE")
    if table is None or not table.str_value:
        return []
    smallest, log2 = (int(options.syms[name].str_value) for name in ("MIN_BLOCK", "SMALL_MAX_LOG2"))
    number = next((n for n, line in enumerate(text.split("\n"), 1) if line.startswith("CONFIG_CLASS_TABLE=")), 0)
    place = f"{shown}:{number}" if number else shown
    return [f"{place}: CONFIG_CLASS_TABLE: {problem}" for problem in size_class.table_problems(table.str_value, smallest, log2)]


def explained(options: kconfiglib.Kconfig, warning: str, line: str, renamed: "dict[str, Renamed]") -> str:
    """What is wrong with a line that kconfiglib warns of, with what to do about it; empty where its value is wrong."""
    if match := re.search(r"to the undefined symbol (\w+)$", warning):
        if entry := renamed.get(match[1]):
            now = f"CONFIG_{entry.now} now; `make olddefconfig` updates a .config" if entry.now else f"no more: {entry.why}"
            return f"CONFIG_{match[1]} is {now}"
        close = difflib.get_close_matches(match[1], [symbol.name for symbol in options.unique_defined_syms], n=1)
        hint = f"did you mean CONFIG_{close[0]}?" if close else "`make menuconfig` shows all there are"
        return f"CONFIG_{match[1]} is not an option; {hint}"
    if match := re.search(r"(\w+) \(.*\) set more than once", warning):
        return f"CONFIG_{match[1]} is already set above"
    if "malformed line" in warning or "undefined symbol" in warning or ALMOST_UNSET.match(line):
        return f"malformed line '{line}': write CONFIG_X=value, '# CONFIG_X is not set', or a comment that starts with #"
    return ""


def line_problem(options: kconfiglib.Kconfig, line: str) -> str:
    """Why what a line of a .config asks for is not what comes out; empty where it is."""
    match = LINE.fullmatch(line)
    symbol = match and options.syms.get(match[1] or match[3])
    if not symbol or not symbol.nodes:
        return ""
    is_bool, value, got = symbol.orig_type == kconfiglib.BOOL, match[2], symbol.str_value
    if value is None and not is_bool and got == "":
        return ""  # what is written for a number or a text that has no value
    value = "n" if value is None else value
    asked = f"CONFIG_{symbol.name}={value}"
    pattern, form = FORMS[symbol.orig_type]
    if not pattern.fullmatch(value):
        return f"{asked}: the value must be {form}"
    if (kconfiglib.unescape(value[1:-1]) if symbol.orig_type == kconfiglib.STRING else value) == got:
        return ""
    if not any(node.prompt for node in symbol.nodes) and any(
        item.user_value is not None for item in sources(symbol)
    ):
        return ""  # a full .config repeats what follows from its other lines; they count
    return f"{asked} was asked for, got {got or 'nothing'} because {reason(symbol, value) or 'of the other lines'}"


def sources(symbol: kconfiglib.Symbol) -> "list[kconfiglib.Symbol]":
    """The symbols that a symbol's defaults depend on."""
    items = [item for _, condition in symbol.defaults for item in kconfiglib.expr_items(condition)]
    return [item for item in items if isinstance(item, kconfiglib.Symbol) and item.nodes]


def reason(symbol: kconfiglib.Symbol, value: str) -> "str | None":
    """Why a symbol did not get the value."""
    if unmet := unmet_conditions(symbol.direct_dep):
        # An entry depends on its choice, and that on what hides it.
        hidden = symbol.choice and not kconfiglib.expr_value(symbol.choice.direct_dep)
        return f"it depends on {unmet_conditions(symbol.choice.direct_dep) if hidden else unmet}"
    if symbol.orig_type == kconfiglib.BOOL and value == "n":
        if symbol.choice:
            return f"{title(symbol.choice)} takes exactly one, and no other was asked for"
        if kconfiglib.expr_value(symbol.rev_dep):
            return f"it is selected by {with_values(symbol.rev_dep)}"

    prompts = [node.prompt[1] for node in symbol.nodes if node.prompt]
    if not prompts:
        names = ", ".join(sorted({f"CONFIG_{item.name}" for item in sources(symbol)}))
        return "it cannot be set: it follows from " + (names or "the other options")
    if unmet := unmet_conditions(*prompts):
        return f"it can be set only if {unmet}"
    if symbol.choice:
        return f"{title(symbol.choice)} takes exactly one, CONFIG_{symbol.choice.selection.name}"
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
