# SPDX-License-Identifier: MIT
"""Plug-ins: a new folder, in the tree or outside of it, and no other file. The plug-ins of doc/examples are
what is tried."""

import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import layers
from tree import ROOT, Tree, TreeTest, compiled, in_matrix

EXAMPLES = ROOT / "doc" / "examples"
POLICY = next(EXAMPLES.glob("policies/*/")).name
BACK_END = next(EXAMPLES.glob("backends/*/")).name


class InTheTree(unittest.TestCase):
    """The examples become a part of the tree by being copied in."""

    @in_matrix
    def test_one_new_folder_is_all(self):
        tree = Tree()
        self.addCleanup(tree.remove)
        tree.write(".gitignore", "/build/\n/.config*\n__pycache__/\n")
        tree.git("init", "-q")
        tree.git("add", "-A")
        tree.git("commit", "-qm", "as it was")
        added = []
        for symbol, parent, name in (("BACKEND", "backends", BACK_END), ("FRONTEND", "policies", POLICY)):
            shutil.copytree(EXAMPLES / parent / name, tree.root / parent / name)
            added.append(f"?? {parent}/{name}/\n")
            self.assertEqual(tree.git("status", "--porcelain"), "".join(added))
            tree.write(".config", f"CONFIG_{symbol}_{name.upper()}=y\n")
            self.assertIn(f"CC   build/local/{parent}/{name}/{name}.o\n", tree.scons())
        # The one with the other, which no pair of the tree stands in for.
        tree.append(".config", f"CONFIG_BACKEND_{BACK_END.upper()}=y\n")
        output = tree.scons("test", "CONFIG=local", "ONLY=policy,backend,library,contract")
        self.assertRegex(output.splitlines()[-1], r"^\[====\] Synthesis: .* \| Failing: 0 \| Crashing: 0 \| Skipped: \d+$")
        groups = set(re.findall(r"^== build/local: (\w+)/", output, re.MULTILINE))
        self.assertEqual(groups, {"policy", "backend", "library", "contract"})
        self.assertEqual(tree.git("status", "--porcelain"), "".join(added))
        self.assertEqual(layers.check(tree.root), [])


