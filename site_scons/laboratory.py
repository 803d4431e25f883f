# SPDX-License-Identifier: MIT
"""What `scons ab` compares: from A=, B=, PEERS= and SWEEP= to the configurations that must be built and
the arguments of bench/ab.py.

A side is a configuration (configs/NAME_defconfig by its name, `local`, or the path of a file), with options
changed on the fly (default+CONFIG_X=32+CONFIG_Y=n) or compiled otherwise (default+LTO=1+PGO=1+MARCH=native), or a finished library: a path, or a name such as system. A
configuration may be that of another revision (default@v0.1, default@HEAD~3+CONFIG_X=32): its sources, built by its
own SConstruct in a clone below build/revisions/.
"""

import difflib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import configuration
import toolchain
from refusal import Refusal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
from lab import engine, programs, wishes  # noqa: E402
from lab.libraries import PEERS, SYSTEM  # noqa: E402

sys.path.pop(0)

RUNNER = "bench/ab.py"
SELFTEST = ["bench/selftest.py", "--document", "doc/laboratory.md"]
DEFCONFIGS = ["bench/defconfigs.py", "--document", "doc/defconfigs.md"]
LATEST = "ab/latest.json"  # below the folder of builds
LIBRARY = re.compile(r"\.so(\.\d+)*$")
PARTS = re.compile(r"\+(?=CONFIG_|(?:LTO|PGO|MARCH)=)")
FLAG = re.compile(r"(LTO|PGO)=1|(MARCH)=([\w.+-]+)")
CHANGE = re.compile(r"(CONFIG_\w+)=(.+)", re.DOTALL)
SWEEP = re.compile(r"(CONFIG_\w+)=([^,]+(?:,[^,]+)*)")
MOST_NAME = 100  # characters of a folder's name


class WishError(Refusal):
    """What was asked for cannot be compared; the message says what can."""

    before = "nothing was built\n"


@dataclass(frozen=True)
class Side:
    """One of those that are compared."""

    argument: str  # of bench/ab.py
    folder: str = ""  # of one that must be built
    config: "configuration.Configuration | None" = None
    revision: "Revision | None" = None  # of one that is built from other sources than these
    compiled: "tuple[str, ...]" = ()  # LTO=1, PGO=1, MARCH=…

    @property
    def flags(self) -> "dict[str, object]":
        """The variables of SConstruct that it is built with."""
        words = dict(word.split("=", 1) for word in self.compiled)
        return {name: value if name == "MARCH" else True for name, value in words.items()}


@dataclass(frozen=True)
class Revision:
    """Other sources, and the configuration that they are built in."""

    commit: str
    text: str  # of the configuration


