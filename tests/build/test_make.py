# SPDX-License-Identifier: MIT
"""The Makefile's targets."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

from tree import ROOT, SECONDS, TreeTest


class Configuration(TreeTest):
    def config(self, name=".config"):
        return (self.tree.root / name).read_text()

    def test_help_names_every_target(self):
        output = self.tree.make("help")
        phony = re.search(r"\.PHONY: ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text())[1].replace("\\\n", " ").split()
        for target in [*phony, "NAME_defconfig"]:
            if target != "FORCE":
                self.assertIn(f"make {target} ", output)
        self.assertEqual(self.tree.make(), output)

    def test_list_defconfigs(self):
        output = self.tree.make("list-defconfigs")
        self.assertEqual(output.split()[::1][0], "default_defconfig")
        self.assertEqual(len(output.splitlines()), len(list(ROOT.glob("configs/*"))))

    def test_defconfig(self):
        self.tree.make("defconfig")
        self.assertIn("CONFIG_REMOTE_FREE_RETURN=y\n", self.config())
        self.tree.write("configs/mine_defconfig", "CONFIG_REMOTE_FREE_KEEP=y\n")
        self.tree.make("mine_defconfig")
        self.assertIn("CONFIG_REMOTE_FREE_KEEP=y\n", self.config())

    def test_a_full_config_is_what_scons_takes(self):
        self.tree.make("defconfig")
        self.tree.scons("build/local/gen/autoconf.h")

    def test_unknown_defconfig(self):
        output = self.tree.make("nope_defconfig", status=2)
        self.assertIn("there is no configs/nope_defconfig; make list-defconfigs shows what there is", output)

    def test_broken_defconfig_leaves_config_alone(self):
        self.tree.make("defconfig")
        before = self.config()
        self.tree.write("configs/mine_defconfig", "CONFIG_DIRTY_MAX=0\n")
        output = self.tree.make("mine_defconfig", status=2)
        self.assertIn("configs/mine_defconfig:1: CONFIG_DIRTY_MAX=0 was asked for, got 64 because the range", output)
        self.assertEqual(self.config(), before)

    def test_kconfig_config(self):
        self.tree.make("defconfig", KCONFIG_CONFIG="other.config")
        self.assertIn("CONFIG_OVERRIDE_LIBC=y", self.config("other.config"))
        self.tree.make("defconfig", "KCONFIG_CONFIG=third.config")
        self.assertIn("CONFIG_OVERRIDE_LIBC=y", self.config("third.config"))
        self.assertFalse((self.tree.root / ".config").exists())

    def test_savedefconfig_gives_back_what_was_loaded(self):
        text = "CONFIG_CLASS_STEPS_2=y\nCONFIG_DIRTY_MAX=32\n# CONFIG_OVERRIDE_LIBC is not set\n"
        self.tree.write("configs/mine_defconfig", text)
        self.tree.make("mine_defconfig")
        self.tree.make("savedefconfig")
        self.assertEqual(self.config("defconfig"), text)

    def test_savedefconfig_drops_nothing_in_silence(self):
        self.tree.write(".config", "CONFIG_OF_YESTERDAY=y\n")
        output = self.tree.make("savedefconfig", status=2)
        self.assertIn(".config:1: CONFIG_OF_YESTERDAY is not an option", output)

    def test_randconfig(self):
        self.assertEqual(self.tree.make("randconfig", "SEED=5"), "# Random: SEED=5\n")
        first = self.config()
        self.tree.scons("build/local/gen/autoconf.h")
        self.tree.make("randconfig", "SEED=6")
        self.assertNotEqual(self.config(), first)
        self.tree.make("randconfig", "SEED=5")
        self.assertEqual(self.config(), first)
        self.assertRegex(self.tree.make("randconfig", "KCONFIG_CONFIG=other.config"), r"^# Random: SEED=\d+\n$")
        self.tree.make("randconfig", "SEED=x", status=2)
        self.assertEqual(self.config(), first)

    def test_new_options(self):
        self.tree.make("defconfig")
        self.tree.append("Kconfig", '\nconfig NEW_ONE\n\tbool "New"\n\tdefault y\n')
        self.assertIn("CONFIG_NEW_ONE=y", self.tree.make("listnewconfig"))
        self.tree.make("olddefconfig")
        self.assertIn("CONFIG_NEW_ONE=y\n", self.config())
        self.assertNotIn("NEW_ONE", self.tree.make("listnewconfig"))

    def test_oldconfig_asks_for_nothing_known(self):
        self.tree.make("defconfig")
        before = self.config()
        self.tree.make("oldconfig")
        self.assertEqual(self.config(), before)

    def test_menuconfig_in_a_terminal(self):
        """Opens it, changes the last option, saves and leaves."""
        leader, follower = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        process = subprocess.Popen(
            ["make", "menuconfig", "KCONFIG_CONFIG=.config"],
            cwd=self.tree.root,
            env={**environment, "TERM": "vt100", "LINES": "30", "COLUMNS": "100"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        self.addCleanup(process.kill)
        self.addCleanup(os.close, leader)

        screen = b""

        def wait_for(text):
            nonlocal screen
            end = time.monotonic() + SECONDS
            while text not in screen:
                if not select.select([leader], [], [], max(0, end - time.monotonic()))[0]:
                    self.fail(f"{text} does not appear: {screen[-2000:]}")
                screen += os.read(leader, 4096)
            screen = b""

        wait_for(b"Toggle/enter")
        for keys, text in ((b"G", b"libc"), (b" ", b"\x1b"), (b"q", b"Save configuration?")):
            os.write(leader, keys)
            wait_for(text)
        os.write(leader, b"y")
        wait_for(b"saved to")
        self.assertEqual(process.wait(SECONDS), 0)
        self.assertIn("# CONFIG_OVERRIDE_LIBC is not set\n", self.config())

    def test_no_terminal(self):
        self.assertIn("menuconfig needs a terminal", self.tree.make("menuconfig", status=2))
        self.assertIn("guiconfig needs a display and tkinter", self.tree.make("guiconfig", status=2, DISPLAY=""))

    def test_no_python_with_kconfiglib(self):
        """The one on PATH is asked last; without any, the message says what to do."""
        bin = self.tree.root / "bin"
        bin.mkdir()
        makefile = (ROOT / "Makefile").read_text().replace("/usr/bin/python3", "/nowhere/python3")
        self.tree.write("Makefile", makefile)
        for name in ("sh", "make"):
            (bin / name).symlink_to(shutil.which(name))
        output = self.tree.command(shutil.which("make"), "olddefconfig", status=2, PATH=str(bin))
        self.assertIn("no python3 here can import kconfiglib: run make deps", output)
        self.tree.make("olddefconfig", "PYTHON=/usr/bin/python3")
        self.assertIn("CONFIG_OVERRIDE_LIBC=y\n", self.config())


class Packages(TreeTest):
    """`make deps`, with stand-ins for Debian's tools that write down how they are called."""

    def setUp(self):
        super().setUp()
        self.bin = self.tree.root / "bin"
        shutil.rmtree(self.bin, ignore_errors=True)
        self.bin.mkdir()
        for name in ("sh", "make", "cat", "env", "nproc", "seq"):
            (self.bin / name).symlink_to(shutil.which(name))
        self.stand_in("id", "echo 0")
        self.stand_in("dpkg-query", 'for last; do :; done; case "$last" in scons|gcc) ;; *) echo installed ;; esac')
        self.stand_in("apt-get", 'echo "apt-get $*" >>calls')
        self.stand_in("sleep", 'echo "sleep $*" >>calls')
        (self.tree.root / "calls").unlink(missing_ok=True)

    def stand_in(self, name, script):
        file = self.bin / name
        file.write_text(f"#!{shutil.which('sh')}\n{script}\n")
        file.chmod(0o755)

    def deps(self, status=0):
        return self.tree.command(shutil.which("make"), "deps", status=status, PATH=str(self.bin))

    def calls(self):
        file = self.tree.root / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def test_nothing_missing_touches_nothing(self):
        self.stand_in("dpkg-query", "echo installed")
        self.assertEqual(self.deps(), "")
        self.assertEqual(self.calls(), [])

    def test_only_what_is_missing(self):
        self.assertIn("missing Debian packages: gcc scons", self.deps())
        wait = "-o DPkg::Lock::Timeout=600"
        self.assertEqual(self.calls(), [f"apt-get {wait} update", f"apt-get {wait} install -y --no-install-recommends gcc scons"])

    def test_as_a_user_with_sudo(self):
        self.stand_in("id", "echo 1000")
        self.stand_in("sudo", 'echo "sudo $*" >>calls; "$@"')
        self.deps()
        self.assertRegex(self.calls()[0], "^sudo env .*apt-get -o DPkg::Lock::Timeout=600 update$")
        self.assertIn("install -y --no-install-recommends gcc scons", self.calls()[2])

    def test_as_a_user_without_sudo(self):
        self.stand_in("id", "echo 1000")
        self.assertIn("neither root nor sudo here. As root: apt-get install gcc scons", self.deps(status=2))
        self.assertEqual(self.calls(), [])

    def test_not_on_debian(self):
        for name in ("dpkg-query", "apt-get"):
            (self.bin / name).unlink()
        self.assertIn("this system has no apt-get: install what corresponds to them", self.deps(status=2))

    def test_apt_fails(self):
        self.stand_in("apt-get", 'echo "E: no network" >&2; exit 100')
        output = self.deps(status=2)
        self.assertIn("E: no network", output)
        self.assertIn("could not install gcc scons: see apt's message above", output)

    LOCKED = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)"

    def test_another_apt_is_waited_for(self):
        """For apt's own locks, which DPkg::Lock::Timeout does not cover."""
        self.stand_in("apt-get", f'echo "apt-get $*" >>calls; if [ ! -e tried ]; then >tried; echo "{self.LOCKED}" >&2; exit 100; fi')
        (self.tree.root / "tried").unlink(missing_ok=True)
        output = self.deps()
        self.assertEqual(output.count(f"make: waiting for another apt to end: {self.LOCKED}\n"), 1)
        called = [line.split("600 ")[-1] for line in self.calls()]
        self.assertEqual(called, ["update", "sleep 5", "update", "install -y --no-install-recommends gcc scons"])

    def test_but_not_for_ever(self):
        self.stand_in("apt-get", f'echo "{self.LOCKED}" >&2; exit 100')
        output = self.deps(status=2)
        self.assertEqual(output.count("waiting for another apt"), 1)
        self.assertIn("could not install gcc scons: see apt's message above", output)
        self.assertEqual(len(self.calls()), 600 // 5 + 1)
