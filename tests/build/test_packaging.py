# SPDX-License-Identifier: MIT
"""What is installed and packaged works, from the words of doc/using.md."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import configuration
import pairs
import suite
from tree import ROOT, SECONDS, TreeTest, in_matrix

PROGRAM = """#include "hakmem.h"
#include <stdio.h>
#include <stdlib.h>
int main(void) { free(malloc(100)); puts(hak_config()); return 0; }
"""


def manual_page(section: int) -> str:
    return f""".TH HAKMEM {section} "2026-01-01" "hakmem" "HAKMEM"
.SH NAME
hakmem \\- malloc that is composed at build time
.SH DESCRIPTION
A page of section {section}.
"""


def blocks(heading: str) -> "dict[str, str]":
    """The examples below a heading of doc/using.md, by language."""
    page = (ROOT / "doc/using.md").read_text()
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page, re.MULTILINE | re.DOTALL)[1]
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


def files_below(folder: Path) -> "list[str]":
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file())


class Packaging(TreeTest):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="hakmem-packaging-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_in(self, script: str, **variables) -> str:
        done = subprocess.run(
            ["/bin/sh", "-euc", script],
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        self.assertEqual(done.returncode, 0, f"{script}\n{done.stdout}")
        return done.stdout


class Installing(Packaging):
    def install(self, *words, what="install", **more) -> str:
        return self.tree.scons("-Q", "CONFIG=default", *words, what, **more)

    def test_examples(self):
        prefix = self.folder / "usr/local"
        self.install(f"PREFIX={prefix}")

        def example(heading, language="sh"):
            return blocks(heading)[language].replace("/usr/local", str(prefix))

        (self.folder / "hello.c").write_text(example("A program that is linked with it", "c"))
        (self.folder / "CMakeLists.txt").write_text(example("With CMake", "cmake"))
        for heading in ("With pkg-config", "Statically", "With CMake"):
            with self.subTest(heading):
                said = self.run_in(example(heading)).splitlines()
                self.assertRegex(said[-1], r"^112 bytes of hakmem ")
        out = self.run_in("readelf -d out/hello out/hello-static | grep NEEDED")
        self.assertEqual(out.count("[libhakmem.so.0]"), 1)

        (self.folder / "nodes.cc").write_text(example("With inlined hit paths", "cpp"))
        self.assertRegex(self.run_in(example("With inlined hit paths")), r"^116 bytes of hakmem ")
        with self.subTest("LD_PRELOAD"):
            said = self.run_in(example("A program as it is: LD_PRELOAD"), HAKMEM_VERSION="1")
            self.assertIn("hakmem 0.1.0 ", said)
            self.assertNotIn("cannot be preloaded", said)
        with self.subTest("systemd"):
            drop_in = self.folder / "example.service.d/hakmem.conf"
            drop_in.parent.mkdir()
            drop_in.write_text(example("A service: systemd", "ini"))
            (self.folder / "example.service").write_text("[Service]\nExecStart=/bin/true\n")
            preload = re.search(r"^\[Service\]\nEnvironment=LD_PRELOAD=(\S+)$", drop_in.read_text(), re.MULTILINE)[1]
            self.assertTrue(Path(preload).exists())
            self.assertEqual(self.run_in("systemd-analyze verify ./example.service"), "")

        self.install(f"PREFIX={prefix}", what="uninstall")
        self.assertEqual(files_below(prefix), [])
        self.assertFalse((prefix / "include/hakmem").exists() or (prefix / "lib/cmake/hakmem").exists())

    def test_places(self):
        root = self.folder
        other = root / "opt/include/hakmem/of-another.h"
        other.parent.mkdir(parents=True)
        other.touch()
        for section in (3, 7):
            self.tree.write(f"doc/man/hakmem.{section}", manual_page(section))
        words = (f"DESTDIR={root}", "PREFIX=/opt/", "LIBDIR=/opt/lib/x86", "CONFIG=default")
        self.tree.make("install", *words)
        self.assertEqual(
            files_below(root / "opt"),
            [
                "include/hakmem/hakmem.h",
                "include/hakmem/inline.h",
                "include/hakmem/of-another.h",
                "include/hakmem/stats.h",
                "lib/x86/cmake/hakmem/hakmem-config-version.cmake",
                "lib/x86/cmake/hakmem/hakmem-config.cmake",
                "lib/x86/libhakmem.a",
                "lib/x86/libhakmem.so",
                "lib/x86/libhakmem.so.0",
                "lib/x86/libhakmem.so.0.1.0",
                "lib/x86/pkgconfig/hakmem.pc",
                "share/man/man3/hakmem.3",
                "share/man/man7/hakmem.7",
            ],
        )
        self.assertEqual(os.readlink(root / "opt/lib/x86/libhakmem.so"), "libhakmem.so.0.1.0")
        self.assertEqual(os.readlink(root / "opt/lib/x86/libhakmem.so.0"), "libhakmem.so.0.1.0")
        self.assertIn("[libhakmem.so.0]", self.run_in("readelf -d opt/lib/x86/libhakmem.so | grep SONAME"))
        for name in ("pkgconfig/hakmem.pc", "cmake/hakmem/hakmem-config.cmake"):
            self.assertNotIn(str(root), (root / "opt/lib/x86" / name).read_text())
        self.assertIn("libdir=${prefix}/lib/x86\n", (root / "opt/lib/x86/pkgconfig/hakmem.pc").read_text())
        self.tree.make("uninstall", *words)
        self.assertEqual(files_below(root), ["opt/include/hakmem/of-another.h"])

    def test_pkg_config_and_cmake_say_what_was_composed(self):
        self.tree.write("configs/own_defconfig", "CONFIG_BACKEND_MMAP_ONLY=y\n# CONFIG_OVERRIDE_LIBC is not set\n")
        for config, names in (("default", "libc hak"), ("own", "hak")):
            asked = configuration.load(self.tree.root, self.tree.root / f"configs/{config}_defconfig", config)
            prefix = self.folder / config
            self.install(f"CONFIG={config}", f"PREFIX={prefix}")
            expected = {"frontend": asked.frontend, "backend": asked.backend, "names": names, "config_digest": asked.digest}
            for variable, value in expected.items():
                said = self.run_in(f"pkg-config --variable={variable} hakmem", PKG_CONFIG_PATH=f"{prefix}/lib/pkgconfig")
                self.assertEqual(said, f"{value}\n")
            script = self.folder / "CMakeLists.txt"
            script.write_text(
                "cmake_minimum_required(VERSION 3.13)\nproject(asks C)\nfind_package(hakmem REQUIRED)\n"
                'message("<${hakmem_FRONTEND} ${hakmem_BACKEND} ${hakmem_NAMES} ${hakmem_CONFIG_DIGEST}>")\n'
            )
            said = self.run_in(f"cmake -S . -B out-{config} -DCMAKE_PREFIX_PATH={prefix} 2>&1")
            self.assertIn(f"<{' '.join(expected.values())}>", said)

    def test_stripped(self):
        """Without debug information, and as good as with it."""
        self.install(f"PREFIX={self.folder}/whole")
        self.tree.make("install-strip", f"PREFIX={self.folder}/stripped", "CONFIG=default")
        for name in ("libhakmem.so.0.1.0", "libhakmem.a"):
            whole, stripped = (self.folder / kind / "lib" / name for kind in ("whole", "stripped"))
            sections = {kind: self.run_in(f"readelf -SW {kind}/lib/{name} 2>&1") for kind in ("whole", "stripped")}
            self.assertIn(".debug_info", sections["whole"])
            self.assertNotIn(".debug_", sections["stripped"])
            self.assertLess(stripped.stat().st_size, whole.stat().st_size / 2)
        (self.folder / "program.c").write_text(PROGRAM.replace('"hakmem.h"', "<hakmem/hakmem.h>"))
        self.run_in("cc -Istripped/include program.c stripped/lib/libhakmem.a -o static && ./static")
        self.assertEqual(
            *(self.run_in(f"nm -D --defined-only --format=just-symbols {kind}/lib/libhakmem.so") for kind in ("whole", "stripped"))
        )
        self.assertIn("hakmem 0.1.0", self.run_in("LD_PRELOAD=$PWD/stripped/lib/libhakmem.so /bin/true", HAKMEM_VERSION="1"))

    def test_places_that_cannot_be(self):
        for words, message in (
            (["PREFIX=usr"], "PREFIX=usr: this must be an absolute path"),
            (["DESTDIR=build/x"], "DESTDIR=build/x: this must be an absolute path"),
            (["LIBDIR=/usr/my lib"], "LIBDIR=/usr/my lib: only letters, digits and"),
            (["SANITIZE=thread"], "install: this is done without SANITIZE"),
            (["CONFIG=default,keep"], "install: this is done with one configuration"),
        ):
            with self.subTest(words):
                self.assertIn(message, self.install(*words, status=2))
        (self.folder / "file").touch()
        said = self.install(f"DESTDIR={self.folder}/file", status=2)
        self.assertIn(f"scons: install: {self.folder}/file: Not a directory", said)


class Debian(Packaging):
    def test_packages(self):
        if not all(map(shutil.which, ("dh", "lintian", "fakeroot"))):
            self.fail("debhelper, lintian and fakeroot are needed: make deps")
        for section in (3, 7):
            self.tree.write(f"doc/man/hakmem.{section}", manual_page(section))
        shutil.rmtree(self.tree.root / "build/deb", ignore_errors=True)
        self.tree.write("site_scons/revision", "0123456789abcdef0123456789abcdef01234567\n")
        self.tree.scons("-Q", "CONFIG=default", "deb", DEBEMAIL="t@debian.org")
        made = self.tree.root / "build/deb"
        found = sorted(path.name.split("_")[0] for path in made.glob("*.deb"))
        self.assertEqual(found, ["libhakmem-dev", "libhakmem0", "libhakmem0-dbgsym"])

        (changes,) = made.glob("*.changes")
        self.run_in(f"lintian --allow-root --fail-on error {changes}")

        for package in made.glob("*.deb"):
            self.run_in(f"dpkg-deb --extract {package} root")
        pages = sorted(path.name for path in (self.folder / "root/usr/share/man").glob("man*/*"))
        self.assertEqual(pages, ["hakmem.3.gz", "hakmem.7.gz"])
        (library,) = (self.folder / "root/usr/lib").glob("*/libhakmem.so.0")
        said = self.run_in(f"LD_PRELOAD={library} /bin/true", HAKMEM_VERSION="1")
        self.assertRegex(said, "^hakmem 0.1.0 .* revision 0123456789ab config ")
        (self.folder / "hello.c").write_text(blocks("A program that is linked with it")["c"])
        self.run_in(f"cc -Iroot/usr/include hello.c -L{library.parent} -lhakmem -o hello")
        self.assertIn("112 bytes of hakmem ", self.run_in("./hello", LD_LIBRARY_PATH=str(library.parent)))
        licence = " ".join((ROOT / "LICENSE").read_text().split("\n\n", 2)[2].split())
        copyright = (self.folder / "root/usr/share/doc/libhakmem0/copyright").read_text()
        self.assertIn(licence, " ".join(copyright.replace("\n .\n", "\n").split()))

    @in_matrix
    def test_packages_of_two_configurations_are_told_apart(self):
        shutil.rmtree(self.tree.root / "build/deb", ignore_errors=True)
        self.tree.write(".config", "CONFIG_DIRTY_MAX=33\n")
        self.tree.scons("-Q", "CONFIG=lowmem", "deb")
        self.tree.scons("-Q", "deb")
        said = {}
        for package in (self.tree.root / "build/deb").glob("libhakmem*.deb"):
            name, version, _ = package.name.split("_")
            said[name, version] = self.run_in(f"dpkg-deb --field {package} Description")
        digests = {
            name: configuration.load(ROOT, self.tree.root / file, file).digest
            for name, file in (("lowmem", "configs/lowmem_defconfig"), ("local", ".config"))
        }
        versions = {"lowmem": "0.1.0+lowmem", "local": f"0.1.0+local.{digests['local']}"}
        self.assertEqual(set(said), {(f"libhakmem{end}", v) for end in ("0", "-dev", "0-dbgsym") for v in versions.values()})
        for config, pair in (("lowmem", "front end unified, back end mmap_only"), ("local", "front end unified, back end superslab")):
            for package in ("libhakmem0", "libhakmem-dev"):
                text = " ".join(said[package, versions[config]].split())
                self.assertIn(f"({config})", text.split(" HAKMEM is")[0])
                self.assertIn(f"This is the configuration {config}: {pair}, with libc's", text)
                self.assertIn(digests[config], text)

    def test_a_function_that_is_not_listed_stops_it(self):
        symbols = self.tree.root / "site_scons/debian/libhakmem0.symbols"
        symbols.write_text(symbols.read_text().replace(" hak_free@Base 0.1.0\n", ""))
        said = self.tree.scons("-Q", "CONFIG=default", "deb", status=2)
        self.assertIn("+ hak_free@Base 0.1.0", said)


class Amalgamation(Packaging):
    def amalgamate(self, *configs: str) -> None:
        """Copies NAME.c, and hakmem.h, which all have in common, into the folder."""
        self.tree.scons("-Q", f"CONFIG={','.join(configs)}", "amalgamation")
        for config in configs:
            made = self.tree.root / f"build/{config}/amalgamation"
            shutil.copy2(made / "hakmem.c", self.folder / f"{config}.c")
            shutil.copy2(made / "hakmem.h", self.folder)

    def names(self, file: str) -> "list[str]":
        """What an object or a library has for others."""
        return self.run_in(f"nm --defined-only --extern-only --format=just-symbols {file}").split()

    def test_example(self):
        self.amalgamate("default")
        (self.folder / "default.c").rename(self.folder / "hakmem.c")
        (self.folder / "program.c").write_text(PROGRAM)
        script = blocks("One file: the amalgamation")["sh"]
        said = self.run_in(f"{script}\n./program\ncc -static -I. program.c hakmem.o -o static\n./static").splitlines()
        self.assertEqual(len(said), 2)
        for line in said:
            self.assertRegex(line, "^hakmem .* unified/superslab .* flags of whoever compiled the amalgamation$")
        self.assertIn("malloc", self.names("hakmem.o"))
        # What is not for others to see says so.
        hidden = self.run_in("readelf --symbols --wide hakmem.o")
        self.assertRegex(hidden, r"GLOBAL +HIDDEN +\d+ hak_thread_enter\n")
        self.assertRegex(hidden, r"GLOBAL +DEFAULT +\d+ hak_malloc\n")
        self.assertRegex(hidden, r"WEAK +DEFAULT +UND _ZSt15get_new_handlerv\n")
        self.run_in("cc -O2 -DHAKMEM_PREFIX_ONLY -c hakmem.c")
        self.assertIn("hak_malloc", self.names("hakmem.o"))
        self.assertNotIn("malloc", self.names("hakmem.o"))

    @in_matrix
    def test_every_pair_and_each_plugin_with_each_compiler(self):
        made = ["debug", "prefix"]
        once = ["debug", "prefix"]  # those that the other compiler has too: each policy and each back end is in one
        seen = set()
        self.tree.write("configs/debug_defconfig", "CONFIG_ASSERT_DEBUG=y\n")
        self.tree.write("configs/prefix_defconfig", "# CONFIG_OVERRIDE_LIBC is not set\n")
        for pair in pairs.all_pairs(ROOT, None, ""):
            if pair.config:
                made.append(pair.name.replace("-", "_"))
                self.tree.write(f"configs/{made[-1]}_defconfig", pair.config.text)
                if not {pair.config.frontend, pair.config.backend} <= seen:
                    once.append(made[-1])
                seen |= {pair.config.frontend, pair.config.backend}
        self.assertGreaterEqual(len(made), 8)
        self.amalgamate(*made)
        for config in made:
            for compiler in ("clang", "gcc") if config in once else ("gcc",):
                with self.subTest(f"{config}, {compiler}"):
                    command = f"{compiler} -O2 -Wall -Wextra -Werror -c {config}.c -o {config}.o"
                    self.assertEqual(self.run_in(command), "")
            self.assertEqual("malloc" in self.names(f"{config}.o"), config != "prefix")

    @in_matrix
    def test_contract(self):
        """The contract tests hold for the default one, and those that are about no one plug-in for the pair that has
        neither plug-in of it."""
        ours = configuration.load(ROOT, ROOT / "configs/default_defconfig", "configs/default_defconfig")
        other = next(
            pair.config
            for pair in pairs.all_pairs(ROOT, None, "")
            if pair.config and pair.config.frontend != ours.frontend and pair.config.backend != ours.backend
        )
        self.tree.write("configs/other_defconfig", other.text)
        # They bring a clock that they drive.
        clock = self.tree.root / "core/clock.c"
        self.addCleanup(clock.write_text, clock.read_text())
        clock.write_text("")
        self.amalgamate("default", "other")
        sources = {path.stem: path for path in (self.tree.root / "tests/contract").glob("*.c")}
        programs = sorted(name for name in sources if name.startswith("test_"))
        helpers = [str(path) for name, path in sources.items() if name not in programs and name != "stress"]

        def options(config: str) -> str:
            root = self.tree.root
            return f"-O2 -pthread -I{root} -I{root}/build/{config} -I{root}/core/include"

        def run(config: str, program: str) -> str:
            files = f"{sources[program]} {config}-all.o"
            return self.run_in(
                f"cc {options(config)} {files} -lcriterion -o {config}-{program} && ./{config}-{program} 2>&1"
            )

        for config in ("default", "other"):
            self.run_in(f"cc {options(config)} -DHAKMEM_PREFIX_ONLY -r -o {config}-all.o {config}.c {' '.join(helpers)}")
        # Some of them wait more than they compute.
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            said = {("default", p): pool.submit(run, "default", p) for p in programs}
            said |= {("other", p): pool.submit(run, "other", p) for p in programs if suite.is_run(p, set())}
        for what, output in said.items():
            with self.subTest(what):
                self.assertRegex(output.result(), r"Tested: .*[1-9].* \| Failing: .*\b0\b.* \| Crashing: ")

    def test_beside_another_malloc(self):
        """hak_malloc and jemalloc's malloc serve one process, each its own blocks."""
        self.tree.write("configs/prefix_defconfig", "# CONFIG_OVERRIDE_LIBC is not set\n")
        self.tree.scons("-Q", "CONFIG=prefix")
        self.amalgamate("prefix")
        built = self.tree.root / "build/prefix"
        flags = f"-O2 -Wall -Wextra -Werror -fno-builtin -pthread -I{built}/include {ROOT}/tests/build/beside.c"
        jemalloc = "-l:libjemalloc.so.2"
        for name, linked in (
            ("shared", f"-L{built} -Wl,-rpath,{built} -lhakmem"),
            ("archive", f"{built}/libhakmem.a"),
            ("amalgamation", "prefix.c"),
        ):
            # In either order, each has its own names.
            for order in (f"{linked} {jemalloc}", f"{jemalloc} {linked}"):
                with self.subTest(f"{name}: {order}"):
                    self.run_in(f"cc {flags} {order} -o beside")
                    self.assertEqual(self.run_in("./beside"), "both\n")
