# SPDX-License-Identifier: MIT
"""Names that one file keeps to itself: what the check lets pass, what it refuses, and that this tree passes."""

import tempfile
import unittest
from pathlib import Path

import statics
from tree import ROOT


class Statics(unittest.TestCase):
    def problems(self, **files):
        """What is said of files by their paths, with __ for / and _c or _h for the end."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder) / f"{name[:-2].replace('__', '/')}.{name[-1]}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return statics.check(Path(folder))

    def test_this_tree(self):
        self.assertEqual(statics.check(ROOT), [])

    def test_a_function_begins_with_its_files_name(self):
        good = "static void {}(void)\n{{\n    for (;;)\n        other(1);\n}}\n"
        for name in ("extents_split", "extent_split"):
            self.assertEqual(self.problems(core__extents_c=good.format(name)), [])
        self.assertEqual(self.problems(core__override_cxx_c=good.format("cxx_new")), [])
        for name in ("split", "extensive", "other_split"):
            said = self.problems(core__extents_c="_Noreturn " + good.format(name))
            self.assertEqual(said, [f"core/extents.c: {name}: a static function begins with its file's name: extents_"])
        # What is no static function: a prototype that others see, a pointer, an attribute, a member, a local.
        self.assertEqual(self.problems(core__x_c="void f(void);\nstatic int (*const p)(int) = f;\nstatic int a __attribute__((unused));\n"
                                       "struct x {\n    int (*f)(int);\n};\nvoid g(void)\n{\n    static int b;\n}\n"), [])
        self.assertEqual(self.problems(core__x_h="static int x_f(void);\n", core__y_h="static int x_f(void)\n{\n    return 0;\n}\n"), [])
        self.assertEqual(self.problems(core__x_h="static inline int hak_f(void)\n{\n    return 0;\n}\n"), [])

    def test_no_two_files_have_one_name(self):
        for text in ("static int count;", "static const int count[] = {1, 2};", "enum { FIRST, count };", "enum other { count = 1, LAST };"):
            said = self.problems(core__a_c=text, core__b_c="static unsigned count = 1;")
            self.assertEqual(said, ["core/b.c: count: core/a.c has one of this name too"], text)
        said = self.problems(core__a_c="struct walk {\n    int x;\n};", policies__p__p_h="struct walk {\n    int y;\n};")
        self.assertEqual(said, ["policies/p/p.h: struct walk: core/a.c has one of this name too"])
        self.assertEqual(self.problems(core__a_c="static struct walk *one;", core__b_c="static struct walk *two;"), [])
        # Of a name in a comment, a string, an initializer or a body nothing is said.
        self.assertEqual(self.problems(core__a_c='/* static int count; */ static char a[] = "static int count;";',
                                       core__b_c="static int b = sizeof(int); void f(void) { int count; enum { TWO }; }",
                                       core__c_c="static int count; enum { TWO };"), [])

    def test_two_policies_and_two_back_ends_never_meet(self):
        text = "struct bin {\n    int x;\n};"
        self.assertEqual(self.problems(policies__p__p_c=text, policies__q__q_c=text), [])
        self.assertEqual(len(self.problems(policies__p__p_c=text, backends__b__b_c=text)), 1)
        self.assertEqual(len(self.problems(policies__p__p_c=text, policies__p__depot_c=text)), 1)
