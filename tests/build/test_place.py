# SPDX-License-Identifier: MIT
"""Where a build writes: one build at a time, elsewhere when asked to, and nothing of root's in a user's tree."""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from tree import MAKE_VARIABLES, OWN_VARIABLES, TreeTest, compiled, in_matrix

LIBRARY = "default/libhakmem.so"


class Concurrent(TreeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tree.scons("CONFIG=default")
        cls.expected = cls.library()

    @classmethod
    def library(cls):
        return (cls.tree.root / "build" / LIBRARY).read_bytes()

    def start(self, *words):
        return self.start_words("/usr/bin/scons", "-Q", *words)

    def start_words(self, *words):
        environment = {k: v for k, v in os.environ.items() if k not in OWN_VARIABLES + MAKE_VARIABLES}
        process = subprocess.Popen(
            words, cwd=self.tree.root, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()

    def check_that_the_default_is_built_again(self, objects="core/os"):
        self.assertIn(objects, compiled(self.tree.scons("CONFIG=default")))
        self.assertEqual(self.library(), self.expected)

    def test_a_build_waits_for_the_one_before_and_says_for_which(self):
        with open(self.tree.root / "build/.lock", "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            held.write("process 1 (scons of another)\n")
            held.flush()
            process = self.start("CONFIG=default", "CFLAGS=-O0")
            self.assertEqual(process.stdout.readline(),
                             "scons: waiting for process 1 (scons of another), which writes to build/\n")
            self.assertEqual(self.library(), self.expected)
        self.assertIn("CC   build/default/core/os.o", process.communicate()[0])
        self.assertEqual(process.returncode, 0)
        self.assertNotEqual(self.library(), self.expected)
        self.check_that_the_default_is_built_again()

    def test_what_is_only_shown_waits_for_nothing(self):
        with open(self.tree.root / "build/.lock", "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.tree.scons("-n", "CONFIG=default")
            self.tree.scons("-h")

    def test_several_at_once_leave_what_the_next_one_knows(self):
        processes = [self.start("CONFIG=default", f"CFLAGS={flags}") for flags in ("-O0", "-O1")]
        for process in processes:
            said = process.communicate()[0]
            self.assertEqual(process.returncode, 0, said)
        self.check_that_the_default_is_built_again()
        self.assertEqual(compiled(self.tree.scons("CONFIG=default")), set())

    def test_a_build_during_a_measurement(self):
        """The measurement lets it begin, and knows nothing better when it ends."""
        go = self.tree.root / "go"
        go.unlink(missing_ok=True)
        os.mkfifo(go)
        self.tree.write(
            "bench/ab.py",
            "import fcntl, sys\nfcntl.flock(int(sys.argv[sys.argv.index('--lock') + 1]), fcntl.LOCK_UN)\n"
            'print("begun", flush=True); open("go").read(); print("measured")\n',
        )
        measurement = self.start("ab", "CFLAGS=-g0")  # compiles all, which is what its database has to tell
        self.assertIn("begun\n", iter(measurement.stdout.readline, ""))
        self.assertIn("core/os", compiled(self.tree.scons("CONFIG=default", "CFLAGS=-O0")))
        go.write_text("x")
        self.assertEqual(measurement.communicate()[0], "measured\n")
        self.assertEqual(measurement.returncode, 0)
        self.assertEqual(compiled(self.tree.scons("CONFIG=default", "CFLAGS=-O0")), set())
        self.check_that_the_default_is_built_again()

    def test_a_measurement_that_fails_fails_the_build(self):
        self.tree.write("bench/ab.py", "raise SystemExit(3)\n")
        self.assertIn("Error 3", self.tree.scons("ab", status=2))

    def test_a_measurement_is_asked_for_alone(self):
        self.assertIn("scons: ab: ask for it alone", self.tree.scons("ab", "workloads", status=2))

    def test_make_clean_waits_too(self):
        with open(self.tree.root / "build/.lock", "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            process = self.start_words("make", "clean")
            self.assertEqual(process.stdout.readline(), "make: waiting for the build that writes to build/\n")
            self.assertEqual(self.library(), self.expected)
        process.communicate()
        self.assertEqual(process.returncode, 0)
        self.assertFalse((self.tree.root / "build").exists())
        self.check_that_the_default_is_built_again()


class Elsewhere(TreeTest):
    """Sources that cannot be written to."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="hakmem-elsewhere-")
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name)

    def read_only(self):
        """The tree, for a user who cannot write to it."""
        root = self.tree.root.parent
        shutil.rmtree(self.tree.root / "build", ignore_errors=True)
        for path in [root, *root.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222 | 0o444 | (0o111 if path.is_dir() else 0))
        self.addCleanup(self.writable, root)
        before = self.files()
        self.addCleanup(lambda: self.assertEqual(self.files(), before))
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.out, nobody.pw_uid, nobody.pw_gid)

    def files(self):
        return sorted(str(path) for path in self.tree.root.rglob("*"))

    @staticmethod
    def writable(root):
        for path in [root, *root.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)

    def run_as_user(self, *words, status=0, **variables):
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        return self.tree.command(*user, *words, status=status, HOME="/nonexistent", **variables)

    def test_a_tree_that_cannot_be_written_to_is_built_elsewhere(self):
        self.tree.scons("CONFIG=default")
        expected = (self.tree.root / "build" / LIBRARY).read_bytes()
        self.read_only()
        self.assertRegex(self.run_as_user("/usr/bin/scons", "CONFIG=default", status=2),
                         r"scons: build/ cannot be written: .*; O=FOLDER builds elsewhere\n$")
        out = f"O={self.out}"
        self.run_as_user("/usr/bin/scons", out, "CONFIG=default")
        self.assertEqual((self.out / LIBRARY).read_bytes(), expected)
        self.assertEqual(compiled(self.run_as_user("/usr/bin/scons", out, "CONFIG=default")), set())
        self.run_as_user("make", out, "keep_defconfig")
        self.assertIn("CONFIG_REMOTE_FREE_KEEP=y\n", (self.out / ".config").read_text())
        self.run_as_user("make", out, "savedefconfig")
        self.assertEqual((self.out / "defconfig").read_text(), "CONFIG_REMOTE_FREE_KEEP=y\n")
        self.run_as_user("make", out, "install", f"DESTDIR={self.out}/root", "SCONS_ARGS=-Q")
        library = self.out / "root/usr/local/lib/libhakmem.so"
        self.assertEqual(library.read_bytes(), (self.out / "local/libhakmem.so").read_bytes())
        self.assertIn("REMOTE_FREE_KEEP 1", (self.out / "local/gen/autoconf.h").read_text())
        self.run_as_user("/usr/bin/scons", out, "CONFIG=default", "amalgamation")
        self.assertTrue((self.out / "default/amalgamation/hakmem.c").exists())
        said = self.run_as_user("/usr/bin/scons", out, "-Q", "test", "CONFIG=default", "ONLY=test_size_class,library")
        self.assertRegex(said.splitlines()[-1], r"Tested: [1-9]\d* .* Failing: 0 \| Crashing: 0 \| Skipped: \d+$")
        self.assertIn(f"bench/ab.py {self.out}/default/libhakmem.so system --programs {self.out}/bench --output {self.out}/ab",
                      self.run_as_user("/usr/bin/scons", out, "-n", "ab"))
        self.run_as_user("make", out, "clean")
        self.assertEqual({path.name for path in self.out.iterdir()}, {".config", "defconfig", "root"})

    @in_matrix
    def test_packages(self):
        self.read_only()
        self.run_as_user("/usr/bin/scons", f"O={self.out}", "CONFIG=default", "deb")
        self.assertEqual(len(list((self.out / "deb").glob("*.deb"))), 3)

    def test_a_folder_is_meant_from_where_the_user_is(self):
        self.tree.write("inside/it", "")
        command = "cd inside && /usr/bin/scons -D O=../other '#other/local/gen/autoconf.h'"
        self.tree.command("sh", "-c", command)
        self.assertTrue((self.tree.root / "other/local/gen/autoconf.h").exists())
        self.assertFalse((self.tree.root / "build/local").exists())

    def test_reports_that_are_a_part_of_the_tree_are_written_there(self):
        said = self.tree.scons(f"O={self.out}", "defconfigs-report", status=2)
        self.assertIn("defconfigs-report: this is done without O=", said)

    def test_without_a_config_there_is_the_default(self):
        said = self.tree.make(f"O={self.out}", "install", f"DESTDIR={self.out}/root", "SCONS_ARGS=-n")
        self.assertIn(f"{self.out}/local gets configs/default_defconfig", said)


@unittest.skipUnless(os.geteuid() == 0, "only root can act for another user")
class Root(TreeTest):
    """Root installs from a tree that is another user's."""

    def test_nothing_of_roots_stays_in_the_tree(self):
        tree = self.tree.root
        user = pwd.getpwnam("nobody")
        self.tree.git("init", "-q")
        self.tree.write(".gitignore", "/build/\n__pycache__/\n")
        self.tree.git("add", "-A")
        self.tree.git("commit", "-qm", "one")
        commit = self.tree.git("rev-parse", "HEAD").strip()[:12]
        for path in [tree.parent, *tree.parent.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        with tempfile.TemporaryDirectory() as prefix:
            words = ("-Q", "CONFIG=default", f"PREFIX={prefix}/local")
            self.tree.scons(*words, "install")
            installed = [path for path in Path(prefix).rglob("*")]
            self.assertTrue(any(path.name == "libhakmem.so.0" for path in installed))
            for path in installed:
                self.assertEqual(path.lstat().st_uid, 0, path)
            self.check(tree, user)
            self.assertIn(f'"{commit}"', (tree / "build/default/gen/identity.h").read_text())
            # The user goes on, and has nothing to compile again.
            said = self.tree.command("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                                     "/usr/bin/scons", "CONFIG=default", HOME="/nonexistent")
            self.assertEqual(compiled(said), set())
            self.tree.make("uninstall", "CONFIG=default", f"PREFIX={prefix}/local")
            self.assertEqual([path for path in Path(prefix).rglob("*") if not path.is_dir()], [])
            self.tree.scons(*words, "deb", "-n")
        self.check(tree, user)

    def check(self, tree, user):
        for path in tree.rglob("*"):
            self.assertEqual(path.lstat().st_uid, user.pw_uid, path)
