# SPDX-License-Identifier: MIT
"""What `scons ab` makes of A=, B=, PEERS= and SWEEP=: what it builds, what it measures, what it refuses."""

import re
import shutil
import subprocess
import unittest

import configuration
import laboratory
from tree import ROOT, TreeTest

NAMES = ["default", "keep"]


def sides(**wishes):
    env = {"CONFIG": "", "A": "", "B": "", "PEERS": "", "SWEEP": "", **wishes}
    locate = lambda name: f"configs/{name}_defconfig" if name in NAMES else ""
    return laboratory.Laboratory(ROOT, NAMES, locate).sides(env)


def arguments(**wishes):
    return [side.argument for side in sides(**wishes)]


def options(side):
    return dict(line.split()[1:] for line in side.config.autoconf.splitlines() if line.startswith("#define"))


class Sides(unittest.TestCase):
    def test_without_a_wish_the_default_is_beside_the_system(self):
        self.assertEqual(arguments(), ["build/default/libhakmem.so", "system"])

    def test_configurations_by_name(self):
        self.assertEqual(arguments(A="keep", B="default"), ["build/keep/libhakmem.so", "build/default/libhakmem.so"])
        self.assertEqual(arguments(A="keep"), ["build/keep/libhakmem.so", "system"])
        self.assertEqual(arguments(CONFIG="keep"), arguments(A="keep"))
        self.assertEqual(arguments(CONFIG="default,keep"), arguments(A="default", B="keep"))

    def test_the_same_twice_is_built_once(self):
        a, b = sides(A="keep", B="keep")
        self.assertEqual(a, b)

    def test_peers_and_libraries_by_path(self):

        self.assertEqual(arguments(B="keep", PEERS="jemalloc,system"),
                         ["build/default/libhakmem.so", "build/keep/libhakmem.so", "jemalloc", "system"])
        path = str(ROOT / "tests" / "lib.so.1")
        with self.assertRaisesRegex(laboratory.WishError, "there is no such file"):
            sides(A=path)

    def test_an_option_is_changed_on_the_fly(self):
        _, side = sides(B="default+CONFIG_CACHE_BYTES=65536+CONFIG_REFILL_BATCH=16")
        self.assertEqual(side.folder, "build/default+CONFIG_CACHE_BYTES=65536+CONFIG_REFILL_BATCH=16")
        self.assertEqual(options(side)["CONFIG_CACHE_BYTES"], "65536")
        self.assertEqual(options(side)["CONFIG_REFILL_BATCH"], "16")

    def test_a_change_replaces_what_the_file_says_of_the_option_and_of_its_choice(self):
        _, side = sides(B="keep+CONFIG_REMOTE_FREE_RETURN=y")
        self.assertIn("CONFIG_REMOTE_FREE_RETURN", options(side))
        self.assertNotIn("CONFIG_REMOTE_FREE_KEEP", options(side))
        self.assertEqual(side.config.digest, sides()[0].config.digest)

    def test_a_sweep_is_one_side_for_each_value(self):
        found = sides(A="keep", SWEEP="CONFIG_REFILL_BATCH=8,16,32")
        self.assertEqual([options(side)["CONFIG_REFILL_BATCH"] for side in found[1:]], ["8", "16", "32"])
        self.assertEqual(len({side.folder for side in found}), 4)
        self.assertTrue(all("CONFIG_REMOTE_FREE_KEEP" in options(side) for side in found))

    def test_another_revision_has_its_own_sources_and_configuration(self):
        head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
        if head.returncode:
            self.skipTest("not in a git repository")
        _, side = sides(B="default@HEAD+CONFIG_CACHE_BYTES=65536")
        self.assertEqual(side.argument, "build/default@HEAD+CONFIG_CACHE_BYTES=65536/libhakmem.so")
        self.assertEqual(side.revision.commit, head.stdout.strip())
        self.assertIn("CONFIG_CACHE_BYTES=65536\n", side.revision.text)
        _, side = sides(B="default@HEAD")
        self.assertNotIn("CONFIG_CACHE_BYTES=65536", side.revision.text)

    def test_a_file_gets_a_folder_of_its_own(self):
        _, side = sides(B="configs/keep_defconfig")
        self.assertRegex(side.folder, r"^build/keep_defconfig-[0-9a-f]{12}$")


