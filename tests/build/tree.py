# SPDX-License-Identifier: MIT
"""The base of the build's tests: a copy of the sources in which anything may be changed."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = (
    "CHANGELOG.md", "Kconfig", "LICENSE", "Makefile", "README.md", "SConstruct", "backends", "bench", "configs", "core", "doc", "policies", "site_scons", "tests",
)
# Most tests want a library, and it is the same one in most copies. Objects that one of them has compiled the others take
# from SCons's derived-file cache, for equal sources and commands, and say that they compile them all the same. It exists
# while tests/build/run does.
CACHE = "HAKMEM_TEST_BUILD_CACHE"
# Not empty: the tests run that are left to continuous integration.
IN_MATRIX = "HAKMEM_TEST_MATRIX"
USE_CACHE = f"""
import os
import SCons.CacheDir
import SCons.Environment
import SCons.Script.Main

cache = os.environ.get("{CACHE}", "")
if cache and os.access(cache, os.R_OK):
    SCons.Script.Main.OptionsParser.values.cache_show = True
    # Root builds another's tree as that other, who may read only.
    SCons.Script.Main.OptionsParser.values.cache_readonly = (
        not os.access(cache, os.W_OK) or os.geteuid() == 0 and os.stat(".").st_uid != 0
    )
    SCons.Environment.Base._CacheDir_path = cache
    retrieve = SCons.CacheDir.CacheDir.retrieve
    SCons.CacheDir.CacheDir.retrieve = lambda self, node: node.name.endswith(".o") and retrieve(self, node)
"""
def in_matrix(test):
    """Decorates a test of combinations whose parts have shorter ones: `make test` leaves it to MATRIX=yes."""
    return unittest.skipUnless(os.environ.get(IN_MATRIX), "a test of MATRIX=yes, or by its name")(test)


def write_cache_configuration(folder: Path) -> None:
    """Several builds begin at once, and the first one's is no good to the others until SCons has written it. Users other
    than the one that runs the tests may read what there is."""
    folder.chmod(0o755)
    (folder / "config").write_text('{"prefix_len": 2}\n')


SITE = "site_scons/site_init.py"

SECONDS = 3000  # what has not ended by then hangs

# Variables of the user's own builds, which must not reach the tests.
OWN_VARIABLES = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "AR", "PYTHON", "KCONFIG_CONFIG", "PLUGINS", "SCONSFLAGS", "SCONS_ARGS")
MAKE_VARIABLES = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "JOBS")


class Tree:
    """A copy of the sources, without .git, without anything that was built.

    compiles: whether it compiles all that it builds itself."""

    def __init__(self, compiles=False):
        self._folder = tempfile.TemporaryDirectory(prefix="hakmem-build-")
        self.root = Path(self._folder.name) / "tree"
        self.root.mkdir()
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, self.root / name)
        if not compiles:
            self.write(SITE, USE_CACHE)

    def remove(self):
        self._folder.cleanup()

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def append(self, path: str, text: str) -> None:
        with open(self.root / path, "a") as file:
            file.write(text)

    def command(self, *words, status=0, **variables) -> str:
        """Runs a command at the root and returns all that it says; another exit status is a failure."""
        environment = {k: v for k, v in os.environ.items() if k not in OWN_VARIABLES + MAKE_VARIABLES}
        done = subprocess.run(
            words,
            cwd=self.root,
            env={**environment, "LC_ALL": "C.UTF-8", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        if status is not None and done.returncode != status:
            raise AssertionError(f"{' '.join(words)}: exit status {done.returncode}, not {status}\n{done.stdout}")
        return done.stdout

    def scons(self, *words, status=0, **variables) -> str:
        return self.command("/usr/bin/scons", "-j2", *words, status=status, **variables)

    def make(self, *words, status=0, **variables) -> str:
        return self.command("make", *words, status=status, **variables)

    def git(self, *words) -> str:
        return self.command("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words)

    def built(self, folder: str) -> "dict[str, int]":
        """When each file of a build was last written."""
        root = self.root / "build" / folder
        return {str(f.relative_to(root)): f.stat().st_mtime_ns for f in root.rglob("*") if f.is_file()}


def compiled(output: str) -> "set[str]":
    """The objects that SCons said it compiled, without build/<config>/."""
    return set(re.findall(r"^CC   build/\w+/(.*)\.o$", output, re.MULTILINE))


class TreeTest(unittest.TestCase):
    """Tests that share one copy, in which `default` is built."""

    def __init_subclass__(cls):
        cls.tree = None

    @classmethod
    def setUpClass(cls):
        cls.tree = Tree()
        cls.addClassCleanup(cls.tree.remove)

    def setUp(self):
        """Each test starts from the sources as they are, and without a .config; what is built stays."""
        for name in SOURCES:
            mine, theirs = self.tree.root / name, ROOT / name
            if theirs.is_file():
                shutil.copy2(theirs, mine)
                continue
            known = {str(f.relative_to(theirs)) for f in theirs.rglob("*") if f.is_file()}
            for file in [f for f in mine.rglob("*") if f.is_file()]:
                path = str(file.relative_to(mine))
                if f"{name}/{path}" == SITE:
                    continue
                if path not in known:
                    file.unlink()
                elif file.read_bytes() != (theirs / path).read_bytes():
                    shutil.copy2(theirs / path, file)
        for name in (".config", ".config.old", "defconfig"):
            (self.tree.root / name).unlink(missing_ok=True)