class Outside(TreeTest):
    """PLUGINS=FOLDER."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="hakmem-plugins-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "mine"
        shutil.copytree(EXAMPLES, self.folder)
        self.plugins = f"PLUGINS={self.folder}"
        self.tree.write(".config", f"CONFIG_FRONTEND_{POLICY.upper()}=y\nCONFIG_BACKEND_{BACK_END.upper()}=y\n")

    def identity(self, folder):
        library = self.tree.root / "build" / folder / "libhakmem.so"
        return self.tree.command("/bin/true", LD_PRELOAD=str(library), HAKMEM_VERSION="1")

    def test_is_built_like_one_of_the_tree(self):
        shutil.rmtree(self.tree.root / "build/local", ignore_errors=True)  # another test's
        before = {file: file.read_bytes() for file in self.folder.rglob("*") if file.is_file()}
        objects = compiled(self.tree.scons(self.plugins))
        self.assertIn(f"policies/{POLICY}/{POLICY}", objects)
        self.assertIn(f"backends/{BACK_END}/{BACK_END}", objects)
        self.assertIn(f" {POLICY}/{BACK_END} ", self.identity("local"))
        self.assertEqual({file: file.read_bytes() for file in self.folder.rglob("*") if file.is_file()}, before)
        for name in ("libhakmem.so", "libhakmem.a"):
            self.assertNotIn(str(self.folder).encode(), (self.tree.root / "build/local" / name).read_bytes())

        self.assertEqual(compiled(self.tree.scons(self.plugins)), set())
        with open(self.folder / f"policies/{POLICY}/{POLICY}.h", "a") as header:
            header.write("/* changed */\n")
        objects = compiled(self.tree.scons(self.plugins))
        self.assertIn(f"policies/{POLICY}/{POLICY}", objects)
        self.assertNotIn(f"backends/{BACK_END}/{BACK_END}", objects)

    def test_is_tested_like_one_of_the_tree(self):
        # With a policy of the tree: InTheTree has both.
        self.tree.write(".config", f"CONFIG_BACKEND_{BACK_END.upper()}=y\n")
        output = self.tree.scons(self.plugins, "test", "CONFIG=local", "ONLY=backend,library,test_api,test_threads,test_stats")
        for name in (f"backend/test_{BACK_END}", "library/library", "contract/test_api"):
            self.assertIn(f"== build/local: {name}: ", output)
        self.assertRegex(output.splitlines()[-1], r" \| Failing: 0 \| Crashing: 0 \| Skipped: \d+$")

    def test_from_the_environment_and_by_a_path_from_here(self):
        shutil.copytree(EXAMPLES, self.tree.root / "build/mine", dirs_exist_ok=True)
        self.tree.scons("build/local/gen/frontend.h", PLUGINS="build/mine")
        include = (self.tree.root / "build/local/gen/frontend.h").read_text()
        self.assertEqual(include, f'#include "policies/{POLICY}/{POLICY}.h"\n')

    def test_without_it_the_plugin_is_unknown(self):
        output = self.tree.scons(status=2)
        self.assertIn(f".config:1: CONFIG_FRONTEND_{POLICY.upper()} is not an option", output)

    def test_pairs_have_it_too(self):
        output = self.tree.scons(self.plugins, "-n", "matrix-build")
        built = set(re.findall(r"^LINK build/([\w-]+)/", output, re.MULTILINE))
        folders = [{path.name for root in (ROOT, self.folder) for path in (root / parent).glob("*/")}
                   for parent in ("policies", "backends")]
        self.assertEqual(built, {f"{policy}-{back_end}" for policy in folders[0] for back_end in folders[1]})

    def test_make(self):
        self.tree.write("configs/mine_defconfig", f"CONFIG_FRONTEND_{POLICY.upper()}=y\n")
        config = self.tree.root / ".config"
        self.tree.make("mine_defconfig", self.plugins)
        self.assertIn(f"CONFIG_FRONTEND_{POLICY.upper()}=y\n", config.read_text())
        before = config.read_text()
        self.tree.make("olddefconfig", self.plugins)
        self.assertEqual(config.read_text(), before)
        self.tree.make("savedefconfig", PLUGINS=str(self.folder))
        self.assertEqual((self.tree.root / "defconfig").read_text(), f"CONFIG_FRONTEND_{POLICY.upper()}=y\n")

    def refused(self, plugins, message):
        for output in (
            self.tree.scons(f"PLUGINS={plugins}", "CONFIG=default", status=2),
            self.tree.make("olddefconfig", f"PLUGINS={plugins}", status=2),
        ):
            self.assertIn(message, output)
            self.assertNotIn("Traceback", output)

    def test_no_such_folder(self):
        self.refused("/nowhere", "PLUGINS=/nowhere: there is no such folder")

    def test_a_folder_without_plugins(self):
        self.refused("core", "PLUGINS=core: it has neither policies/ nor backends/, where plug-ins lie")

    def test_a_name_that_is_taken(self):
        taken = next(path.parent.name for path in sorted(ROOT.glob("policies/*/Kconfig")))
        (self.folder / "policies" / POLICY).rename(self.folder / "policies" / taken)
        self.refused(self.folder, f"policies/{taken} has the name of a plug-in of this tree: rename one of the two")

    def test_an_incomplete_plugin(self):
        (self.folder / "policies" / POLICY / f"{POLICY}.h").unlink()
        output = self.tree.scons(self.plugins, status=2)
        self.assertIn(f"{self.folder}/policies/{POLICY}/{POLICY}.h is missing: a plug-in's folder needs one", output)

    def forgotten(self, path, function):
        """What the build says of a plug-in without one of its functions."""
        source = self.folder / path
        text = source.read_text()
        # Renamed, so that the rest of the file compiles as before.
        changed, count = re.subn(rf"^(\w.*\b){function}\(", rf"\1{function}_no_more(", text, flags=re.MULTILINE)
        self.assertEqual(count, 1)
        name = f"{function}_no_more"
        declaration = re.search(rf"^(\w.*\b{name}\([^{{]*)\{{", changed, re.MULTILINE)
        source.write_text(changed.replace(declaration[0], f"{declaration[1].strip()};\n{declaration[0]}"))
        output = self.tree.scons(self.plugins, status=2)
        source.write_text(text)
        return output

    def test_a_forgotten_function_is_named(self):
        for path, function in (
            (f"policies/{POLICY}/{POLICY}.c", "frontend_valid"),
            (f"policies/{POLICY}/{POLICY}.c", "frontend_tick"),
            (f"backends/{BACK_END}/{BACK_END}.c", "backend_valid"),
            (f"backends/{BACK_END}/{BACK_END}.c", "backend_metadata"),
        ):
            with self.subTest(function):
                self.assertRegex(self.forgotten(path, function), rf"undefined reference to `{function}'")

    def test_every_function_of_the_contracts_is_looked_for(self):
        # Those of the second parts, and of the store, stand after an #ifdef; what core offers is not a plug-in's.
        contracts = "".join((ROOT / f"core/{name}.h").read_text() for name in ("frontend", "store", "backend"))
        code = re.sub(r"/\*.*?\*/", "", contracts, flags=re.DOTALL)
        declared = set(
            re.findall(r"^\w[^;{}()=#]*?\b((?:frontend|store|backend)_\w+)\(", code, re.MULTILINE)
        )
        listed = re.findall(r"any_function \*\)(\w+),", (ROOT / "site_scons/contract.c").read_text())
        self.assertEqual(sorted(declared), sorted(listed))

    def test_its_layers_are_checked(self):
        self.assertEqual(layers.check(self.folder), [])
        source = self.folder / f"policies/{POLICY}/{POLICY}.c"
        source.write_text(f'#include "backends/{BACK_END}/{BACK_END}.h"\n#ifdef X\n#endif\n' + source.read_text())
        done = subprocess.run(
            [sys.executable, "-B", ROOT / "tests/build/layers.py", self.folder], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 2, done.stderr)
        self.assertIn(f"policies/{POLICY}/{POLICY}.c:1: ", done.stderr)


class Examples(unittest.TestCase):
    def test_they_keep_the_layers(self):
        self.assertEqual(layers.check(EXAMPLES), [])