class Laboratory:
    """Reads the wishes. `locate` gives the file of a configuration's name, or "" if there is none."""

    def __init__(self, root: Path, names: "list[str]", locate, plugins: "Path | None" = None, out: str = "build") -> None:
        self.root = root
        self.names = names
        self.locate = locate
        self.plugins = plugins
        self.out = out

    def sides(self, env) -> "list[Side]":
        """A, then those that it is compared with. Raises WishError or configuration.ConfigurationError."""
        configs = [name for name in env["CONFIG"].split(",") if name]
        if len(configs) > 2:
            raise WishError("CONFIG= names more than two configurations: `scons ab` compares A= with B=, PEERS=, SWEEP=")
        first = env["A"] or (configs[0] if configs else "default")
        second = env["B"] or (configs[1] if len(configs) == 2 else "")
        others = [("B", second)] if second else []
        others += self.named_peers(env)
        others += [("SWEEP", wish) for wish in self.sweep(first, env["SWEEP"])]
        return [self.side(*wish) for wish in [("A", first), *(others or [("B", SYSTEM)])]]

    @staticmethod
    def named_peers(env) -> "list[tuple[str, str]]":
        return [("PEERS", peer) for peer in env["PEERS"].split(",") if peer]

    def peers(self, env) -> "list[Side]":
        """What PEERS= names. Raises WishError."""
        return [self.side(*wish) for wish in self.named_peers(env)]

    def sweep(self, first: str, wish: str) -> "list[str]":
        if not wish:
            return []
        match = SWEEP.fullmatch(wish)
        if not match:
            raise WishError(f"SWEEP={wish}: write an option and its values: SWEEP=CONFIG_X=8,16,32")
        if self.is_library(first):
            raise WishError(f"SWEEP={wish}: A={first} is a finished library; a sweep changes a configuration")
        return [f"{first}+{match[1]}={value}" for value in match[2].split(",")]

    @staticmethod
    def is_library(wish: str) -> bool:
        return wish == SYSTEM or wish in PEERS or bool(LIBRARY.search(wish))

    def side(self, variable: str, wish: str) -> Side:
        shown = f"{variable}={wish}"
        if self.is_library(wish):
            if wish != SYSTEM and wish not in PEERS and not os.path.isfile(wish):
                raise WishError(f"{shown}: there is no such file")
            return Side(wish)
        if variable == "PEERS":
            peers = ", ".join([SYSTEM, *PEERS])
            raise WishError(f"{shown}: a peer is one of {peers}, or the path of a .so; a configuration goes to A= or B=")

        base, *parts = PARTS.split(wish)
        changes = [part for part in parts if part.startswith("CONFIG_")]
        compiled = tuple(part for part in parts if part not in changes)
        for part in compiled:
            if not FLAG.fullmatch(part):
                raise WishError(f"{shown}: '{part}': write +LTO=1, +PGO=1 or +MARCH=PROCESSOR")
        if "@" in base and not os.path.isfile(base):
            return self.side_of_revision(shown, wish, base, changes, compiled)
        file = self.configuration_file(shown, base)
        config = self.changed(shown, file, changes)
        if base in self.names or base == "local":
            folder = wish
        else:
            folder = f"{Path(base).name}-{config.digest}{wish[len(base):]}"
        folder = folder_name(folder, config.digest)
        return Side(f"{self.out}/{folder}/libhakmem.so", f"{self.out}/{folder}", config, compiled=compiled)

    def side_of_revision(self, shown: str, wish: str, base: str, changes: "list[str]", compiled: "tuple[str, ...]") -> Side:
        name, _, asked = base.partition("@")
        commit = git(self.root, shown, f"{asked} is no revision of this tree", "rev-parse", "--verify", "--quiet",
                     "--end-of-options", f"{asked}^{{commit}}").strip()
        if name == "local" or "/" in name or os.path.isfile(name):
            file = self.configuration_file(shown, name)
            text = (self.root / file).read_text(encoding="utf-8")
        else:
            text = git(self.root, shown, f"that revision has no configs/{name}_defconfig", "show",
                       f"{commit}:configs/{name}_defconfig")
        options = configuration.load_options(self.root, self.plugins)
        for change in changes:
            text = changed_text(options, text, shown, change)
        folder = folder_name(wish.replace("/", "_"), hashlib.sha256(text.encode()).hexdigest()[:12])
        return Side(f"{self.out}/{folder}/libhakmem.so", f"{self.out}/{folder}", revision=Revision(commit, text), compiled=compiled)

    def configuration_file(self, shown: str, base: str) -> str:
        if "+" in base:
            raise WishError(f"{shown}: a change of an option is +CONFIG_NAME=VALUE")
        if file := self.locate(base):
            return file
        if "/" in base or os.path.isfile(base):
            if os.path.isfile(base):
                return base
            raise WishError(f"{shown}: there is no such file")
        known = [*self.names, "local", SYSTEM, *PEERS]
        close = difflib.get_close_matches(base, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise WishError(
            f"{shown}: {hint}It may be a configuration ({', '.join([*self.names, 'local'])}), the path of a "
            f"configuration or of a .so, or one of {', '.join([SYSTEM, *PEERS])}"
        )

    def changed(self, shown: str, file: str, changes: "list[str]") -> configuration.Configuration:
        """The configuration of the file with the changes made."""
        text = configuration.read_text(self.root / file, f"{shown}: {file}")
        options = configuration.load_options(self.root, self.plugins)
        for change in changes:
            text = changed_text(options, text, shown, change)
        if problems := configuration.load_text(options, text, shown, configuration.read_renamed(self.root)):
            raise configuration.ConfigurationError(problems)
        return configuration.outcome(self.root, options, self.plugins)


def folder_name(wish: str, digest: str) -> str:
    """The folder below build/ of a side that is built."""
    name = re.sub(r"[^\w.+=@~^-]", "_", wish)
    return name if len(name) <= MOST_NAME else f"{name[:60]}-{digest}"


def git(root: Path, shown: str, problem: str, *words: str) -> str:
    """What git prints. Raises WishError with the problem, and with what git says of it."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise WishError(f"{shown}: git cannot be run: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise WishError(f"{shown}: {problem}" + (f" ({said[0]})" if said else ""))
    return done.stdout


def changed_text(options, text: str, shown: str, change: str) -> str:
    """The text of a configuration with that line, and without others that set the option, or that ask for another one
    of the same choice. The options of another revision are unknown here; for them, names decide."""
    match = CHANGE.fullmatch(change)
    if not match:
        raise WishError(f"{shown}: '{change}' is no change of an option: write +CONFIG_NAME=VALUE")
    rivals = {match[1]}
    symbol = options.syms.get(match[1].removeprefix("CONFIG_"))
    if symbol is not None and symbol.choice and match[2] == "y":
        rivals |= {f"CONFIG_{other.name}" for other in symbol.choice.syms}
    set_it = re.compile(rf"(# )?({'|'.join(rivals)})(=| is not set)")
    return "\n".join([*(line for line in text.splitlines() if not set_it.match(line)), change, ""])


def workload_names(env) -> "list[str]":
    return [name.strip() for name in env["WORKLOADS"].split(",") if name.strip()]


OF_A_PROGRAM = ("SETUP", "PREPARE", "INPUT", "METRIC", "CLIENT", "PORT")  # variables; options of bench/ab.py


def programs_file(env) -> str:
    return env["PROGRAMS"] or (programs.FILE if os.path.isfile(programs.FILE) else "")


def check_wishes(env) -> None:
    """Raises WishError for what bench/ab.py would refuse after the build."""
    if env["SANITIZE"]:
        raise WishError(f"SANITIZE={env['SANITIZE']}: what a sanitizer slows down is not worth measuring")
    if words := toolchain.flavour(env):
        raise WishError(f"{' '.join(words)}: say it of a side: A=default B=default+LTO=1")
    try:
        programs.asked(env["PROGRAM"], **{name.lower(): env[name] for name in OF_A_PROGRAM})
        own = programs.read(programs_file(env)) if programs_file(env) else []
    except ValueError as error:
        raise WishError(str(error)) from None
    for variable, check in (
        ("WORKLOADS", lambda _: wishes.chosen(workload_names(env), own)),
        ("BUDGET", wishes.seconds),
        ("WIDTH", wishes.per_cent),
        ("LIMIT", wishes.seconds),
    ):
        try:
            if env[variable]:
                check(env[variable])
        except ValueError as error:
            raise WishError(f"{variable}={env[variable]}: {error}") from None
    check_engine(env)


def check_engine(env) -> None:
    """Raises WishError where ENGINE= cannot measure, which is seen by asking each machine."""
    if env["COUNTERS"] and env["ENGINE"] not in ("", engine.LOCAL):
        raise WishError(f"COUNTERS=yes: one machine's counters are counted without ENGINE={env['ENGINE']}")
    try:
        engine.check(env["ENGINE"], env["HOSTS"])
    except engine.EngineError as error:
        raise WishError(str(error)) from None


def recordings(env) -> "list[str]":
    """The kept recordings that the chosen workloads replay."""
    own = programs.read(programs_file(env)) if programs_file(env) else []
    words = [word for one in wishes.chosen(workload_names(env), own) if not one.own for word in one.command]
    return [Path(word).stem for word in words if word.endswith(".replay")]


ONE_REVISION_AT_A_TIME = threading.Lock()  # two sides may be of the same clone
PASSED_ON = ("CC", "AR", "CFLAGS", "CPPFLAGS", "LDFLAGS")  # to another revision's build, so that nothing else differs


def build_revision(root: Path, side: Side, settings: "dict[str, str]", jobs: int, out: str = "build") -> None:
    """Builds a side of another revision: in a clone of its own, which stays for the next time. Raises WishError."""
    revision = side.revision
    tree = root / out / "revisions" / revision.commit[:12]
    shown = Path(side.folder).name
    if not tree.is_dir():
        tree.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
            clone = Path(folder) / "tree"
            git(root, shown, "the tree cannot be cloned", "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone))
            git(clone, shown, "the revision cannot be checked out", "checkout", "--quiet", "--detach", revision.commit)
            os.rename(clone, tree)
    config = tree.parent / f"{revision.commit[:12]}.config"
    config.write_text(revision.text, encoding="utf-8")
    given = [f"{name}={value}" for name, value in settings.items() if value]
    environment = {name: value for name, value in os.environ.items() if name not in ("SCONSFLAGS", "KCONFIG_CONFIG")}
    words = [shutil.which("scons") or "/usr/bin/scons", "-C", str(tree), f"-j{jobs}", "-Q", "CONFIG=local",
             f"KCONFIG_CONFIG={config}", *given]
    done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        raise WishError(f"{shown}: revision {revision.commit[:12]} cannot be built; {tree} has it, and its build says:\n"
                        f"{done.stdout.rstrip()}")
    for name in ("libhakmem.so", "gen/autoconf.h"):
        product, place = tree / "build" / "-".join(["local", *toolchain.flavour(side.flags)]) / name, root / side.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(product, f"{place}.new")
        shutil.copymode(product, f"{place}.new")
        os.replace(f"{place}.new", place)


def revision_action(root: Path, side: Side, jobs: int, out: str = "build"):
    """SCons action: builds that side."""

    def run(target, source, env):
        settings = {name: env[name] for name in PASSED_ON} | {"PLUGINS": str(env["PLUGIN_ROOT"] or "")}
        settings |= dict(word.split("=", 1) for word in side.compiled)
        try:
            with ONE_REVISION_AT_A_TIME:
                build_revision(root, side, settings, jobs, out)
        except (WishError, OSError) as error:
            sys.stderr.write(f"scons: {error}\n")
            return 2
        return None

    run.__name__ = f"revision_{side.revision.commit[:12]}"
    return run, lambda target, source, env: f"REV  {side.folder}/libhakmem.so ({side.revision.commit[:12]})"


def words_for_scons(words: "list[str]"):
    """A command that runs without a shell; SCons must not expand $NAME in its words."""
    return [[word.replace("$", "$$") for word in words]]


def shown(words: "list[str]"):
    """How SCons prints the action that runs a command."""
    return lambda target, source, env: " ".join(f'"{word}"' if " " in word else word for word in words)


def with_the_users_environment(words: "list[str]", stdin=None):
    """A command for programs of the user's, which need more of the environment than a build does."""
    return lambda target, source, env: subprocess.run(words, stdin=stdin).returncode, shown(words)


def action(env, sides: "list[Side]", out: str, lock):
    """SCons action: calls bench/ab.py to compare them, which lets go of the lock on the folder of builds when it has
    its copies. It gets the user's environment, which the user's programs need and no other workload sees."""
    words = ["/usr/bin/python3", RUNNER, *(side.argument for side in sides)]
    for name in workload_names(env):
        words += ["--only", name]
    options = {"BUDGET": "--budget", "WIDTH": "--width", "LIMIT": "--limit", "PROGRAMS": "--workloads", "PROGRAM": "--program",
               "ENGINE": "--engine", "HOSTS": "--hosts"}
    options |= {name: f"--{name.lower()}" for name in OF_A_PROGRAM}
    # With a sign of equality, a value may begin with a dash.
    words += [f"{option}={env[variable]}" for variable, option in options.items() if env[variable]]
    if match := SWEEP.fullmatch(env["SWEEP"]):
        words += ["--sweep", match[1]]
    words += ["--counters"] if env["COUNTERS"] else []
    words += [] if out == "build" else ["--programs", f"{out}/bench", "--output", f"{out}/ab"]

    def run(target, source, env) -> int:
        held = lock.hand_over()  # SCons itself hands no file to what it starts
        done = subprocess.run([*words, "--lock", str(held)], pass_fds=[held], stdin=subprocess.DEVNULL)
        return done.returncode

    return run, shown(words)


def report_action(env, out: str = "build"):
    """The call that draws a record again, or compares two."""
    records = [record for record in env["RECORD"].split(",") if record]
    words = ["/usr/bin/python3", RUNNER, "--report", *(records or [f"{out}/{LATEST}"])]
    return words_for_scons(words + ([] if out == "build" else ["--output", f"{out}/ab"]))


def selftest_action(folder: str):
    """The call that tests the laboratory with a build."""
    return words_for_scons(["/usr/bin/python3", *SELFTEST, f"{folder}/libhakmem.so", f"{folder}/libhakmem.a"])


def defconfigs_action():
    """The call that measures what the configurations promise."""
    return words_for_scons(["/usr/bin/python3", *DEFCONFIGS])


def performance_action(env, folders: "list[str]", peers: "list[str]"):
    """The call that writes doc/performance.md: of the first of these builds, and of the others as other compositions."""
    library, *also = (f"{folder}/libhakmem.so" for folder in folders)
    words = ["/usr/bin/python3", "bench/performance.py", library, *(f"--also={path}" for path in also)]
    if env["BUDGET"]:
        words.append(f"--budget={wishes.seconds(env['BUDGET']):.0f}")
    return words_for_scons([*words, *peers])


def record_action(env, out: str):
    """The call that records a program."""
    folder = ["--output", env["OUTPUT"]] if env["OUTPUT"] else []
    command = ["--libraries", f"{out}/bench", *folder, "--", *shlex.split(env["PROGRAM"])]
    return with_the_users_environment(["/usr/bin/python3", "bench/record", *command])


def tune_action(env, out: str, jobs: int):
    """The call that searches for a composition."""
    words = ["/usr/bin/python3", "bench/tune.py", *([f"--jobs={jobs}"] if jobs > 1 else []), f"--programs={out}/bench", f"--output={out}/tune"]
    given = ("PROGRAM", "TRACE", "AGAINST", "CLASSES", "GOAL", "LIMIT", "BUDGET", "NAME", "SEED", "PLUGINS", "SETUP", "PREPARE", "INPUT", "METRIC",
             "CLIENT", "PORT", "ENGINE", "HOSTS")
    words += [f"--{name.lower()}={env[name]}" for name in given if env[name]]
    return with_the_users_environment(words, subprocess.DEVNULL)
