# SPDX-License-Identifier: MIT
"""What `scons ab` compares: from A=, B=, PEERS= and SWEEP= to the configurations that must be built and
the arguments of bench/ab.py.

A side is a configuration (configs/NAME_defconfig by its name, `local`, or the path of a file), with options
changed on the fly (default+CONFIG_X=32+CONFIG_Y=n), or a finished library: a path, or a name such as system.
"""

import difflib
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import configuration

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
from lab import wishes  # noqa: E402
from lab.libraries import PEERS, SYSTEM  # noqa: E402

sys.path.pop(0)

TARGETS = ("ab", "ab-report", "ab-selftest")
DEFCONFIGS_REPORT = "defconfigs-report"
RUNNER = "bench/ab.py"
SELFTEST = ["bench/selftest.py", "--document", "doc/laboratory.md"]
DEFCONFIGS = ["bench/defconfigs.py", "--document", "doc/defconfigs.md"]
LATEST = "build/ab/latest.json"
LIBRARY = re.compile(r"\.so(\.\d+)*$")
CHANGE = re.compile(r"(CONFIG_\w+)=(.+)", re.DOTALL)
SWEEP = re.compile(r"(CONFIG_\w+)=([^,]+(?:,[^,]+)*)")
MOST_NAME = 100  # characters of a folder's name


class WishError(Exception):
    """What was asked for cannot be compared; the message says what can."""


@dataclass(frozen=True)
class Side:
    """One of those that are compared."""

    argument: str  # of bench/ab.py
    folder: str = ""  # of one that must be built
    config: "configuration.Configuration | None" = None


