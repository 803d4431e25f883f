# SPDX-License-Identifier: MIT
"""The table of size classes: made for every configuration, refused for a list that is none, and as C what it says."""

import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import configuration
import size_class
from tree import ROOT

OWN = [16, 32, 48, 64, 96, 128, 192, 256, 320, 512, 752, 1024]  # steps of no configuration

CHECK = """
#include "core/size_class.h"

static const uint32_t sizes[] = {SIZES};

int main(void)
{
    if (HAK_CLASSES != sizeof(sizes) / sizeof(sizes[0]))
        return 1;
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        if (hak_class_sizes[i] != sizes[i] || hak_class_size(hak_class_at(i)) != sizes[i])
            return 2;
    for (size_t n = 0; n <= HAK_SMALL_MAX; n++) {
        unsigned i = 0;
        while (sizes[i] < n)
            i++;
        if (hak_class_of(n) != hak_class_at(i))
            return 3;
    }
    for (size_t align = 1; align <= HAK_SMALL_MAX; align *= 2)
        for (size_t n = 0; n <= HAK_SMALL_MAX; n++)
            if (hak_class_size(hak_class_of_aligned(n, align)) % align != 0)
                return 4;
    return 0;
}
"""


class Lists(unittest.TestCase):
    def test_every_configuration_has_a_table(self):
        for steps, finer, smallest, log2 in itertools.product((1, 2, 4, 8), (False, True), (8, 16), range(10, 18)):
            if steps == 8 and finer:
                continue
            with self.subTest(steps=steps, finer=finer, smallest=smallest, log2=log2):
                sizes = size_class.spaced(steps, finer, smallest, 1 << log2)
                self.assertEqual(size_class.problems(sizes), [])
                self.assertEqual((sizes[0], sizes[-1]), (smallest, 1 << log2))
                for size in (1 << n for n in range(9, log2)):
                    between = sum(size < other <= 2 * size for other in sizes)
                    self.assertEqual(between, 2 * steps if finer else steps)

    def test_what_is_no_table_is_refused_with_the_reason(self):
        for sizes, reason in (
            ([], "sizes are positive numbers of bytes"),
            ([0, 16, 32], "sizes are positive numbers of bytes"),
            ([32, 64], "32: the smallest class has 8 or 16 bytes"),
            ([16, 32, 64, 48, 128], "48 comes after 64: sizes rise"),
            ([16, 32, 32, 64], "32 comes after 32: sizes rise"),
            ([16, 32, 40, 64], "40 is no multiple of 16: blocks are aligned to 16 bytes"),
            ([8, 16, 24, 32], "24 is no multiple of 16: blocks are aligned to 16 bytes"),
            ([16, 48, 64], "48 comes after 16: more than half of a block of 17 bytes would be wasted"),
            ([16, 32, 48, 96, 128], "64 is missing: powers of two are what aligned requests are served from"),
            ([16, 32, 48], "48: the largest class is a power of two"),
            (list(range(16, 2049, 16)), "128 classes: 95 is the most"),
        ):
            with self.subTest(sizes=sizes):
                self.assertIn(reason, size_class.problems(sizes))
                with self.assertRaisesRegex(size_class.SizeClassError, re.escape(f"size classes: {reason}")):
                    size_class.header_text(sizes)

    def test_an_own_table_is_read_and_refused_with_the_reason(self):
        good = "16, 32,48,64,128,256,512,768,1024"
        self.assertEqual(size_class.table_problems(good, 16, 10), [])
        self.assertEqual(size_class.listed(good), [16, 32, 48, 64, 128, 256, 512, 768, 1024])
        form = "is no size: write numbers of bytes with commas between them, as in 16,32,48,64"
        for table, smallest, log2, reason in (
            ("16,many,64", 16, 10, f"'many' {form}"),
            ("16,,32", 16, 10, f"'' {form}"),
            ("16,032", 16, 10, f"'032' {form}"),
            ("16,-32", 16, 10, f"'-32' {form}"),
            ("16,32,64,48,64,128", 16, 7, "48 comes after 64: sizes rise"),
            ("8,16,32,64,128,256,512,1024", 16, 10, "8 is the smallest class: that needs CONFIG_MIN_BLOCK_8=y"),
            ("16,32,64,128,256,512,1024", 8, 10, "16 is the smallest class: that needs CONFIG_MIN_BLOCK_16=y"),
            ("16,32,64,128,256,512,1024,2048", 16, 10, "2048 is the largest class: that needs CONFIG_SMALL_MAX_LOG2=11"),
            ("16,32,64", 16, 10, "64 is the largest class: it must be 1024 to 131072"),
        ):
            with self.subTest(table=table):
                self.assertEqual(size_class.table_problems(table, smallest, log2), [reason])

    def test_the_most_classes_that_there_may_be_are_95(self):
        sizes = [16 * n for n in range(1, 65)] + [1024 + 32 * n for n in range(1, 33)]
        self.assertEqual(len(sizes), 96)
        self.assertEqual(size_class.problems(sizes), ["96 classes: 95 is the most"])
        del sizes[20]
        self.assertEqual(size_class.problems(sizes), [])

    def test_the_command_prints_the_header_or_what_is_wrong(self):
        run = lambda *words: subprocess.run(
            [sys.executable, ROOT / "site_scons/size_class.py", *words], capture_output=True, text=True
        )
        self.assertEqual(run(*map(str, OWN)).stdout, size_class.header_text(OWN))
        refused = run("16", "48")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("size classes: 48 comes after 16", refused.stderr)
        self.assertEqual(run("many").returncode, 2)


