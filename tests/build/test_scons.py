# SPDX-License-Identifier: MIT
"""What scons builds, what it rebuilds, and its messages for impossible requests."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import configuration
import generated
from tree import IN_MATRIX, ROOT, Tree, TreeTest, compiled, in_matrix

CONFIG = configuration.load(ROOT, ROOT / "configs/default_defconfig", "default")
POLICY = f"policies/{CONFIG.frontend}"
BACK_END = f"backends/{CONFIG.backend}"


class Rebuild(TreeTest):
    """What a change compiles."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.all = compiled(cls.tree.scons("CONFIG=default"))

    def setUp(self):
        super().setUp()
        self.tree.scons("CONFIG=default")

    def test_nothing_when_nothing_has_changed(self):
        before = self.tree.built("default")
        self.tree.scons("CONFIG=default")
        self.assertEqual(self.tree.built("default"), before)

    def test_all_sources_are_in_the_library_once(self):
        plugins = {f"{p}/{f.stem}" for p in (POLICY, BACK_END) for f in (ROOT / p).glob("*.c") if f.name[:5] != "test_"}
        # Not in this configuration, or a part of another file.
        left_out = {f"core/{name}" for name in ("extents", "large", "malloc", "purger", "record", "trace")}
        core = {f"core/{file.stem}" for file in ROOT.glob("core/*.c")} - left_out
        self.assertEqual(self.all - {"gen/contract", "gen/inline_layout"}, core | plugins)

    def test_header_of_the_policy(self):
        self.tree.append(f"{POLICY}/{CONFIG.frontend}.h", "/* changed */\n")
        objects = compiled(self.tree.scons("CONFIG=default"))
        self.assertIn(f"{POLICY}/{CONFIG.frontend}", objects)
        self.assertIn("core/override", objects)
        self.assertFalse(objects & {"core/os", "core/lock", "core/size_class", "core/identity"}, objects)
        self.assertFalse({name for name in objects if name.startswith("backends/")}, objects)

    def test_source_of_the_back_end(self):
        self.tree.append(f"{BACK_END}/{CONFIG.backend}.c", "/* changed */\n")
        objects = compiled(self.tree.scons("CONFIG=default"))
        self.assertEqual(objects, {f"{BACK_END}/{CONFIG.backend}"})

    def test_option(self):
        self.tree.append("configs/default_defconfig", "CONFIG_DIRTY_MAX=32\n")
        objects = compiled(self.tree.scons("CONFIG=default"))
        self.assertIn(f"{BACK_END}/{CONFIG.backend}", objects)

    def test_comment_in_a_configuration_or_in_kconfig(self):
        before = self.tree.built("default")
        self.tree.append("configs/default_defconfig", "# no more\nCONFIG_DIRTY_MAX=64\n")
        self.tree.append("Kconfig", "\n# no more\n")
        self.tree.scons("CONFIG=default")
        self.assertEqual(self.tree.built("default"), before)

    def test_default_in_kconfig(self):
        kconfig = (self.tree.root / "Kconfig").read_text()
        self.tree.write("Kconfig", kconfig.replace("\tdefault 500\n", "\tdefault 501\n"))
        self.assertIn(f"{BACK_END}/{CONFIG.backend}", compiled(self.tree.scons("CONFIG=default")))

    def test_compiler(self):
        if not shutil.which("clang"):
            self.skipTest("clang is not installed")
        output = self.tree.scons("CONFIG=default", "CC=clang", "-n")
        self.assertEqual(compiled(output), self.all)

    def test_flags_of_the_user(self):
        output = self.tree.scons("CONFIG=default", "VERBOSE=yes", "-n", CFLAGS="-O3", CPPFLAGS="-DX=1", LDFLAGS="-Wl,-O1")
        lines = [line for line in output.splitlines() if " -c " in line]
        self.assertEqual(len(lines), len(self.all))
        for line in lines:
            self.assertRegex(line, " -O2 .* -O3 .*-DX=1 ")
        self.assertRegex(output, r"-o build/default/libhakmem\.so\.\S+ .*-z,now.*-Wl,-O1")

    def test_command_line_wins_over_environment(self):
        output = self.tree.scons("CONFIG=default", "VERBOSE=yes", "-n", "CFLAGS=-O1", CFLAGS="-O3")
        self.assertIn(" -O1 ", output)
        self.assertNotIn(" -O3 ", output)

    def test_a_broken_configuration_leaves_the_build_alone(self):
        before = self.tree.built("default")
        self.tree.write("configs/default_defconfig", "CONFIG_CACHE_BYTES=12\n")
        output = self.tree.scons("CONFIG=default", status=2)
        self.assertIn(
            "\nconfigs/default_defconfig:1: CONFIG_CACHE_BYTES=12 was asked for, got 1048576 because the range is "
            "16384..67108864\n",
            output,
        )
        self.assertEqual(self.tree.built("default"), before)

    def test_one_broken_configuration_of_two_builds_neither(self):
        self.tree.write("configs/broken_defconfig", "CONFIG_NO_SUCH_OPTION=y\n")
        self.tree.append("configs/default_defconfig", "CONFIG_DIRTY_MAX=31\n")
        before = self.tree.built("default")
        self.tree.scons("CONFIG=default,broken", status=2)
        self.assertEqual(self.tree.built("default"), before)


