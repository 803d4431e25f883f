#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks that the layers are what core/README.md says. usage: layers.py [FOLDER...]

Each folder is this tree, or one like PLUGINS with policies/ and backends/ of its own; this tree without any.

An include points downwards; a policy and a back end see only core and themselves; core and the build
name no plug-in; a feature vanishes through a header, so no .c of core or of a plug-in has an #if."""

import re
import sys
from pathlib import Path

# Each file of core may include those of the lines above its own. What is not named is a building
# block; these may include each other.
LAYERS = [
    ["compiler.h"],
    ["assert.h"],
    ["types.h"],
    ["(building blocks)"],
    ["backend.h"],
    ["kept.h", "upkeep.h"],
    ["(the back end)"],
    ["bins.h", "bins.c"],
    ["frontend.h"],
    ["(the policy)"],
    ["heap.h", "heap.c", "purger.h", "purger.c", "stats.c", "foreign.h", "foreign.c"],
    ["malloc.h"],
    ["malloc.c"],
    ["override.c", "override_cxx.c", "override_deepbind.c", "override_fork.c", "override_stats.c"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
BLOCKS, BACK_END, POLICY = RANK["(building blocks)"], RANK["(the back end)"], RANK["(the policy)"]
SHARED = {BLOCKS, BACK_END, POLICY, RANK["bins.c"], RANK["heap.c"]}  # ranks whose files may include each other

# Who may include what is generated: through the contracts, plug-ins come in.
GENERATED = {
    "gen/autoconf.h": "core/compiler.h",
    "gen/backend.h": "core/backend.h",
    "gen/frontend.h": "core/frontend.h",
    "gen/identity.h": "core/identity.c",
    "gen/size_class.h": "core/size_class.h",
}

INCLUDE = re.compile(r'\s*#\s*include\s*(["<])([^">]+)[">]')
CONDITION = re.compile(r"\s*#\s*(if|ifdef|ifndef|elif|else)\b")
PUBLIC = "core/include/"


def rank(path: str) -> "int | None":
    """The layer of a file; None outside of the library."""
    parts = path.split("/")
    if path.startswith(PUBLIC):
        return -1
    if parts[0] == "core":
        return RANK.get(parts[-1], BLOCKS)
    return {"backends": BACK_END, "policies": POLICY}.get(parts[0])


def check_include(path: str, target: str) -> "str | None":
    """What is wrong with an include of a file by its path from the root."""
    if path.startswith(PUBLIC):
        return "a public header includes only the system's"
    if target.startswith("gen/"):
        owner = GENERATED.get(target)
        return None if path == owner else f"only {owner or 'nobody'} may include it"
    mine, other = rank(path), rank(target)
    if other is None:
        return "it is no part of the library; includes start at the root: \"core/types.h\""
    if mine in (BACK_END, POLICY) and other in (BACK_END, POLICY):
        own = "/".join(path.split("/")[:2]) + "/"
        return None if target.startswith(own) else "a plug-in sees core and itself, no other plug-in"
    if other in (BACK_END, POLICY):
        return "core sees plug-ins only through gen/backend.h and gen/frontend.h"
    if other > mine or (other == mine and mine not in SHARED):
        below = [name for names in LAYERS[:mine] for name in names]
        return f"an include points downwards: {path.split('/')[-1]} stands on {', '.join(below) or 'nothing'}"
    return None


def check_file(root: Path, path: str) -> "list[str]":
    problems = []
    for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), 1):
        here = f"{path}:{number}: "
        if match := INCLUDE.match(line):
            quote, target = match.groups()
            # A core file whose own header is public includes it as a user would.
            if quote == '"' and (problem := check_include(path, target)):
                problems.append(f'{here}#include "{target}": {problem}')
            elif quote == "<" and target.startswith("hakmem/") and not path.startswith("core/"):
                problems.append(f"{here}#include <{target}>: the public interface stands on plug-ins, not under them")
        elif path.endswith(".c") and CONDITION.match(line):
            problems.append(f"{here}{line.strip()}: no #if in a .c: let a header define it away, or use enabled()")
        if path.startswith(PUBLIC) and "CONFIG_" in line and not is_comment(line):
            problems.append(f"{here}an option of the configuration shows in a public header")
    return problems


def is_comment(line: str) -> bool:
    return line.lstrip().startswith(("*", "/*", "//"))


def check_names(root: Path) -> "list[str]":
    """Places where core or the build names a plug-in."""
    plugins = [path.name for parent in ("policies", "backends") for path in (root / parent).glob("*/")]
    # The default of a choice is the one thing that Kconfig lets nobody but the choice itself say.
    pattern = re.compile(rf"(?<!\tdefault FRONTEND_)(?<!\tdefault BACKEND_)(?<![a-z])({'|'.join(map(re.escape, plugins))})s?(?![a-z])", re.IGNORECASE)
    files = [*(root / "core").rglob("*"), *(root / "site_scons").glob("*.py"), *root.glob("SConstruct"), *root.glob("Kconfig")]
    problems = []
    for file in sorted(path for path in files if path.is_file() and path.suffix != ".pyc"):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if plugins and (match := pattern.search(line)):
                path = file.relative_to(root)
                problems.append(f"{path}:{number}: names {match[0]}: a plug-in is known only to its own folder")
    return problems


def check(root: Path) -> "list[str]":
    """All that is wrong below a root."""
    problems = []
    for folder in ("core", "policies", "backends"):
        for file in sorted((root / folder).rglob("*.[ch]")):
            if not file.name.startswith("test_"):
                problems += check_file(root, str(file.relative_to(root)))
    return problems + check_names(root)


def main(arguments: "list[str]") -> int:
    folders = [Path(word) for word in arguments] or [Path(__file__).resolve().parent.parent.parent]
    problems = [problem for folder in folders for problem in check(folder)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