class Refusals(unittest.TestCase):
    def refused(self, expected, **wishes):
        with self.assertRaises((laboratory.WishError, configuration.ConfigurationError)) as caught:
            sides(**wishes)
        self.assertIn(expected, str(caught.exception))

    def test_names_that_are_nothing(self):
        self.refused("did you mean default?", A="defualt")
        self.refused("It may be a configuration (default, keep, local), the path", B="nonsense")
        self.refused("there is no such file", A="no/such/file")
        self.refused("a peer is one of system, jemalloc", PEERS="keep")

    def test_options_that_are_nothing(self):
        self.refused("B=default+CONFIG_NONE=1:2: CONFIG_NONE is not an option", B="default+CONFIG_NONE=1")
        self.refused("because the range is", B="default+CONFIG_CACHE_BYTES=1")
        self.refused("write +CONFIG_NAME=VALUE", B="default+CONFIG_CACHE_BYTES")
        self.refused("a change of an option is +CONFIG_NAME=VALUE", B="default+CACHE_BYTES=65536")

    def test_revisions_that_are_nothing(self):
        if subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True).returncode:
            self.skipTest("not in a git repository")
        self.refused("B=default@nonsense: nonsense is no revision of this tree", B="default@nonsense")
        self.refused("B=nothing@HEAD: that revision has no configs/nothing_defconfig", B="nothing@HEAD")
        self.refused("write +CONFIG_NAME=VALUE", B="default@HEAD+CONFIG_CACHE_BYTES")

    def test_sweeps_that_are_nothing(self):
        self.refused("SWEEP=CONFIG_X=8,16,32", SWEEP="8,16")
        self.refused("a sweep changes a configuration", A="system", SWEEP="CONFIG_CACHE_BYTES=65536")
        self.refused("because the range is", SWEEP="CONFIG_CACHE_BYTES=65536,1")

    def test_three_configurations(self):
        self.refused("more than two", CONFIG="a,b,c")