class Builds(TreeTest):
    """Which configurations are built, and where."""

    def identity(self, folder):
        library = self.tree.root / "build" / folder / "libhakmem.so"
        said = self.tree.command("/bin/true", LD_PRELOAD=str(library), HAKMEM_VERSION="1")
        self.assertIn(said.strip().encode(), library.read_bytes())
        return said

    def test_without_a_config(self):
        output = self.tree.scons()
        self.assertIn("there is no .config (`make menuconfig` makes one): build/local gets configs/default_def", output)
        self.assertTrue((self.tree.root / "build/local/libhakmem.so").exists())

    def test_with_a_config_of_another_name(self):
        self.tree.write("other.config", "CONFIG_REMOTE_FREE_KEEP=y\n")
        autoconf = self.tree.root / "build/local/gen/autoconf.h"
        self.tree.scons("build/local/gen/autoconf.h", KCONFIG_CONFIG="other.config")
        self.assertIn("REMOTE_FREE_KEEP 1", autoconf.read_text())
        self.tree.scons("build/local/gen/autoconf.h")
        self.assertNotIn("REMOTE_FREE_KEEP", autoconf.read_text())
        self.tree.scons("build/local/gen/autoconf.h", "KCONFIG_CONFIG=other.config")
        self.assertIn("REMOTE_FREE_KEEP 1", autoconf.read_text())
        output = self.tree.scons(status=2, KCONFIG_CONFIG="nowhere")
        self.assertIn("KCONFIG_CONFIG=nowhere: there is no such file", output)

    def test_two_side_by_side(self):
        self.tree.write("configs/other_defconfig", "# For tests.\nCONFIG_CLASS_STEPS_8=y\n")
        self.tree.scons("CONFIG=default,other")
        default, other = self.identity("default"), self.identity("other")
        self.assertRegex(default, r" config [0-9a-f]{12} ")
        self.assertNotEqual(default, other)
        before = self.tree.built("default")
        self.tree.append("configs/other_defconfig", "CONFIG_DIRTY_MAX=33\n")
        self.tree.scons("CONFIG=default,other")
        self.assertEqual(self.tree.built("default"), before)

    def test_products(self):
        self.tree.scons("CONFIG=default")
        build = self.tree.root / "build/default"
        self.assertEqual(os.readlink(build / "libhakmem.so"), os.readlink(build / "libhakmem.so.0"))
        self.assertRegex(os.readlink(build / "libhakmem.so"), r"^libhakmem\.so\.0\.\d+\.\d+$")
        self.assertIn("Library soname: [libhakmem.so.0]", self.tree.command("readelf", "-d", str(build / "libhakmem.so")))
        self.assertTrue((build / "libhakmem.a").exists())
        headers = {file.name for file in (ROOT / "core/include/hakmem").glob("*.h")}
        self.assertEqual({file.name for file in (build / "include/hakmem").glob("*.h")}, {*headers, "inline.h"})
        compiles = json.loads((self.tree.root / "build/compile_commands.json").read_text())
        self.assertIn("core/override.c", {entry["file"] for entry in compiles})

    def test_without_libc_names(self):
        self.tree.write("configs/own_defconfig", "# CONFIG_OVERRIDE_LIBC is not set\n")
        self.assertNotIn("core/override", compiled(self.tree.scons("CONFIG=own")))
        names = self.tree.command("nm", "-D", "--defined-only", "--format=just-symbols", "build/own/libhakmem.so")
        self.assertEqual({name[:4] for name in names.split()}, {"hak_"})

    def test_clean(self):
        self.tree.scons("CONFIG=default")
        self.tree.scons("CONFIG=default", "-c")
        self.assertEqual(self.tree.built("default"), {})

    def test_a_build_leaves_its_configuration(self):
        self.tree.write("configs/other_defconfig", "# For tests.\nCONFIG_DIRTY_MAX=33\n")
        self.tree.scons("CONFIG=other")
        self.tree.scons("build/local/gen/config", "KCONFIG_CONFIG=build/other/gen/config")
        self.assertIn("CONFIG_DIRTY_MAX=33\n", (self.tree.root / "build/local/gen/config").read_text())

    def test_every_option_builds_and_runs_at_its_ends(self):
        """The ranges in Kconfig are those that the code can bear."""
        options = configuration.load_options(ROOT)
        numbers = [s for s in options.unique_defined_syms if s.orig_type == configuration.kconfiglib.INT and s.ranges]
        last = [choice.syms[-1].name for choice in options.unique_choices]
        first = [choice.syms[0].name for choice in options.unique_choices]
        for name, end, chosen, override in (("least", 0, first, "y"), ("most", 1, last, "y")):
            for symbol in chosen:
                options.syms[symbol].set_value("y")
            lines = [
                f"CONFIG_{symbol.name}={symbol.ranges[0][end].str_value}\n" for symbol in numbers if symbol.visibility
            ]
            # Of a choice, an entry that depends on what another choice has left out cannot be had.
            lines += [f"CONFIG_{choice.selection.name}=y\n" for choice in options.unique_choices if choice.selection]
            lines += [f"CONFIG_CACHE_ADAPTIVE={'yn'[end]}\n"]
            self.tree.write(f"configs/{name}_defconfig", "".join(lines))
        self.tree.scons("CONFIG=least,most")
        for name in ("least", "most"):
            library = str(self.tree.root / f"build/{name}/libhakmem.so")
            said = self.tree.command("/usr/bin/python3", "-c", "print(sum(map(len, map(str, range(10**5)))))",
                                     LD_PRELOAD=library, PYTHONMALLOC="malloc")
            self.assertEqual(said, "488890\n")


