# SPDX-License-Identifier: MIT
"""`scons amalgamation`: one composition as hakmem.c and hakmem.h, for any compiler run without flags.

The sources are put one after the other, each header once where it is first included. What only one file
could see by its static names is in sight of all then, so names that several files have are told apart,
and macros end with their file. What our build says by flags is said by pragmas and attributes.
"""

import re
from collections import Counter
from pathlib import Path

from refusal import Refusal

INCLUDE = re.compile(r'#[ \t]*include[ \t]+(?:"([^"]+)"|<([^>]+)>)')
# In this order: a quote in a comment begins no string.
TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)
      | (?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<directive>^[ \t]*\#(?:[^\n\\/]|\\.|/(?!\*)|/\*.*?\*/)*)
      | (?P<space>\s+)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<other>->|\d[\w.]*|.)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
TAGGED = ("struct", "union", "enum")
MACRO = re.compile(r"\s*#\s*define\s+(\w+)")

HEAD = """\
/* SPDX-License-Identifier: MIT */
/* {identity}
 *
 * One composition of HAKMEM in one file, made by `scons amalgamation`:
 *
 *     cc -O2 -c hakmem.c
 *
{licence}
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
"""


def tokens(text: str) -> "list[tuple[str, str]]":
    """(kind, text) of all that stands in a C text."""
    return [(match.lastgroup, match.group()) for match in TOKEN.finditer(text)]


def names_of_file(text: str) -> "tuple[set[str], set[str]]":
    """The ordinary names and the tags that a .c file declares at its outermost level and nobody else may
    see: static functions and objects, constants of enums, structs."""
    names, tags = set(), set()
    words = [(kind, word) for kind, word in tokens(text) if kind in ("name", "text", "other")]
    depth = 0
    static = in_enum = in_value = in_function = False
    for at, (kind, word) in enumerate(words):
        before = words[at - 1][1] if at else ""
        after = words[at + 1][1] if at + 1 < len(words) else ""
        if kind == "other" and word in "([{":
            if depth == 0:
                in_function = word == "{" and before == ")"
                # The braces of an enum, not those of a function that returns one.
                in_enum = word == "{" and "enum" in (before, words[at - 2][1] if at > 1 else "")
                # static void (*const name)(void): the name is the last in the parentheses.
                if static and not in_value and word == "(" and after == "*":
                    end = next(i for i in range(at, len(words)) if words[i][1] == ")")
                    names.add(words[end - 1][1])
            depth += 1
        elif kind == "other" and word in ")]}":
            depth -= 1
            if depth == 0 and word == "}":
                in_enum = False
                static = static and not in_function
        elif depth == 0 and word == ";":
            static = in_value = False
        elif depth == 0 and word in ("=", ","):
            in_value = word == "="
        elif depth == 0 and kind == "name":
            static = static or word == "static"
            if before in TAGGED:
                if after == "{":
                    tags.add(word)
            elif static and not in_value and after in ("(", "=", ";", ",", "[") and word != "__attribute__":
                if words[at + 1 : at + 3] != [("other", "("), ("other", "*")]:
                    names.add(word)
        elif depth == 1 and in_enum and kind == "name" and before in ("{", ","):
            names.add(word)
    return names, tags


def renamed(text: str, names: "dict[str, str]", tags: "dict[str, str]") -> str:
    """The text of a .c file with other names for what it declares. Members keep theirs."""
    out = []
    before = ""
    braces: "list[bool]" = []  # of each open brace: the body of a struct?
    brackets = 0
    is_body = False
    for kind, word in tokens(text):
        if kind == "directive":
            word = renamed_directive(word, names, tags)
        elif kind == "name":
            if before in TAGGED:
                word_out = tags.get(word, word)
            elif before in (".", "->") or braces and braces[-1] and not brackets:
                word_out = word
            else:
                word_out = names.get(word, word)
            if word in ("struct", "union"):
                is_body = True
            before, word = word, word_out
        elif kind in ("other", "text"):
            if word == "{":
                braces.append(is_body)
            elif word == "}" and braces:
                braces.pop()
            brackets += {"[": 1, "]": -1}.get(word, 0)
            if word in "{;=)(":
                is_body = False
            before = word
        out.append(word)
    return "".join(out)


def renamed_directive(text: str, names: "dict[str, str]", tags: "dict[str, str]") -> str:
    head = re.match(r"\s*#\s*\w+", text)[0]
    out, before = [head], ""
    for kind, word in tokens(text[len(head) :]):
        if kind == "name":
            new = tags.get(word, word) if before in TAGGED else word if before in (".", "->", "#") else names.get(word, word)
            before, word = word, new
        elif kind in ("other", "text"):
            before = word
        out.append(word)
    return "".join(out)