class Targets(TreeTest):
    def test_what_is_compared_is_built_by_the_same_command(self):
        output = self.tree.scons("-n", "ab", "A=keep", "B=default+CONFIG_REFILL_BATCH=16", "PEERS=system",
                                 "WORKLOADS=pair 64 B,larson", "BUDGET=5s", "COUNTERS=yes")
        self.assertIn("CC   build/keep/core/os.o", output)
        self.assertIn("CC   build/default+CONFIG_REFILL_BATCH=16/core/os.o", output)
        self.assertIn("CC   build/bench/launch.o", output)
        self.assertNotIn("build/default/", output)
        self.assertIn("bench/ab.py build/keep/libhakmem.so build/default+CONFIG_REFILL_BATCH=16/libhakmem.so system "
                      '--only "pair 64 B" --only larson --budget=5s --counters', output)

    def test_a_program_and_its_settings_reach_the_runner(self):
        output = self.tree.scons("-n", "ab", "PROGRAM=true -x; false", "PREPARE=rm -f '$HOME/x'", "METRIC=higher:(.*) a second",
                                 "LIMIT=5s")
        self.assertIn("\"--program=true -x; false\" \"--prepare=rm -f '$HOME/x'\" \"--metric=higher:(.*) a second\"", output)
        self.assertIn("--limit=5s", output)

    def test_a_program_that_is_none_is_refused_before_anything_is_built(self):
        for words, expected in ((["PROGRAM=./nope"], "PROGRAM=./nope: there is no program ./nope"),
                                (["METRIC=(x)"], 'METRIC= needs a program: PROGRAM="COMMAND"'),
                                (["PROGRAM=true", "LIMIT=soon"], "LIMIT=soon: 'soon' is not a number of seconds: 60 or 60s"),
                                (["PROGRAMS=/nope.toml"], "/nope.toml: No such file or directory")):
            output = self.tree.scons("-n", "ab", *words, status=2)
            self.assertIn(expected, output)
            self.assertNotIn("CC ", output)

    def test_a_list_of_ones_own_is_known(self):
        (self.tree.root / "workloads.toml").write_text("[mine]\nprogram = 'true'\n", encoding="utf-8")
        self.assertIn("--only mine", self.tree.scons("-n", "ab", "WORKLOADS=mine"))
        self.assertIn("no workload begins with 'theirs'", self.tree.scons("-n", "ab", "WORKLOADS=theirs", status=2))

    def test_an_engine_reaches_the_runner(self):
        output = self.tree.scons("-n", "ab", "ENGINE=local", "SWEEP=CONFIG_REFILL_BATCH=8,16")
        self.assertIn("--engine=local --sweep CONFIG_REFILL_BATCH", output)
        self.assertIn("--goal=rss --engine=local", self.tree.scons("-n", "tune", "TRACE=x", "GOAL=rss", "ENGINE=local"))

    def test_an_engine_that_is_none_is_refused_before_anything_is_built(self):
        for target, words, expected in (
            ("ab", ["ENGINE=nosuch"], "ENGINE=nosuch: an engine is one of local, parallel, slurm"),
            ("ab", ["ENGINE=parallel"], "ENGINE=parallel: on which machines? HOSTS=one,user@two names them, as ssh does"),
            ("ab", ["HOSTS=one"], "HOSTS=one: it is ENGINE=parallel that takes hosts"),
            ("ab", ["ENGINE=slurm", "COUNTERS=yes"], "COUNTERS=yes: one machine's counters are counted without ENGINE=slurm"),
            ("tune", ["PROGRAM=true", "ENGINE=nosuch"], "ENGINE=nosuch: an engine is one of local, parallel, slurm"),
        ):
            with self.subTest(target, words=words):
                output = self.tree.scons("-n", target, *words, status=2)
                self.assertIn(f"scons: nothing was built\n{expected}\n", output)
                self.assertNotIn("CC ", output)

    def test_a_sweep_names_its_option(self):
        output = self.tree.scons("-n", "ab", "SWEEP=CONFIG_REFILL_BATCH=8,16")
        self.assertIn("default+CONFIG_REFILL_BATCH=16/libhakmem.so --sweep CONFIG_REFILL_BATCH", output)

    def test_two_records_are_compared(self):
        self.assertIn("bench/ab.py --report old.json new.json", self.tree.scons("-n", "ab-report", "RECORD=old.json,new.json"))

    def test_a_report_builds_nothing(self):
        output = self.tree.scons("-n", "ab-report", "RECORD=a b.json")
        self.assertNotIn("CC ", output)
        self.assertIn('bench/ab.py --report "a b.json"', output)

    def test_the_test_of_the_laboratory_builds_what_it_slows_down(self):
        output = self.tree.scons("-n", "ab-selftest")
        self.assertIn("AR   build/default/libhakmem.a", output)
        self.assertIn("bench/selftest.py --document doc/laboratory.md build/default/libhakmem.so", output)

    def test_what_cannot_be_is_one_message_and_builds_nothing(self):
        output = self.tree.scons("ab", "A=defualt", status=2)
        self.assertIn("scons: nothing was built\nA=defualt: did you mean default?", output)
        self.assertNotIn("Traceback", output)
        self.assertFalse((self.tree.root / "build/default").exists())
        self.assertIn("worth measuring", self.tree.scons("ab", "SANITIZE=thread", status=2))

    def test_what_the_measurement_would_refuse_is_refused_before_the_build(self):
        for wish, message in (
            ("WORKLOADS=pair,nosuch", "no workload begins with 'nosuch'; bench/ab.py --list shows all"),
            ("WORKLOADS={}", "no workload begins with '{}'; bench/ab.py --list shows all"),
            ("WIDTH=x", "'x' is not a number of per cent: 2 or 2%"),
            ("BUDGET=-1s", "'-1s' is not a number of seconds: 60 or 60s"),
        ):
            with self.subTest(wish):
                output = self.tree.scons("ab", wish, status=2)
                self.assertIn(f"scons: nothing was built\n{wish}: {message}\n", output)
                self.assertNotIn("CC ", output)


