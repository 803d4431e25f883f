# SPDX-License-Identifier: MIT
"""hakmem/inline.h as the build makes it: for one library, and an #error where it cannot be."""

import re
import shutil

from tree import ROOT, TreeTest

PROGRAM = """#include <hakmem/inline.h>
#include <stdio.h>
int main(void)
{
    for (int i = 0; i < 10000; i++) {
        void *block = hak_inline_malloc(64), *other = hak_malloc(64);
        hak_free(block);
        hak_inline_free(other);
    }
    puts(hak_config());
    return 0;
}
"""


class Header(TreeTest):
    def compile(self, name, status=0):
        self.tree.write("program.c", PROGRAM)
        flags = [f"-Ibuild/{name}/include", f"-Lbuild/{name}", "-lhakmem", f"-Wl,-rpath,{self.tree.root}/build/{name}"]
        return self.tree.command("gcc", "-O2", "-Wall", "-Werror", "program.c", *flags, "-o", f"program-{name}", status=status)

    def test_where_hits_are_observed_it_says_why_it_is_not(self):
        self.tree.write("configs/record_defconfig", "CONFIG_RECORD=y\n")
        self.tree.write("configs/hits_defconfig", "CONFIG_TRACE=y\nCONFIG_TRACE_HITS=y\n")
        self.tree.scons("CONFIG=record,hits")
        for name, option in (("record", "RECORD"), ("hits", "TRACE_HITS")):
            said = self.compile(name, status=1)
            self.assertRegex(said, rf"error: #error \"hakmem/inline.h: the library .*: build it without CONFIG_{option}, or use hakmem/hakmem.h\"")
            names = self.tree.command("nm", "-D", f"build/{name}/libhakmem.so")
            self.assertNotIn("hak_inline", names)

    def test_a_plug_in_without_a_hit_path_to_inline(self):
        shutil.copytree(ROOT / "doc/examples/policies/shelf", self.tree.root / "policies/shelf")
        self.tree.write("configs/shelf_defconfig", "CONFIG_FRONTEND_SHELF=y\n")
        self.tree.scons("CONFIG=shelf", "build/shelf/include/hakmem/inline.h")
        said = self.tree.command("gcc", "-fsyntax-only", "-Ibuild/shelf/include", "-x", "c", "build/shelf/include/hakmem/inline.h", status=1)
        having = ", ".join(sorted(path.parent.name for path in ROOT.glob("policies/*/inline.h.in")))
        self.assertIn(f"policies/shelf has no hit path to inline: choose one of {having}, or use", said)

    def test_each_layout_has_a_name_of_its_own(self):
        """Options, the sources of the layout, and nothing else."""
        def name():
            self.tree.scons("CONFIG=default", "build/default/gen/inline.h")
            return re.search(r"hak_inline_heap_(\w+)", (self.tree.root / "build/default/gen/inline.h").read_text())[1]

        first = name()
        self.tree.append("core/os.c", "/* changed */\n")
        self.assertEqual(name(), first)
        self.tree.append("core/bins.h", "/* changed */\n")
        second = name()
        self.assertNotEqual(second, first)
        self.tree.append("configs/default_defconfig", "CONFIG_DIRTY_MAX=32\n")
        self.assertNotIn(name(), (first, second))

    def test_another_hakmem_before_its_own(self):
        """It takes the place of the program's, as it has the same SONAME: the program does not start."""
        self.tree.write("configs/other_defconfig", "CONFIG_CLASS_STEPS_8=y\n")
        self.tree.scons("CONFIG=default,other")
        self.compile("default")
        program = str(self.tree.root / "program-default")
        self.assertIn("hakmem 0.1.0 ", self.tree.command(program))
        said = self.tree.command(program, LD_PRELOAD=str(self.tree.root / "build/other/libhakmem.so"), status=127)
        self.assertIn("undefined symbol: hak_inline_heap_", said)