class Configured(unittest.TestCase):
    """CONFIG_CLASS_TABLE in the text of a configuration."""

    TABLE = "16,32,64,128,256,512,768,1024"

    def load(self, text):
        options = configuration.load_options(ROOT)
        return options, configuration.load_text(options, text, "own_defconfig")

    def test_the_table_is_what_the_configuration_gets(self):
        text = f'CONFIG_SMALL_MAX_LOG2=10\nCONFIG_CLASS_TABLE="{self.TABLE}"\n'
        options, problems = self.load(text)
        self.assertEqual(problems, [])
        outcome = configuration.outcome(ROOT, options)
        self.assertEqual(size_class.configured(outcome.autoconf), size_class.listed(self.TABLE))
        self.assertIn("#define CONFIG_CLASS_STEPS 0\n", outcome.autoconf)
        spaced = configuration.outcome(ROOT, configuration.load_options(ROOT)).autoconf
        self.assertEqual(size_class.configured(spaced), size_class.spaced(4, True, 16, 32768))

    def test_what_is_wrong_with_it_is_said_with_the_line(self):
        _, problems = self.load(f'# For tests.\nCONFIG_CLASS_TABLE="{self.TABLE}"\n')
        self.assertEqual(
            problems,
            ["own_defconfig:2: CONFIG_CLASS_TABLE: 1024 is the largest class: that needs CONFIG_SMALL_MAX_LOG2=10"],
        )

    def test_steps_beside_a_table_are_refused(self):
        _, problems = self.load(f'CONFIG_CLASS_STEPS_2=y\nCONFIG_SMALL_MAX_LOG2=10\nCONFIG_CLASS_TABLE="{self.TABLE}"\n')
        self.assertEqual(len(problems), 1)
        self.assertIn("own_defconfig:1: CONFIG_CLASS_STEPS_2=y was asked for, got n because it depends on", problems[0])
        self.assertIn("CLASS_TABLE", problems[0], "what hides the choice")


class Header(unittest.TestCase):
    def test_each_class_says_what_it_serves_and_wastes(self):
        text = size_class.header_text(OWN)
        self.assertIn("    16, /*  0: blocks for 0 to 16 bytes */ \\\n", text)
        self.assertIn("   752, /* 10: blocks for 513 to 752 bytes; 239 wasted at most, 31 % */ \\\n", text)
        self.assertEqual([int(size) for size in re.findall(r"^ +(\d+), /\*", text, re.MULTILINE)], OWN)

    def test_it_is_a_table_to_any_compiler(self):
        ours = size_class.spaced(4, True, 16, 32768)
        for compiler, sizes in itertools.product(("gcc", "clang"), (OWN, [8, *OWN], ours)):
            with self.subTest(compiler=compiler, sizes=sizes), tempfile.TemporaryDirectory() as name:
                if not shutil.which(compiler):
                    self.skipTest(f"there is no {compiler}")
                folder = Path(name)
                (folder / "gen").mkdir()
                (folder / "gen/size_class.h").write_text(size_class.header_text(sizes))
                (folder / "gen/autoconf.h").write_text(
                    f"#define CONFIG_ASSERT_LEVEL 0\n#define CONFIG_MIN_BLOCK {sizes[0]}\n"
                    f"#define CONFIG_SMALL_MAX_LOG2 {sizes[-1].bit_length() - 1}\n"
                )
                (folder / "check.c").write_text(CHECK.replace("SIZES", ", ".join(map(str, sizes)), 1))
                command = [compiler, "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{ROOT}", f"-I{folder}"]
                subprocess.run([*command, folder / "check.c", ROOT / "core/size_class.c", "-o", folder / "check"], check=True)
                self.assertEqual(subprocess.run([folder / "check"]).returncode, 0)
