# SPDX-License-Identifier: MIT
"""`scons deb`: Debian packages of one configuration, made by Debian's tools.

site_scons/debian/ is the source of debian/; this module writes the parts that depend on the configuration.
"""

import email.utils
import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import generated

TOOLS = {"dpkg-buildpackage": "dpkg-dev", "dh": "debhelper"}
# What goes into the packages' source tree.
SOURCES = ("Kconfig", "SConstruct", "CHANGELOG.md", "LICENSE", "README.md")
FOLDERS = ("backends", "bench", "configs", "core", "doc", "policies", "site_scons", "tests")


NOBODY = "hakmem@hakmem.invalid"  # for packages that are not given to others; DEBEMAIL names a maintainer


def missing() -> "list[str]":
    """The Debian packages whose tools are missing."""
    return [package for tool, package in TOOLS.items() if not shutil.which(tool)]


def maintainer() -> str:
    """The maintainer, from the variables that Debian's tools use."""
    return f"{os.environ.get('DEBFULLNAME', 'The HAKMEM authors')} <{os.environ.get('DEBEMAIL', NOBODY)}>"


def package_version(version: str, name: str, config) -> str:
    """Packages of two configurations differ in their version, so that both can lie in one folder, and so that packages
    of the same configuration are installed together. A .config has only its digest as a name."""
    said = f"local.{config.digest}" if name == "local" else name.replace("_", ".")
    return f"{version}+{said}"


def description_text(name: str, config) -> str:
    """The composition, as a paragraph of a package description."""
    names = "libc's and C++'s names and hak_malloc's" if "OVERRIDE_LIBC" in config.enabled else "hak_malloc and the like alone, not malloc"
    said = f"This is the configuration {name}: front end {config.frontend}, back end {config.backend}, with {names} " \
           f"(digest {config.digest})."
    return "\n".join(f" {line}" for line in textwrap.wrap(said, 78))


def changelog_text(version: str, described: str, time: int) -> str:
    return f"""hakmem ({version}) unstable; urgency=medium

  * Packaged by `scons deb`; what is new stands in the upstream changelog.
  * {described}

 -- {maintainer()}  {email.utils.formatdate(time)}
"""


def source_time(root: Path) -> int:
    """The time of the commit, so that equal sources give equal packages; outside of git, the changelog's."""
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


def symbols_text(text: str, enabled: "frozenset[str]", version: str) -> str:
    """The symbols file: without libc's and C++'s names where the library does not have them. A program that has inlined hits
    depends on this very version."""

    def is_there(line: str) -> bool:
        if line.startswith((" dlopen@", " dlmopen@")):
            return "DEEPBIND" in enabled
        return "OVERRIDE_LIBC" in enabled or not line.startswith(" ") or line.startswith((" hak_", " (optional"))

    return "".join(line for line in text.replace("@VERSION@", version).splitlines(keepends=True) if is_there(line))


def prepare(root: Path, version: str, name: str, config, tree: Path) -> None:
    """Makes a source tree with debian/ in it, and removes older packages of this configuration."""
    shutil.rmtree(tree, ignore_errors=True)
    version = package_version(version, name, config)
    for old in tree.parent.glob(f"*_{version}_*"):
        old.unlink()
    tree.mkdir(parents=True)
    for source in SOURCES:
        shutil.copy2(root / source, tree / source)
    for folder in FOLDERS:
        shutil.copytree(root / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    make_writable(tree)
    revision = generated.revision(root, config.places.values())
    (tree / generated.ARCHIVED).write_text(f"{revision}\n")
    # A plug-in from PLUGINS becomes a part of this tree.
    for part, place in config.places.items():
        if not (tree / part).exists():
            shutil.copytree(place, tree / part)

    shutil.move(tree / "site_scons/debian", tree / "debian")
    described = f"Configuration {name}: {config.frontend}, {config.backend}."
    (tree / "debian/changelog").write_text(changelog_text(version, described, source_time(root)))
    (tree / "debian/hakmem.config").write_text(config.text)
    control = tree / "debian/control"
    said = {"@MAINTAINER@": maintainer(), " @CONFIGURATION@": description_text(name, config), "@NAME@": name}
    text = control.read_text()
    for place, words in said.items():
        text = text.replace(place, words)
    control.write_text(text)
    symbols = tree / "debian/libhakmem0.symbols"
    symbols.write_text(symbols_text(symbols.read_text(), config.enabled, version))
    # All manual pages are the -dev package's: two versions of a library's own package can be installed.
    pages = sorted({page.suffix[1:] for page in (root / "doc/man").glob("*.[1-9]")})
    with open(tree / "debian/libhakmem-dev.install", "a") as file:
        file.writelines(f"usr/share/man/man{section}\n" for section in pages)


def make_writable(tree: Path) -> None:
    """Copies of read-only sources must be writable."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)


def build(root: Path, version: str, product, folder: Path, cc: str) -> int:
    """SCons' action; 0 or 1. The packages come into the folder."""
    lacking = missing()
    if lacking:
        print(f"scons: deb needs Debian's tools: apt-get install {' '.join(lacking)} (`make deps` does)")
        return 1
    tree = folder / f"hakmem-{version}"
    prepare(root, version, product.name, product.config, tree)
    command = ["dpkg-buildpackage", "--build=binary", "--no-sign"]
    unset = ("CFLAGS", "CPPFLAGS", "LDFLAGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "DESTDIR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(command, cwd=tree, env={**environment, "CC": cc}, stdin=subprocess.DEVNULL)
    shown = os.path.relpath(folder, root) if root in folder.parents else folder
    if done.returncode:
        print(f"scons: deb: dpkg-buildpackage failed; its tree is {shown}/{tree.name}")
        return 1
    shutil.rmtree(tree)
    for package in sorted(folder.glob(f"*_{package_version(version, product.name, product.config)}_*.deb")):
        print(f"DEB  {shown}/{package.name}")
    return 0
