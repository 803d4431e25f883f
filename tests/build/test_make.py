# SPDX-License-Identifier: MIT
"""The Makefile's targets."""

import os
import pty
import re
import select
import shutil
import subprocess

from tree import ROOT, TreeTest


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
        self.assertEqual(len(output.splitlines()), len(list(ROOT.glob("configs/*_defconfig"))))

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

    def test_magazine_like_plugins_are_chosen_at_once(self):
        """What a front end depends on comes with it."""
        for folder in ROOT.glob("policies/*/"):
            self.tree.write(".config", f"CONFIG_FRONTEND_{folder.name.upper()}=y\n")
            self.assertNotIn("no more", self.tree.make("olddefconfig"))
            self.assertIn(f'CONFIG_FRONTEND="{folder.name}"\n', self.config())

    LOST = (
        "CONFIG_OF_YESTERDAY=y\nCONFIG_DIRTY_MAX=0\nCONFIG_CACHE_BYTES=65536\nCONFIG_TRACE_HITS=y\nnonsense\n"
        "CONFIG_OLD_BATCH=16\nCONFIG_OLD_THING=y\n"
    )
    REPORT = (
        "make: what .config had and has no more (.config.old still has it):\n"
        "  .config:1: CONFIG_OF_YESTERDAY is not an option; `make menuconfig` shows all there are\n"
        "  .config:2: CONFIG_DIRTY_MAX=0 was asked for, got 64 because the range is 1..65536\n"
        "  .config:4: CONFIG_TRACE_HITS=y was asked for, got n because it depends on TRACE (=n)\n"
        "  .config:5: malformed line 'nonsense': write CONFIG_X=value, '# CONFIG_X is not set', or a comment that starts with #\n"
        "  .config:7: CONFIG_OLD_THING is no more: there is nothing to choose\n"
    )

    def yesterday(self):
        self.tree.write("configs/renamed", "CONFIG_OLD_BATCH CONFIG_REFILL_BATCH\nCONFIG_OLD_THING - there is nothing to choose\n")
        self.tree.write(".config", self.LOST)

    def test_nothing_is_dropped_in_silence(self):
        self.yesterday()
        self.assertTrue(self.tree.make("olddefconfig").endswith(self.REPORT))
        self.assertIn("CONFIG_CACHE_BYTES=65536\n", self.config())
        self.assertIn("CONFIG_REFILL_BATCH=16\n", self.config())
        self.assertEqual(self.config(".config.old"), self.LOST)
        self.assertNotIn("no more", self.tree.make("olddefconfig"))

    def test_a_build_says_what_was_renamed(self):
        self.yesterday()
        output = self.tree.scons(status=2)
        self.assertIn(".config:5: malformed line 'nonsense'", output)
        self.tree.write(".config", "CONFIG_OLD_BATCH=16\nCONFIG_OLD_THING=y\n")
        output = self.tree.scons(status=2)
        self.assertIn(".config:1: CONFIG_OLD_BATCH is CONFIG_REFILL_BATCH now; `make olddefconfig` updates a .config\n", output)
        self.assertIn(".config:2: CONFIG_OLD_THING is no more: there is nothing to choose\n", output)

    def answer(self, *words, answers, status=0, **variables):
        return self.tree.command("sh", "-c", f"printf '{answers}' | make {' '.join(words)}", status=status, **variables)

    def test_oldconfig_reports_too(self):
        self.yesterday()
        self.tree.make("olddefconfig")
        self.tree.write(".config", self.config() + "CONFIG_OF_YESTERDAY=y\n")
        self.tree.append("Kconfig", '\nconfig NEW_ONE\n\tbool "New"\n')
        output = self.answer("oldconfig", answers="y\\n")
        self.assertIn("CONFIG_OF_YESTERDAY is not an option", output)
        self.assertIn("CONFIG_NEW_ONE=y\n", self.config())

    def test_nobody_answers(self):
        message = "make: oldconfig has a question and no answer on standard input; make olddefconfig takes the defaults"
        for command in ("make oldconfig", "make oldconfig <&-", "printf 1 | make oldconfig"):
            output = self.tree.command("sh", "-c", command, status=2)
            self.assertIn(message, output)
            self.assertNotIn("Traceback", output)
        self.assertFalse((self.tree.root / ".config").exists())

    def test_a_config_that_cannot_be_written_or_read(self):
        (self.tree.root / ".config").mkdir()
        self.addCleanup(lambda: (self.tree.root / ".config").rmdir())
        for target in ("olddefconfig", "oldconfig", "defconfig", "savedefconfig", "listnewconfig", "randconfig"):
            output = self.tree.make(target, status=2)
            self.assertRegex(output, r"(?m)^(make: )?\.config(:| cannot be (read|written):) Is a directory", target)
            self.assertNotIn("Traceback", output)
        for target in ("olddefconfig", "defconfig", "randconfig"):
            output = self.tree.make(target, "KCONFIG_CONFIG=/proc/no/config", status=2)
            self.assertIn("make: /proc/no/config cannot be written: ", output)
            self.assertNotIn("Traceback", output)
        (self.tree.root / "latin").write_bytes(b"# \xff\n")
        self.assertIn("latin is not UTF-8 text", self.tree.make("olddefconfig", "KCONFIG_CONFIG=latin", status=2))

    def menuconfig(self, *steps, columns="100", **variables):
        """Types into menuconfig: after what is on the screen, these keys. Returns all that it has shown; its exit
        status is the last one's."""
        leader, follower = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        process = subprocess.Popen(
            ["make", "menuconfig", "KCONFIG_CONFIG=.config"],
            cwd=self.tree.root,
            env={**environment, "LC_ALL": "C.UTF-8", "TERM": "vt100", "LINES": "40", "COLUMNS": columns, **variables},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(os.close, leader)
        shown = b""
        for text, keys in [*steps, (None, None)]:
            screen = b""
            while text is None or text not in screen:
                if not select.select([leader], [], [], 60)[0]:
                    self.fail(f"{text} does not appear: {screen[-2000:]}")
                try:
                    more = os.read(leader, 4096)
                except OSError:  # it has ended
                    more = b""
                if not more and text is None:
                    break
                self.assertTrue(more, f"{text} does not appear: {screen[-2000:]}")
                screen += more
                shown += more
            if keys:
                os.write(leader, keys)
        return process.wait(60), shown.decode(errors="replace").replace("\r\n", "\n")

    def test_menuconfig_in_a_terminal(self):
        """Opens it, changes the last option, saves and leaves."""
        self.tree.append("Kconfig", '\nconfig LAST_ONE\n\tbool "Very last"\n')
        status, _ = self.menuconfig((b"Toggle/enter", b"G"), (b"Very last", b" "), (b"\x1b", b"q"),
                                    (b"Save configuration?", b"y"), (b"saved to", b""))
        self.assertEqual(status, 0)
        self.assertIn("CONFIG_LAST_ONE=y\n", self.config())

    def test_menuconfig_reports_what_is_lost(self):
        self.yesterday()
        status, shown = self.menuconfig((b"Toggle/enter", b"q"), (b"Save configuration?", b"y"), (b"saved to", b""))
        self.assertEqual(status, 0)
        self.assertTrue(shown.endswith(self.REPORT), shown[-2000:])

    def test_menuconfig_reports_what_a_choice_of_the_user_has_dropped(self):
        """But not what the user has changed, nor what was at its default."""
        self.tree.append(
            "Kconfig",
            '\nconfig UPPER\n\tbool "Last but two"\n'
            '\nconfig SET\n\tint "Last but one"\n\tdepends on UPPER\n\trange 1 9\n\tdefault 5\n'
            '\nconfig UNSET\n\tint "Very last"\n\tdepends on UPPER\n\trange 1 9\n\tdefault 5\n',
        )
        self.tree.write(".config", "CONFIG_UPPER=y\nCONFIG_SET=7\n")
        self.tree.make("olddefconfig")
        _, shown = self.menuconfig((b"Toggle/enter", b"G"), (b"Very last", b"kk"), (b"Last but two", b"n"), (b"\x1b", b"q"),
                                   (b"Save configuration?", b"y"), (b"saved to", b""))
        self.assertIn("# CONFIG_UPPER is not set\n", self.config())
        self.assertEqual(
            shown.partition("make: ")[2],
            "what .config had and has no more (.config.old still has it):\n"
            "  .config:" + shown.rpartition("  .config:")[2].partition(":")[0]
            + ": CONFIG_SET=7 was asked for, got nothing because it depends on UPPER (=n)\n",
        )

    def test_menuconfig_with_what_it_cannot_use(self):
        status, shown = self.menuconfig(TERM="of-nobody")
        self.assertEqual(status, 2)
        self.assertIn("make: menuconfig cannot draw on this terminal, TERM=of-nobody: try TERM=xterm", shown)
        self.assertNotIn("Traceback", shown)
        status, shown = self.menuconfig(TERM="dumb")
        self.assertIn("cannot draw on this terminal, TERM=dumb", shown)
        status, shown = self.menuconfig((b"Toggle/enter", b"q"), (b"Save configuration?", b"n"), LC_ALL="xx_YY.UTF-8")
        self.assertEqual(status, 0)
        self.assertIn("make: the locale xx_YY.UTF-8 is not installed here (locale -a lists those that are): C.UTF-8 is used",
                      shown)
        self.assertNotIn("Traceback", shown)

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

    def deps(self, status=0, target="deps"):
        return self.tree.command(shutil.which("make"), target, status=status, PATH=str(self.bin))

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

    def test_servers_are_installed_by_a_target_of_their_own(self):
        self.stand_in("dpkg-query", "")
        servers = self.deps(target="deps-servers").split("missing Debian packages:")[1].splitlines()[0].split()
        self.assertLessEqual({"openssh-server", "slurmctld", "slurmd"}, set(servers))
        self.assertFalse(set(servers) & set(self.deps().split("missing Debian packages:")[1].splitlines()[0].split()))

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
