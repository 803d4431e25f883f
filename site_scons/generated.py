# SPDX-License-Identifier: MIT
"""The texts of build/<config>/gen/."""

import hashlib
import os
import re
import subprocess
from pathlib import Path

# The sources of the library: changes elsewhere do not count as modifications.
SOURCES = ["Kconfig", "SConstruct", "backends", "configs", "core", "policies", "site_scons"]


def include_text(parent: str, name: str) -> str:
    """A literal include: SCons follows it to find what depends on the plug-in, but not `#include MACRO`."""
    return f'#include "{parent}/{name}/{name}.h"\n'


def space_texts(name: str) -> "dict[str, str]":
    """Likewise the space's header and source, for a back end that does not bring its own."""
    return {f"space.{suffix}": f'#include "core/spaces/{name}/{name}.{suffix}"\n' for suffix in "hc" if name}


def identity_text(macros: "dict[str, str]") -> str:
    """String macros."""
    lines = []
    for name, value in macros.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'#define {name} "{escaped}"\n')
    return "".join(lines)


# What `git archive` and `scons deb` write into what they pack (.gitattributes).
ARCHIVED = "site_scons/revision"


def archived_revision(root: Path) -> str:
    """The revision that unpacked sources came with; "unknown" without one."""
    try:
        text = (root / ARCHIVED).read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"
    match = re.fullmatch(r"([0-9a-f]{12})[0-9a-f]*(-modified-[0-9a-f]{8})?", text)
    return match[1] + (match[2] or "") if match else "unknown"


def revision(root: Path, places: "list[Path]") -> str:
    """The commit of the sources. If they differ from it, or if a plug-in comes from elsewhere, "-modified-" and a digest
    of what differs follow. Outside of git, what an archive says of itself: changes after it was unpacked cannot be seen."""
    elsewhere = [file for place in places if root / place.parent.name != place.parent for file in place.rglob("*")]
    commit, changed = repository_revision(root)
    commit = commit or archived_revision(root)
    if commit == "unknown" or not changed and not elsewhere:
        return commit
    return f"{commit.partition('-')[0]}-modified-{digest_of([*changed, *elsewhere])}"


def digest_of(files: "list[Path]") -> str:
    """8 digits for the names and contents of files; one that was removed has no content."""
    digest = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes() if file.is_file() else b""
        digest.update(f"{file.name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:8]


def repository_revision(root: Path) -> "tuple[str, list[Path]]":
    """The commit of the git repository whose work tree the sources are, "" without one; the sources that differ."""

    def git(*words: str) -> str:
        done = subprocess.run(
            # Root may read what another user owns.
            ["git", "-c", f"safe.directory={root.resolve()}", "-C", str(root), *words],
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # nothing is written to the user's index
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    try:
        # Sources that were unpacked inside another project's repository have no revision of their own.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "", []
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("diff", "--name-only", "-z", "HEAD", "--", *SOURCES)
        new = git("ls-files", "-z", "--others", "--exclude-standard", "--", *SOURCES)
    except (OSError, subprocess.CalledProcessError):
        return "", []
    return commit, [root / name for name in (changed + new).split("\0") if name]


def write(target, source, env) -> None:
    """SCons action: writes the text of a Value node to a file, which appears only when it is complete."""
    file = str(target[0])
    with open(f"{file}.new", "w", encoding="utf-8") as out:
        out.write(source[0].read())
    os.replace(f"{file}.new", file)
