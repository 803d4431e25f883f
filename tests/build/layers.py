#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks that the layers are what core/README.md says. usage: layers.py [FOLDER...]

Each folder is this tree, or one like PLUGINS with policies/ and backends/ of its own; this tree without any.

An include and a call point downwards, and calls go in no circle; a policy and a back end see only core and themselves;
core and the build name no plug-in; a feature vanishes through a header, so no .c of core or of a plug-in has an #if."""

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
    ["traffic.h", "traffic.c"],
    ["bins.h", "bins.c"],
    ["frontend.h", "store.h"],
    ["(the policy)"],
    ["heap.h", "heap.c", "foreign.h", "foreign.c"],
    ["purger.h", "purger.c"],
    ["fork.h", "fork.c"],
    ["thread.h", "thread.c"],
    ["stats.c"],
    ["stats_text.c"],
    ["environment.h", "environment.c"],
    ["start.h", "start.c"],
    ["malloc.h", "malloc.c"],
    ["override.c", "override_cxx.c", "override_deepbind.c", "override_derived.c", "override_fork.c", "override_shared.c",
     "override_stats.c"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
BLOCKS, BACK_END, POLICY = RANK["(building blocks)"], RANK["(the back end)"], RANK["(the policy)"]
SHARED = {BLOCKS, BACK_END, POLICY, RANK["traffic.c"], RANK["bins.c"], RANK["store.h"], RANK["heap.c"]}  # ranks whose files may include each other

# Who may include what is generated: through the contracts, plug-ins come in.
GENERATED = {
    "gen/autoconf.h": "core/compiler.h",
    "gen/backend.h": "core/backend.h",
    "gen/frontend.h": "core/frontend.h",
    "gen/identity.h": "core/identity.c",
    "gen/inline_abi.h": "core/heap.c",
    "gen/size_class.h": "core/size_class.h",
    "gen/space.h": "a back end",
    "gen/space.c": "a back end",
}

PARTS = ("core", "policies", "backends")
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
        mine = "a back end" if rank(path) == BACK_END else path
        return None if mine == owner else f"only {owner or 'nobody'} may include it"
    mine, other = rank(path), rank(target)
    if other is None:
        return "it is no part of the library; includes start at the root: \"core/types.h\""
    if mine in (BACK_END, POLICY) and other in (BACK_END, POLICY):
        own = "/".join(path.split("/")[:2]) + "/"
        return None if target.startswith(own) else "a plug-in sees core and itself, no other plug-in"
    if other in (BACK_END, POLICY):
        return "core sees plug-ins only through gen/backend.h and gen/frontend.h"
    if other > mine or (other == mine and mine not in SHARED and module_of(path) != module_of(target)):
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


# ── Calls ───────────────────────────────────────────────────────────────────────────────────────────

NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|^[ \t]*#[ \t]*include[^\n]*', re.DOTALL | re.MULTILINE)
# A function's name at its definition: the last one before parentheses and an opening brace at the line's start.
DEFINITION = re.compile(r"^(?!static (?!inline))[A-Za-z_][^;{}()=#]*?\b(\w+)\((?:[^;{}]|\{\})*?\)[^;{}()=]*\n\{", re.MULTILINE)
NAME = re.compile(r"[A-Za-z_]\w*")
# What a file declares weak is a hook, which a file above it may fill.
HOOK = re.compile(r"^extern\b[^;{]*?(\w+)\)?\([^;{]*weak", re.MULTILINE)
STATIC = re.compile(r"^static\b[^;{}()=#]*?\b(\w+)\(", re.MULTILINE)
DECLARED = re.compile(r"\b(\w+)\([^;{}]*\)[^;{}]*;")

# A call of these is none to the file that defines them: the first end the process; what a contract declares is called
# through the contract.
ENDS, CONTRACTS = "core/assert.h", ("core/backend.h", "core/frontend.h", "core/store.h", "core/space.h", "core/space_slabs.h")


def code_of(text: str) -> str:
    """A source without comments, texts and includes, line by line as before."""
    return NOISE.sub(lambda match: "\n" * match[0].count("\n"), text)


def bodies_of(code: str) -> str:
    """What is said within braces, macros and initializers, line by line as before: a declaration calls nothing."""
    out, depth, statement = [], 0, ""
    for line in code.splitlines():
        at_start = depth
        if line.lstrip().startswith("#"):
            out.append(line)
            continue
        depth += line.count("{") - line.count("}")
        statement = line if at_start == 0 and not statement else f"{statement} {line}"
        keeps = at_start > 0 or "{" in line and depth >= 0 and "=" in line or "=" in statement
        out.append(line if keeps else "")
        if depth == 0 and line.rstrip().endswith((";", "}")):
            statement = ""
    return "\n".join(out)


def module_of(path: str) -> str:
    """A header and its source are one."""
    return path.rsplit(".", 1)[0]


def are_strangers(module: str, other: str) -> bool:
    """Whether the second is of a plug-in that is not the first's. Core calls a plug-in's function only where a header of
    its own declares it, and so through a contract."""
    return not other.startswith("core/") and module.split("/")[:2] != other.split("/")[:2]


class Calls:
    """Which module calls which: {module: {called module: (place, function)}}."""

    def __init__(self, root: Path):
        paths = [str(path.relative_to(root)) for folder in PARTS for path in sorted((root / folder).rglob("*.[ch]"))]
        paths = [path for path in paths if not path.startswith(PUBLIC) and not path.split("/")[-1].startswith("test_")]
        code = {path: code_of((root / path).read_text(encoding="utf-8")) for path in paths}
        exempt = set(DECLARED.findall("".join(code.get(path, "") for path in (ENDS, *CONTRACTS))))
        home: "dict[str, set[str]]" = {}
        for path, text in code.items():
            for name in DEFINITION.findall(text):
                if name not in exempt:
                    home.setdefault(name, set()).add(module_of(path))
        self.edges: "dict[str, dict[str, tuple[str, str]]]" = {}
        for path, text in code.items():
            module = module_of(path)
            own = {*HOOK.findall(text), *STATIC.findall(text)}
            to = self.edges.setdefault(module, {})
            for number, line in enumerate(bodies_of(text).splitlines(), 1):
                for name in NAME.findall(line):
                    for other in home.get(name, ()):
                        if name not in own and other != module and not are_strangers(module, other):
                            to.setdefault(other, (f"{path}:{number}", name))

    def circles(self) -> "list[list[str]]":
        """Modules of one layer that call each other, however many are between: each circle once, as short as it can
        be."""
        found: "list[list[str]]" = []
        for start in sorted(self.edges):
            before, queue = {start: ""}, [start]
            for module in queue:
                for other in self.edges.get(module, {}):
                    if rank(f"{other}.c") > rank(f"{module}.c"):
                        continue  # a problem of its own
                    if other == start:
                        circle = [module]
                        while before[circle[0]]:
                            circle.insert(0, before[circle[0]])
                        if not any(set(circle) == set(known) for known in found):
                            found.append(circle)
                        break
                    if other not in before:
                        before[other] = module
                        queue.append(other)
                else:
                    continue
                break
        return found


def check_calls(root: Path) -> "list[str]":
    """Calls upwards, and circles of calls."""
    calls = Calls(root)
    problems = []
    for module, to in sorted(calls.edges.items()):
        for other, (place, name) in sorted(to.items()):
            if rank(f"{other}.c") > rank(f"{module}.c"):
                problems.append(f"{place}: {name}() is {other}.c's, which stands above {module}.c: a call points downwards")
    for circle in calls.circles():
        steps = []
        for module, other in zip(circle, circle[1:] + circle[:1]):
            place, name = calls.edges[module][other]
            steps.append(f"{place} calls {name}() of {other}")
        problems.append(f"{' -> '.join(circle)}: calls go in a circle: {'; '.join(steps)}")
    return problems


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
    for folder in PARTS:
        for file in sorted((root / folder).rglob("*.[ch]")):
            if not file.name.startswith("test_"):
                problems += check_file(root, str(file.relative_to(root)))
    return problems + check_calls(root) + check_names(root)


def main(arguments: "list[str]") -> int:
    folders = [Path(word) for word in arguments] or [Path(__file__).resolve().parent.parent.parent]
    problems = [problem for folder in folders for problem in check(folder)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