class Laboratory:
    """Reads the wishes. `locate` gives the file of a configuration's name, or "" if there is none."""

    def __init__(self, root: Path, names: "list[str]", locate, plugins: "Path | None" = None) -> None:
        self.root = root
        self.names = names
        self.locate = locate
        self.plugins = plugins

    def sides(self, env) -> "list[Side]":
        """A, then those beside it. Raises WishError or configuration.ConfigurationError."""
        configs = [name for name in env["CONFIG"].split(",") if name]
        if len(configs) > 2:
            raise WishError("CONFIG= names more than two configurations: `scons ab` compares A= with B=, PEERS=, SWEEP=")
        first = env["A"] or (configs[0] if configs else "default")
        second = env["B"] or (configs[1] if len(configs) == 2 else "")
        beside = [("B", second)] if second else []
        beside += [("PEERS", peer) for peer in env["PEERS"].split(",") if peer]
        beside += [("SWEEP", wish) for wish in self.sweep(first, env["SWEEP"])]
        return [self.side(*wish) for wish in [("A", first), *(beside or [("B", SYSTEM)])]]

    def sweep(self, first: str, wish: str) -> "list[str]":
        if not wish:
            return []
        match = SWEEP.fullmatch(wish)
        if not match:
            raise WishError(f"SWEEP={wish}: write an option and its values: SWEEP=CONFIG_X=8,16,32")
        if self.is_library(first):
            raise WishError(f"SWEEP={wish}: A={first} is a finished library; a sweep changes a configuration")
        return [f"{first}+{match[1]}={value}" for value in match[2].split(",")]

    @staticmethod
    def is_library(wish: str) -> bool:
        return wish == SYSTEM or wish in PEERS or bool(LIBRARY.search(wish))

    def side(self, variable: str, wish: str) -> Side:
        shown = f"{variable}={wish}"
        if self.is_library(wish):
            if wish != SYSTEM and wish not in PEERS and not os.path.isfile(wish):
                raise WishError(f"{shown}: there is no such file")
            return Side(wish)
        if variable == "PEERS":
            peers = ", ".join([SYSTEM, *PEERS])
            raise WishError(f"{shown}: a peer is one of {peers}, or the path of a .so; a configuration goes to A= or B=")

        base, *changes = re.split(r"\+(?=CONFIG_)", wish)
        file = self.configuration_file(shown, base)
        config = self.changed(shown, file, changes)
        if base in self.names or base == "local":
            folder = wish
        else:
            folder = f"{Path(base).name}-{config.digest}{wish[len(base):]}"
        folder = re.sub(r"[^\w.+=-]", "_", folder)
        if len(folder) > MOST_NAME:
            folder = f"{folder[:60]}-{config.digest}"
        return Side(f"build/{folder}/libhakmem.so", f"build/{folder}", config)

    def configuration_file(self, shown: str, base: str) -> str:
        if "+" in base:
            raise WishError(f"{shown}: a change of an option is +CONFIG_NAME=VALUE")
        if file := self.locate(base):
            return file
        if "/" in base or os.path.isfile(base):
            if os.path.isfile(base):
                return base
            raise WishError(f"{shown}: there is no such file")
        known = [*self.names, "local", SYSTEM, *PEERS]
        close = difflib.get_close_matches(base, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise WishError(
            f"{shown}: {hint}It may be a configuration ({', '.join([*self.names, 'local'])}), the path of a "
            f"configuration or of a .so, or one of {', '.join([SYSTEM, *PEERS])}"
        )

    def changed(self, shown: str, file: str, changes: "list[str]") -> configuration.Configuration:
        """The configuration of the file with the changes made."""
        try:
            text = (self.root / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WishError(f"{shown}: {file} cannot be read: {error}") from None
        options = configuration.load_options(self.root, self.plugins)
        for change in changes:
            match = CHANGE.fullmatch(change)
            if not match:
                raise WishError(f"{shown}: '{change}' is no change of an option: write +CONFIG_NAME=VALUE")
            text = replaced(options, text, match[1], change)
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / "config"
            temporary.write_text(text, encoding="utf-8")
            return configuration.load(self.root, temporary, shown, self.plugins)


def replaced(options, text: str, name: str, line: str) -> str:
    """The text of a configuration with that line, and without others that set the option, or that ask for
    another one of the same choice."""
    symbol = options.syms.get(name.removeprefix("CONFIG_"))
    rivals = {name}
    if symbol is not None and symbol.choice and line.endswith("=y"):
        rivals |= {f"CONFIG_{other.name}" for other in symbol.choice.syms}
    kept = [
        old
        for old in text.splitlines()
        if not ((match := re.match(r"(?:# )?(CONFIG_\w+)(?:=| is not set)", old)) and match[1] in rivals)
    ]
    return "\n".join([*kept, line, ""])


def workload_names(env) -> "list[str]":
    return [name.strip() for name in env["WORKLOADS"].split(",") if name.strip()]


def check_wishes(env) -> None:
    """Raises WishError for what bench/ab.py would refuse after the build."""
    for variable, check in (
        ("WORKLOADS", lambda _: wishes.chosen(workload_names(env))),
        ("BUDGET", wishes.seconds),
        ("WIDTH", wishes.per_cent),
    ):
        try:
            if env[variable]:
                check(env[variable])
        except ValueError as error:
            raise WishError(f"{variable}={env[variable]}: {error}") from None


def words_for_scons(words: "list[str]"):
    """A command whose words are taken as they are, by no shell; SCons alone would replace $NAME."""
    return [[word.replace("$", "$$") for word in words]]


def action(env, sides: "list[Side]"):
    """The call of bench/ab.py that compares them."""
    words = ["/usr/bin/python3", RUNNER, *(side.argument for side in sides)]
    for name in workload_names(env):
        words += ["--only", name]
    for variable, option in (("BUDGET", "--budget"), ("WIDTH", "--width")):
        words += [option, env[variable]] if env[variable] else []
    return words_for_scons(words + (["--counters"] if env["COUNTERS"] else []))


def report_action(env):
    """The call that draws a record again."""
    return words_for_scons(["/usr/bin/python3", RUNNER, "--report", env["RECORD"] or LATEST])


def selftest_action(folder: str):
    """The call that tests the laboratory with a build."""
    return words_for_scons(["/usr/bin/python3", *SELFTEST, f"{folder}/libhakmem.so", f"{folder}/libhakmem.a"])


def defconfigs_action():
    """The call that measures what the configurations promise."""
    return words_for_scons(["/usr/bin/python3", *DEFCONFIGS])