class UsersPrograms(TreeTest):
    def test_they_get_the_environment_of_their_user(self):
        for script in ("record", "tune.py", "ab.py"):
            self.tree.write(f"bench/{script}", "import os\nprint('given:', os.environ.get('OF_THE_USER'), flush=True)\n")
        for target in ("record", "tune", "ab"):
            said = self.tree.scons(target, "PROGRAM=/bin/true", OF_THE_USER="a word")
            self.assertIn("given: a word\n", said, target)


class PerformanceReport(TreeTest):
    def test_every_pair_and_the_peers_take_part(self):
        self.tree.write("peer.so", "")
        said = self.tree.scons("-n", "performance-report", "BUDGET=90s", "PEERS=system,peer.so")
        line = next(line for line in said.splitlines() if "bench/performance.py" in line)
        words = line.split()[2:]
        self.assertEqual((words[0], words[-3:]), ("build/default/libhakmem.so", ["--budget=90", "system", "peer.so"]))
        self.assertEqual(len(words[1:-3]), len(set(words[1:-3])), words)
        self.assertIn("--also=build/magazine-mmap_only/libhakmem.so", words)
        self.assertNotIn("--also=build/unified-superslab/libhakmem.so", words)  # it is default

    def test_bad_wishes_are_refused_before_the_build(self):
        for wish, message in (("PEERS=jemaloc", "a peer is one of system, "), ("BUDGET=x", "'x' is not a number of seconds")):
            said = self.tree.scons("performance-report", wish, status=2)
            self.assertIn("scons: nothing was built", said)
            self.assertIn(message, said)


class Revisions(TreeTest):
    def test_another_revision_is_built_from_its_own_sources(self):
        """The library of a revision says what its sources said, and this tree's says what they say now."""
        self.tree.write(".gitignore", "/build/\n__pycache__/\n")
        self.tree.git("init", "--quiet")
        self.addCleanup(shutil.rmtree, self.tree.root / ".git")
        self.tree.git("add", ".")
        self.tree.git("commit", "--quiet", "-m", "then")
        scons = self.tree.root / "SConstruct"
        now = scons.read_text()
        scons.write_text(re.sub(r'^VERSION = "[^"]*"', 'VERSION = "7.8.9"', now, flags=re.MULTILINE))
        # Nothing is measured in that time; what is built before is.
        output = self.tree.scons("ab", "A=default@HEAD", "B=system", "WORKLOADS=pair 64 B", "BUDGET=0.01", status=None)
        self.assertIn("REV  build/default@HEAD/libhakmem.so", output)
        said = self.tree.command("/bin/true", LD_PRELOAD=str(self.tree.root / "build/default@HEAD/libhakmem.so"),
                                 HAKMEM_VERSION="1")
        self.assertRegex(said, r"^hakmem (?!7\.8\.9)\S+ .* revision [0-9a-f]{12} ")
        self.assertTrue((self.tree.root / "build/default@HEAD/gen/autoconf.h").is_file())
        output = self.tree.scons("ab", "A=default@HEAD+CONFIG_CACHE_BYTES=1", "WORKLOADS=pair 64 B", status=2)
        self.assertIn("cannot be built", output)
        self.assertIn("because the range is", output)
        self.assertNotIn("Traceback", output)