class Pairs(TreeTest):
    """Every front end with every back end: here the default ones and the examples."""

    def setUp(self):
        super().setUp()
        for parent, kept in (("policies", CONFIG.frontend), ("backends", CONFIG.backend)):
            for path in (self.tree.root / parent).glob("*/"):
                if path.name != kept:
                    shutil.rmtree(path)
            shutil.copytree(ROOT / "doc/examples" / parent, self.tree.root / parent, dirs_exist_ok=True)
        for path in (self.tree.root / "configs").glob("*"):
            if path.name != "default_defconfig":
                path.unlink()
        self.tree.write("configs/other_defconfig", "# For tests.\nCONFIG_DIRTY_MAX=33\n")
        self.policies, self.back_ends = (
            sorted(path.parent.name for path in self.tree.root.glob(f"{parent}/*/Kconfig"))
            for parent in ("policies", "backends")
        )
        self.all = {f"{policy}-{back_end}" for policy in self.policies for back_end in self.back_ends}

    def built(self, output):
        return set(re.findall(r"^LINK build/([\w-]+)/libhakmem.so", output, re.MULTILINE))

    def test_each_is_built_into_a_folder_of_its_own(self):
        self.assertEqual(self.built(self.tree.scons("-n", "matrix-build")), self.all)

    def test_with_a_configuration_as_the_base(self):
        self.assertEqual(self.built(self.tree.scons("-n", "matrix-build", "CONFIG=other")), self.all)
        output = self.tree.scons("matrix-build", "CONFIG=other,default", status=2)
        self.assertIn("CONFIG=other,default: pairs are built from one configuration", output)
        self.assertIn("configs/other_defconfig:1: ", self.broken("matrix-build", "CONFIG=other"))

    def broken(self, *words):
        self.tree.write("configs/other_defconfig", "CONFIG_DIRTY_MAX=0\n")
        return self.tree.scons(*words, status=2)

    def test_what_cannot_be_is_said_and_left_out(self):
        name = next(path.name for path in sorted((ROOT / "doc/examples/policies").glob("*/")))
        kconfig = self.tree.root / f"policies/{name}/Kconfig"
        entry = f"config FRONTEND_{name.upper()}\n"
        chosen = f"BACKEND_{CONFIG.backend.upper()}"
        kconfig.write_text(kconfig.read_text().replace(entry, f"{entry}\tdepends on {chosen} && DIRTY_MAX = 7\n", 1))
        output = self.tree.scons("-n", "matrix-build")
        for back_end in self.back_ends:
            if back_end != CONFIG.backend:
                self.assertIn(f"scons: there is no {name}-{back_end}: FRONTEND_{name.upper()}: it depends on ", output)
        self.assertIn(f"scons: {name}-{CONFIG.backend} gets DIRTY_MAX=7 too\n", output)
        self.assertEqual(self.built(output), {pair for pair in self.all if not pair.startswith(name)} |
                         {f"{name}-{CONFIG.backend}"})

    def test_a_test_of_the_whole_has_them_all(self):
        """The default is one of them, and not built twice."""
        default = f"{CONFIG.frontend}-{CONFIG.backend}"
        output = self.tree.scons("-n", "test", "ONLY=library")
        self.assertEqual(self.built(output), self.all - {default} | {"default"})
        output = self.tree.scons("-n", "test", "ONLY=library", "CONFIG=default")
        self.assertEqual(self.built(output), {"default"})

    def test_real_programs_run_once_for_each_plugin(self):
        """The matrix runs them for every pair."""
        default = f"{CONFIG.frontend}-{CONFIG.backend}"
        built = self.built(self.tree.scons("-n", "test", "ONLY=process"))
        plugins = [set((default if pair == "default" else pair).split("-")) for pair in built]
        self.assertEqual(set.union(*plugins), {*self.policies, *self.back_ends})
        for pair in plugins:
            self.assertFalse(pair <= set.union(*(other for other in plugins if other is not pair)), pair)
        built = self.built(self.tree.scons("-n", "test", "ONLY=process", "MATRIX=yes"))
        self.assertLessEqual(self.all - {default} | {"default"}, built)

    def test_the_matrix_of_compilers_and_sanitizers(self):
        output = self.tree.scons("-n", "test", "MATRIX=yes", "ONLY=contract,sanitized,smoke,library,portable")
        folders = set(re.findall(r"^(?:CC|LINK|AR) +build/([\w-]+)/", output, re.MULTILINE))
        default = f"{CONFIG.frontend}-{CONFIG.backend}"
        for pair in self.all - {default} | {"default"}:
            self.assertTrue({pair, f"{pair}-tsan"} <= folders, pair)
        for flavour in ("clang", "asan"):
            pairs = [folder.rpartition("-")[0] for folder in folders if folder.endswith(f"-{flavour}")]
            seen = {plugin for pair in pairs for plugin in (default if pair == "default" else pair).split("-")}
            self.assertEqual(seen, {*self.policies, *self.back_ends}, flavour)
        self.assertEqual(len([folder for folder in folders if re.fullmatch(r"random-\d+", folder)]), 3)
        self.assertIn("other", folders)
        for compiler in ("musl-gcc", "aarch64-linux-gnu-gcc"):
            built = {folder[: -len(compiler) - 1] for folder in folders if folder.endswith(f"-{compiler}")}
            self.assertIn("default", built)
            (pair,) = built - {"default"}
            self.assertFalse(set(pair.split("-")) & {CONFIG.frontend, CONFIG.backend})


