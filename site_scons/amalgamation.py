# SPDX-License-Identifier: MIT
"""`scons amalgamation`: one composition as hakmem.c and hakmem.h, for any compiler run without flags.

The sources are put one after the other, each header once where it is first included. Names that a file keeps to itself
are unique (tests/build/statics.py); its macros end with it. What our build says by flags is said by pragmas and
attributes.
"""

import re
from pathlib import Path

from refusal import Refusal

INCLUDE = re.compile(r'#[ \t]*include[ \t]+(?:"([^"]+)"|<([^>]+)>)')
MACRO = re.compile(r"\s*#\s*define\s+(\w+)")
# What stands once, at the very beginning.
DROPPED = re.compile(r"#\s*define\s+_GNU_SOURCE\b|/\* SPDX-License-Identifier: MIT \*/")

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

#include "hakmem.h"

{system}
/* Only what is marked is seen outside, and where no policy needs a function it is not used. */
#pragma GCC visibility push(hidden)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
"""
TAIL = "\n#pragma GCC diagnostic pop\n#pragma GCC visibility pop\n"
OVERRIDE = """\
#ifndef HAKMEM_PREFIX_ONLY /* define it to get the hak_ names alone */
#pragma GCC visibility push(default)
{text}#pragma GCC visibility pop
#endif
"""


class Amalgamation:
    """What has been put together so far. `folders` are where headers are looked for."""

    def __init__(self, folders: "list[Path]"):
        self.folders = folders
        self.system: "set[str]" = set()
        self.seen: "set[Path]" = set()

    def find(self, name: str) -> Path:
        for folder in self.folders:
            if (folder / name).is_file():
                return (folder / name).resolve()
        raise Refusal(f'#include "{name}": found in none of {", ".join(map(str, self.folders))}')

    def text(self, path: Path, shown: str) -> str:
        """A file, with the files that it includes in their places; a header that was there already is left out."""
        if path in self.seen:
            return ""
        self.seen.add(path)
        before, body = [], [f"\n/* ── {shown} {'─' * max(3, 92 - len(shown))} */\n"]
        for line in path.read_text(encoding="utf-8").splitlines():
            match = INCLUDE.match(line)
            if match and match[1]:
                # A header may need what stands before it in another (core/backend.h, gen/backend.h).
                place = before if path.suffix == ".c" else body
                place.append(self.text(self.find(match[1]), match[1]))
            elif match and not match[2].startswith("hakmem/"):
                self.system.add(match[2])
            elif not match and not DROPPED.match(line):
                body.append(line)
        text = "\n".join(body) + "\n"
        if path.suffix == ".c":
            if path.stem.startswith("override"):
                text = OVERRIDE.format(text=text)
            macros = [match[1] for match in map(MACRO.match, body) if match]
            text += "".join(f"#undef {name}\n" for name in dict.fromkeys(macros))
        return "\n".join([*before, text])


def attributed(text: str) -> str:
    """What flags say in our build, as attributes; and what is known of the compiler and flags: nothing yet."""
    text = re.sub(r"\b_Thread_local\b", '_Thread_local __attribute__((tls_model("initial-exec")))', text)
    text = re.sub(r"(#define HAK_COMPILER ).*", r"\1__VERSION__", text)
    text = re.sub(r"(#define HAK_FLAGS_DIGEST ).*", r'\1"of whoever compiled the amalgamation"', text)
    # Within the hidden part, what is looked for elsewhere says so.
    return text.replace("__attribute__((weak))", '__attribute__((weak, visibility("default")))')


def text(folders: "list[Path]", sources: "list[Path]", identity: str) -> str:
    """The text of hakmem.c. `folders` are where headers are looked for, the root of the tree first."""
    made = Amalgamation(folders)
    shown = {path: str(path.relative_to(folder)) for folder in reversed(folders) for path in sources if folder in path.parents}
    parts = [made.text(path.resolve(), shown[path]) for path in sources]
    licence = (folders[0] / "LICENSE").read_text(encoding="utf-8").strip()
    head = HEAD.format(
        identity=identity,
        licence="\n".join(f" * {line}".rstrip() for line in licence.splitlines()),
        system="".join(f"#include <{name}>\n" for name in sorted(made.system)),
    )
    return attributed(head + "".join(parts) + TAIL)