class Amalgamation:
    """What has been put together so far."""

    def __init__(self, folders: "list[Path]"):
        self.folders = folders
        self.system: "list[str]" = []
        self.seen: "set[Path]" = set()

    def find(self, name: str) -> Path:
        for folder in self.folders:
            if (folder / name).is_file():
                return (folder / name).resolve()
        raise Refusal(f'#include "{name}": found in none of {", ".join(map(str, self.folders))}')

    def headers_and_body(self, text: str) -> "tuple[list[str], str]":
        """The texts of what is included and not there yet, in order, and the text without its includes."""
        headers: "list[str]" = []
        lines = []
        for line in text.splitlines():
            match = INCLUDE.match(line)
            if match is None:
                # Feature macros stand at the very beginning, once.
                if not re.match(r"#\s*define\s+_GNU_SOURCE\b|/\* SPDX-License-Identifier: MIT \*/", line):
                    lines.append(line)
            elif match[2] and not match[2].startswith("hakmem/"):
                if match[2] not in self.system:
                    self.system.append(match[2])
            elif match[1] and not match[1].endswith(".c"):
                headers += self.header(match[1])
        return headers, "\n".join(lines).strip() + "\n"

    def header(self, name: str) -> "list[str]":
        """A header with what it includes before it, where it stands in the header's own order."""
        path = self.find(name)
        if path in self.seen:
            return []
        self.seen.add(path)
        # A header may include one in its midst that needs what stands before (core/backend.h, gen/backend.h).
        out, part = [], []
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines():
            if INCLUDE.match(line):
                inner, _ = self.headers_and_body(line)
                if inner:
                    part += ["", *"".join(inner).splitlines()]
            elif not re.match(r"/\* SPDX-License-Identifier: MIT \*/", line):
                part.append(line)
        out.append(f"\n/* ── {name} {'─' * max(3, 92 - len(name))} */\n" + "\n".join(part).strip() + "\n")
        return out


def attributed(text: str) -> str:
    """What flags say in our build, as attributes; and what is known of the compiler and flags: nothing yet."""
    text = re.sub(r"\b_Thread_local\b", '_Thread_local __attribute__((tls_model("initial-exec")))', text)
    text = re.sub(r"(#define HAK_COMPILER ).*", r"\1__VERSION__", text)
    text = re.sub(r"(#define HAK_FLAGS_DIGEST ).*", r'\1"of whoever compiled the amalgamation"', text)
    # Within the hidden part, what is looked for elsewhere says so.
    return text.replace("__attribute__((weak))", '__attribute__((weak, visibility("default")))')


def text(folders: "list[Path]", sources: "list[Path]", identity: str) -> str:
    """The text of hakmem.c. `folders` are where headers are looked for, the root of the tree first."""
    licence = (folders[0] / "LICENSE").read_text(encoding="utf-8")
    shown = {path: next(str(path.relative_to(folder)) for folder in folders if folder in path.parents) for path in [*sources, folders[0] / "core/malloc.c"]}
    made = Amalgamation(folders)
    # override.c includes malloc.c and uses its static functions: the two are one file.
    units: "list[list[tuple[str, str]]]" = []
    for source in sources:
        text = source.read_text(encoding="utf-8")
        included = [made.find(name) for name in re.findall(r'^#\s*include\s+"([^"]+\.c)"', text, re.MULTILINE)]
        units.append(
            [(str(shown.get(path, path.name)), path.read_text(encoding="utf-8")) for path in [*included, source]]
        )

    declared = [names_of_file("\n".join(text for _, text in unit)) for unit in units]
    often = [Counter(name for each in declared for name in each[which]) for which in (0, 1)]
    parts = []
    for unit, (names, tags) in zip(units, declared):
        suffix = re.sub(r"\W", "_", Path(unit[-1][0]).stem)
        new_names = {name: f"{name}_in_{suffix}" for name in names if often[0][name] > 1}
        new_tags = {tag: f"{tag}_in_{suffix}" for tag in tags if often[1][tag] > 1}
        macros = []
        for shown_as, text in unit:
            headers, body = made.headers_and_body(text)
            parts += headers
            is_override = Path(shown_as).stem.startswith("override")
            parts.append(f"\n/* ── {shown_as} {'─' * max(3, 92 - len(shown_as))} */\n")
            if is_override:
                parts.append("#ifndef HAKMEM_PREFIX_ONLY /* define it to get the hak_ names alone */\n")
                parts.append("#pragma GCC visibility push(default)\n")
            parts.append(renamed(body, new_names, new_tags))
            if is_override:
                parts.append("#pragma GCC visibility pop\n#endif\n")
            macros += [match[1] for match in map(MACRO.match, text.splitlines()) if match and match[1] != "_GNU_SOURCE"]
        parts += [f"#undef {name}\n" for name in dict.fromkeys(macros)]

    licence_lines = "\n".join(f" * {line}".rstrip() for line in licence.strip().splitlines())
    return attributed(
        HEAD.format(identity=identity, licence=licence_lines)
        + '\n#include "hakmem.h"\n\n'
        + "".join(f"#include <{name}>\n" for name in sorted(made.system))
        + "\n/* Only what is marked is seen outside, and where no policy needs a function it is not used. */\n"
        + "#pragma GCC visibility push(hidden)\n"
        + "#pragma GCC diagnostic push\n"
        + '#pragma GCC diagnostic ignored "-Wunused-function"\n'
        + "".join(parts)
        + "\n#pragma GCC diagnostic pop\n#pragma GCC visibility pop\n"
    )