class LeftToTheMatrix(TreeTest):
    """Tests of the build that take long and have shorter ones for their parts."""

    ONE = "test_flavours.Flavours.test_trained_clang"

    def test_matrix_runs_them(self):
        self.tree.write("tests/build/run", f"import os\nprint('given:', os.environ.get('{IN_MATRIX}', ''))\n"
                        "print('1 passed, 0 failed, 0 skipped')\n")
        for words, given in ((("MATRIX=yes",), "yes"), ((), "")):
            said = self.tree.scons("test", "CONFIG=default", "ONLY=build", *words, **{IN_MATRIX: ""})
            self.assertIn(f"given: {given}\n", said)

    def test_without_they_are_skipped(self):
        done = subprocess.run([ROOT / "tests/build/run", self.ONE], env={**os.environ, IN_MATRIX: ""}, capture_output=True, text=True)
        self.assertIn("0 passed, 0 failed, 1 skipped", done.stdout)
        self.assertIn("a test of MATRIX=yes, or by its name", done.stderr)


class AtRandom(TreeTest):
    """scons randconfig."""

    @in_matrix
    def test_builds_and_tries_what_the_seed_says(self):
        output = self.tree.scons("randconfig", "SEED=77", "COUNT=1")
        self.assertRegex(output, r"scons: random-77 is \w+/\w+; to repeat: scons randconfig SEED=77 COUNT=1\n")
        self.assertEqual(set(re.findall(r"^== build/random-77: smoke/(\w+):", output, re.MULTILINE)),
                         {"stress", "test_frontend", "smoke"})
        self.assertRegex(output.splitlines()[-1], r" \| Failing: 0 \| Crashing: 0 \| Skipped: \d+$")
        kept = self.tree.root / "build/random-77/gen/config"
        self.tree.make("randconfig", "SEED=77")
        self.assertEqual((self.tree.root / ".config").read_text().split("\n", 1)[1], kept.read_text())

    def test_says_what_has_failed(self):
        self.tree.append("core/lock.c", '__attribute__((constructor)) static void broken(void) { __builtin_trap(); }\n')
        output = self.tree.scons("randconfig", "SEED=79", "COUNT=1", "ONLY=stress", status=2)
        self.assertIn("to repeat: scons randconfig SEED=79 COUNT=1", output)
        self.assertIn("NOT PASSED  build/random-79: smoke/stress: ", output)

    def test_numbers(self):
        output = self.tree.scons("randconfig", "SEED=x", status=2)
        self.assertIn("SEED=x COUNT=3: these are numbers", output)


