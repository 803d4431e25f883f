# SPDX-License-Identifier: MIT
"""`scons deb`: Debian packages of one configuration, made by Debian's tools.

site_scons/debian/ has what Debian's debian/ is made of: what depends on the configuration is written here.
"""

import email.utils
import os
import shutil
import subprocess
from pathlib import Path

TOOLS = {"dpkg-buildpackage": "dpkg-dev", "dh": "debhelper"}
# What the library is built from, and what the packages say of it.
SOURCES = ("Kconfig", "SConstruct", "CHANGELOG.md", "LICENSE", "README.md")
FOLDERS = ("backends", "bench", "configs", "core", "doc", "policies", "site_scons", "tests")


NOBODY = "hakmem@hakmem.invalid"  # packages for oneself; who gives them to others sets DEBEMAIL


def missing() -> "list[str]":
    """The Debian packages with tools that are not here."""
    return [package for tool, package in TOOLS.items() if not shutil.which(tool)]


def maintainer() -> str:
    """Who makes the packages, as Debian's tools are told."""
    return f"{os.environ.get('DEBFULLNAME', 'The HAKMEM authors')} <{os.environ.get('DEBEMAIL', NOBODY)}>"


def changelog_text(version: str, time: int) -> str:
    return f"""hakmem ({version}) unstable; urgency=medium

  * Packaged by `scons deb`; what is new stands in the upstream changelog.

 -- {maintainer()}  {email.utils.formatdate(time)}
"""


def source_time(root: Path) -> int:
    """When the sources were committed, so that equal sources give equal packages; elsewhere, that of the
    changelog."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    asked = subprocess.run(
        ["git", "-C", str(root), "log", "-1", "--format=%ct"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    said = asked.stdout.strip()
    return int(said) if asked.returncode == 0 and said else int((root / "CHANGELOG.md").stat().st_mtime)


def symbols_text(text: str, override: bool, deepbind: bool) -> str:
    """The symbols file: without libc's and C++'s names where the library does not have them."""

    def is_there(line: str) -> bool:
        if line.startswith((" dlopen@", " dlmopen@")):
            return deepbind
        return override or not line.startswith(" ") or line.startswith(" hak_")

    return "".join(line for line in text.splitlines(keepends=True) if is_there(line))


def prepare(root: Path, version: str, config, tree: Path) -> None:
    """A source tree with a debian/ in it."""
    shutil.rmtree(tree.parent, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in SOURCES:
        shutil.copy2(root / name, tree / name)
    for name in FOLDERS:
        shutil.copytree(root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    # A plug-in from elsewhere is one of the tree here.
    for part, place in config.places.items():
        if not (tree / part).exists():
            shutil.copytree(place, tree / part)

    shutil.move(tree / "site_scons/debian", tree / "debian")
    (tree / "debian/changelog").write_text(changelog_text(version, source_time(root)))
    (tree / "debian/hakmem.config").write_text(config.text)
    control = tree / "debian/control"
    control.write_text(control.read_text().replace("@MAINTAINER@", maintainer()))
    symbols = tree / "debian/libhakmem0.symbols"
    symbols.write_text(symbols_text(symbols.read_text(), config.override, config.deepbind))
    # All manual pages are the -dev package's: two versions of a library's own package can be installed.
    pages = sorted({page.suffix[1:] for page in (root / "doc/man").glob("*.[1-9]")})
    with open(tree / "debian/libhakmem-dev.install", "a") as file:
        file.writelines(f"usr/share/man/man{section}\n" for section in pages)


def build(root: Path, version: str, config, cc: str) -> int:
    """SCons' action; 0 or 1. The packages are in build/deb/."""
    lacking = missing()
    if lacking:
        print(f"scons: deb needs Debian's tools: apt-get install {' '.join(lacking)} (`make deps` does)")
        return 1
    tree = root / f"build/deb/hakmem-{version}"
    prepare(root, version, config, tree)
    command = ["dpkg-buildpackage", "--build=binary", "--no-sign"]
    unset = ("CFLAGS", "CPPFLAGS", "LDFLAGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "DESTDIR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(command, cwd=tree, env={**environment, "CC": cc}, stdin=subprocess.DEVNULL)
    if done.returncode:
        print(f"scons: deb: dpkg-buildpackage failed; its tree is build/deb/hakmem-{version}")
        return 1
    shutil.rmtree(tree)
    for package in sorted(tree.parent.glob("*.deb")):
        print(f"DEB  build/deb/{package.name}")
    return 0
