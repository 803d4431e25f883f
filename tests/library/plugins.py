# SPDX-License-Identifier: MIT
"""What of a plug-in could be in a library that does not have it: the names in its folder."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PARENTS = ("policies", "backends")

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
# The head of a definition: a name, its parameters and a brace, at the start of a line as clang-format has it.
FUNCTION = re.compile(r"^(?!static_assert|_Static_assert)\w[\w\s*]*?\b(\w+)\([^;{}]*\)[\w\s()]*\n?\{", re.MULTILINE)
# What a compiler appends to the name of a part or a variant of a function.
VARIANT = re.compile(r"\.(cold|part|constprop|isra|localalias|lto_priv).*")


def all_plugins() -> "list[Path]":
    """The folders of this tree's plug-ins, and of those that PLUGINS adds."""
    roots = [ROOT, *([ROOT / os.environ["PLUGINS"]] if os.environ.get("PLUGINS") else [])]
    return sorted(folder for root in roots for parent in PARENTS for folder in (root / parent).glob("*/"))


def chosen_plugins(build: Path) -> "list[str]":
    """["policies/NAME", "backends/NAME"] of a build."""
    included = [(build / "gen" / name).read_text() for name in ("frontend.h", "backend.h")]
    return [re.fullmatch(r'#include "(\w+/\w+)/\w+\.h"\n', text)[1] for text in included]


def sources(folder: Path) -> "list[str]":
    """The texts of a folder's sources, without comments."""
    files = [file for file in folder.glob("*.[ch]") if not file.name.startswith("test_")]
    return [COMMENT.sub("", file.read_text()) for file in files]


def functions(folder: Path) -> "set[str]":
    """The functions that a folder's sources define."""
    return {name for text in sources(folder) for name in FUNCTION.findall(text)}


def identifiers(folder: Path) -> "set[str]":
    """Every word of a folder's sources."""
    return {name for text in sources(folder) for name in re.findall(r"\w+", text)}


def symbols(library: Path) -> "set[str]":
    """All of a library's or archive's symbols, those of files among them."""
    command = ["nm", "--debug-syms", "--format=posix", str(library)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {VARIANT.sub("", line.split()[0]) for line in lines if line and not line.endswith(":")}


def strings(library: Path) -> "list[str]":
    """The texts in what is loaded with the library: in all sections but those of symbols and of debug information."""
    with_debug = ["strings", "--all", "--bytes=4", str(library)]
    if library.suffix != ".a":
        with_debug[1:2] = ["--data"]  # loaded sections
    return subprocess.run(with_debug, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def traces(library: Path, present: "list[str]", others: "list[Path]") -> "list[str]":
    """What a library has of other plug-ins than those that it should have: a line for each."""
    # A plain word may name something in two places; what the present sources speak of is theirs.
    here = [ROOT / "core", *(folder for folder in all_plugins() if shown(folder) in present)]
    own = set().union(*(identifiers(folder) for folder in here))
    own_files = {file.name for folder in here for file in folder.glob("*.c")}
    found = []
    names, texts = symbols(library), strings(library)
    for folder in others:
        word = re.compile(rf"(?<![a-z]){re.escape(folder.name)}(?![a-z])", re.IGNORECASE)
        foreign = (functions(folder) - own) | ({file.name for file in folder.glob("*.c")} - own_files)
        found += [
            f"{shown(folder)}: symbol {name}"
            for name in sorted(names)
            if name in foreign or name.startswith(f"{folder.name}_")
        ]
        found += [f"{shown(folder)}: text {text!r}" for text in texts if word.search(text)]
    return found


def shown(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"