class Identity(TreeTest):
    """What the library says of its sources, and what it keeps to itself."""

    def test_revision(self):
        identity = self.tree.root / "build/default/gen/identity.h"

        def revision():
            return re.search('HAK_REVISION "(.*)"', identity.read_text())[1]

        self.tree.scons("CONFIG=default")
        self.assertEqual(revision(), "unknown")

        self.tree.write(".gitignore", "/build/\n__pycache__/\n")
        self.tree.git("init", "-q")
        self.tree.git("add", "-A")
        self.tree.git("commit", "-qm", "one")
        self.assertEqual(compiled(self.tree.scons("CONFIG=default")), {"core/identity"})
        commit = self.tree.git("rev-parse", "HEAD").strip()
        self.assertEqual(revision(), commit[:12])

        self.tree.append("core/os.c", "/* changed */\n")
        self.assertEqual(compiled(self.tree.scons("CONFIG=default")), {"core/identity", "core/os"})
        first = revision()
        self.assertRegex(first, rf"^{commit[:12]}-modified-[0-9a-f]{{8}}$")
        # Two changes of one revision are two revisions, and what is changed back is what it was.
        self.tree.append("core/os.c", "/* again */\n")
        self.tree.scons("CONFIG=default", "build/default/gen/identity.h")
        self.assertRegex(revision(), rf"^{commit[:12]}-modified-(?!{first[-8:]})[0-9a-f]{{8}}$")
        self.tree.write("core/os.c", (ROOT / "core/os.c").read_text() + "/* changed */\n")
        self.tree.scons("CONFIG=default", "build/default/gen/identity.h")
        self.assertEqual(revision(), first)
        self.tree.write("core/new.h", "")
        self.tree.scons("CONFIG=default", "build/default/gen/identity.h")
        self.assertNotEqual(revision(), first)
        (self.tree.root / "core/new.h").unlink()

        self.tree.git("commit", "-qam", "two")
        self.assertEqual(compiled(self.tree.scons("CONFIG=default")), {"core/identity"})
        self.assertNotEqual(revision(), commit[:12])
        self.assertNotIn("modified", revision())

    def test_an_archive_knows_its_revision(self):
        self.tree.write(".gitattributes", (ROOT / ".gitattributes").read_text())
        self.tree.write(".gitignore", "/build/\n__pycache__/\n")
        if not (self.tree.root / ".git").exists():
            self.tree.git("init", "-q")
        self.tree.git("add", "-A")
        self.tree.git("commit", "-qm", "archived", "--allow-empty")
        commit = self.tree.git("rev-parse", "HEAD").strip()
        folder = tempfile.TemporaryDirectory(prefix="hakmem-archive-")
        self.addCleanup(folder.cleanup)
        self.tree.command("sh", "-c", f"git archive HEAD | tar -x -C {folder.name}")
        identity = Path(folder.name) / "build/default/gen/identity.h"
        target = "build/default/gen/identity.h"
        self.tree.command("/usr/bin/scons", "-C", folder.name, "CONFIG=default", target)
        self.assertIn(f'HAK_REVISION "{commit[:12]}"', identity.read_text())

    def test_what_an_archive_may_say(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "site_scons/revision"
            file.parent.mkdir()
            for text, revision in (
                ("0123456789abcdef0123456789abcdef01234567\n", "0123456789ab"),
                ("0123456789ab-modified-00c0ffee\n", "0123456789ab-modified-00c0ffee"),
                ("$Format:%H$\n", "unknown"),
                ("", "unknown"),
            ):
                file.write_text(text)
                self.assertEqual(generated.revision(Path(folder), []), revision)
            file.write_text("0123456789abcdef0123456789abcdef01234567\n")
            with tempfile.TemporaryDirectory() as outside:
                plugin = Path(outside) / "policies/x"
                plugin.mkdir(parents=True)
                (plugin / "x.h").write_text("")
                said = generated.revision(Path(folder), [plugin])
                self.assertRegex(said, r"^0123456789ab-modified-[0-9a-f]{8}$")
                (plugin / "x.h").write_text("other")
                self.assertNotEqual(generated.revision(Path(folder), [plugin]), said)
            file.unlink()
            self.assertEqual(generated.revision(Path(folder), []), "unknown")
            # Inside of another project's repository it is still the archive that knows.
            file.write_text("0123456789ab\n")
            subprocess.run(["git", "init", "-q", folder], check=True)
            inner = Path(folder) / "inner"
            shutil.copytree(file.parent, inner / "site_scons")
            self.assertEqual(generated.revision(inner, []), "0123456789ab")

    def test_equal_sources_give_equal_libraries_in_any_folder(self):
        other = Tree(compiles=True)
        self.addCleanup(other.remove)
        for tree in (self.tree, other):
            shutil.rmtree(tree.root / ".git", ignore_errors=True)
            tree.scons("CONFIG=default")
        for name in ("libhakmem.so", "libhakmem.a"):
            mine, theirs = ((tree.root / "build/default" / name).read_bytes() for tree in (self.tree, other))
            self.assertEqual(mine, theirs, name)
            self.assertNotIn(str(self.tree.root).encode(), mine, name)


class Mistakes(TreeTest):
    """Each is answered with what to do."""

    def check(self, words, message, **variables):
        output = self.tree.scons(*words, status=2, **variables)
        self.assertIn(message, output)
        self.assertNotIn("Traceback", output)
        self.assertFalse((self.tree.root / "build/default").exists())

    def test_unknown_configuration(self):
        self.check(["CONFIG=nope"], "CONFIG=nope: there is no configs/nope_defconfig; there are: default")

    def test_unknown_variable(self):
        self.check(["CONFG=default"], "unknown variable CONFG; `scons -h` lists what there is")

    def test_unknown_target(self):
        self.check(["CONFIG=default", "tset"], "Do not know how to make File target `tset'")

    def test_unknown_test(self):
        self.check(["test", "CONFIG=default", "ONLY=contrat"], "ONLY=contrat: there is no such test. Groups: unit, policy,")

    def test_rounds_that_are_no_number(self):
        self.check(["test", "CONFIG=default", "REPEAT=often"], "REPEAT=often: this is a number from 1 on")
        self.check(["test", "CONFIG=default", "SEED=x"], "SEED=x: this is a number from 1 on")

    def test_unknown_sanitizer(self):
        self.check(["CONFIG=default", "SANITIZE=threads"], "Invalid value for option SANITIZE: threads.  Valid values are: ")

    def test_no_such_compiler(self):
        self.check(["CONFIG=default", "CC=nocc"], "CC=nocc: there is no such program on PATH. Install it (Debian: apt-get")
        self.check(["CONFIG=default"], "CC=nocc: there is no such program on PATH", CC="nocc")
        self.check(["CONFIG=default", "AR=noar"], "AR=noar: there is no such program on PATH")

    def test_no_compiler(self):
        self.check(["CONFIG=default", "CC=false"], "CC=false: `false --version` fails: is that a C compiler?")

    def test_names_that_cannot_be(self):
        for name in ("bench", "a-b"):
            self.tree.write(f"configs/{name}_defconfig", "")
            self.check([f"CONFIG={name}"], f"configs/{name}_defconfig: rename it")


class Help(TreeTest):
    def test_lists_configurations_variables_and_targets(self):
        output = self.tree.scons("-h")
        for file in ROOT.glob("configs/*_defconfig"):
            self.assertIn(file.name[: -len("_defconfig")], output)
        for word in ("CC:", "CFLAGS:", "CPPFLAGS:", "LDFLAGS:", "AR:", "CONFIG:", "SANITIZE:", "ONLY:", "REPEAT:", "MATRIX:",
                     "KCONFIG_CONFIG:", "PLUGINS:", "SEED:", "COUNT:", "scons test", "scons matrix-build", "scons matrix ",
                     "scons randconfig", "scons counts-update", "scons ab", "scons -c"):
            self.assertIn(word, output)

    def test_needs_no_sound_configuration(self):
        self.tree.write(".config", "nonsense\n")
        self.assertIn("scons test", self.tree.scons("-h"))


