# SPDX-License-Identifier: MIT
"""LTO=1, PGO=1 and MARCH=: builds of their own, which say what they are."""

import re
import shutil

import laboratory
import test_laboratory
from tree import TreeTest, in_matrix

TRAINED_BY = 'return [["/bin/true"], [f"{programs}/pair", "64", "1000"], [f"{programs}/larson", "1", "2", "2000"]]'


class Flavours(TreeTest):
    def flags(self, folder: str) -> str:
        library = self.tree.root / "build" / folder / "libhakmem.so"
        said = self.tree.command("/bin/true", LD_PRELOAD=str(library), HAKMEM_VERSION="1")
        return re.search(r" flags (\S+)$", said.strip())[1]

    def test_each_is_a_build_of_its_own(self):
        self.tree.scons("CONFIG=default")
        before = self.tree.built("default")
        self.tree.scons("CONFIG=default", "LTO=1", "MARCH=x86-64-v2")
        self.assertEqual(self.tree.built("default"), before)
        self.assertRegex(self.flags("default"), r"^[0-9a-f]{12}$")
        self.assertRegex(self.flags("default-lto-march=x86-64-v2"), r"^[0-9a-f]{12}\+lto\+march=x86-64-v2$")
        self.assertNotEqual(self.flags("default")[:12], self.flags("default-lto-march=x86-64-v2")[:12])

    def test_an_archive_for_programs_with_lto_and_without(self):
        for compiler, package in (("gcc", ""), ("clang", "ld.lld")):
            if package and not shutil.which(package):
                self.skipTest("lld is not installed")
            self.tree.scons("CONFIG=default", f"CC={compiler}", "LTO=1")
            self.tree.write("program.c", "#include <stdlib.h>\n#include <stdio.h>\nconst char *hak_config(void);\n"
                            "int main(void) { free(malloc(100)); puts(hak_config()); return 0; }\n")
            for flags in ([], ["-flto"]) if compiler == "gcc" else (["-flto", "-fuse-ld=lld"],):
                self.tree.command(compiler, "-O2", "-static", "-pthread", *flags, "program.c", "build/default-lto/libhakmem.a", "-o", "program")
                self.assertIn("+lto", self.tree.command("./program"))

    def trained(self, compiler: str) -> None:
        """With fewer workloads, which are no different to the build."""
        text = (self.tree.root / "site_scons/training.py").read_text()
        new = re.sub(r"    own = .*\n    return .*\n", f"    {TRAINED_BY}\n", text)
        self.assertNotEqual(new, text)
        self.tree.write("site_scons/training.py", new)
        self.tree.scons("CONFIG=default", f"CC={compiler}", "PGO=1")
        self.assertTrue(self.flags("default-pgo").endswith("+pgo"))
        before = self.tree.built("default-pgo")
        self.tree.scons("CONFIG=default", f"CC={compiler}", "PGO=1")
        self.assertEqual(self.tree.built("default-pgo"), before)
        library = (self.tree.root / "build/default-pgo/libhakmem.so").read_bytes()
        self.assertNotIn(b"__gcov_", library)
        self.assertNotIn(b"__llvm_profile", library)

    def test_trained_gcc(self):
        self.trained("gcc")
        counted = {path.stem for path in (self.tree.root / "build/default-pgo/training").rglob("*.gcda")}
        self.assertLessEqual({"override", "bins", "small"}, counted)

    @in_matrix
    def test_trained_clang(self):
        if not shutil.which("llvm-profdata"):
            self.skipTest("llvm is not installed")
        self.trained("clang")

    def test_a_workload_that_fails_stops_it(self):
        text = (self.tree.root / "site_scons/training.py").read_text()
        self.tree.write("site_scons/training.py", re.sub(r"    own = .*\n    return .*\n", '    return [["/bin/false"]]\n', text))
        self.assertIn("scons: PGO: exit status 1: /bin/false", self.tree.scons("CONFIG=default", "PGO=1", status=2))

    def test_what_cannot_be_is_said(self):
        for words, message in (
            (["LTO=maybe"], "Invalid value for boolean"),
            (["MARCH=pdp11"], "scons: MARCH=pdp11: gcc does not know this processor\nvalid arguments to '-march=' switch are: "),
            (["MARCH=a b"], "scons: MARCH=a b: this is one word"),
            (["LTO=1", "SANITIZE=thread"], "lto: not with SANITIZE=thread"),
            (["PGO=1", "deb"], "deb: a package has the library's own flags alone: without pgo"),
            (["LTO=1", "ab"], "lto: say it of a side: A=default B=default+LTO=1"),
        ):
            with self.subTest(words):
                self.assertIn(message, self.tree.scons("-Q", "CONFIG=default", *words, status=2))


class Sides(TreeTest):
    def test_of_the_laboratory(self):
        (a, b) = test_laboratory.sides(A="default", B="default+LTO=1+CONFIG_REFILL_BATCH=16+MARCH=x86-64-v3")
        self.assertEqual(b.argument, "build/default+LTO=1+CONFIG_REFILL_BATCH=16+MARCH=x86-64-v3/libhakmem.so")
        self.assertEqual(b.flags, {"LTO": True, "MARCH": "x86-64-v3"})
        self.assertEqual(test_laboratory.options(b)["CONFIG_REFILL_BATCH"], "16")
        self.assertEqual(a.flags, {})

    def test_refused(self):
        for wish in ("default+LTO=yes", "default+PGO=0", "default+MARCH=", "default+MARCH=a b"):
            with self.assertRaisesRegex(laboratory.WishError, r"write \+LTO=1, \+PGO=1 or \+MARCH=PROCESSOR"):
                test_laboratory.sides(B=wish)

    def test_built_and_named_by_their_flags(self):
        said = self.tree.scons("-n", "ab", "A=default", "B=default+LTO=1", "VERBOSE=yes")
        plain = [line for line in said.splitlines() if "-o build/default/core/os.o" in line]
        whole = [line for line in said.splitlines() if "-o build/default+LTO=1/core/os.o" in line]
        self.assertTrue(plain and "-flto" not in plain[0])
        self.assertTrue(whole and "-flto" in whole[0])
