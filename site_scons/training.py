# SPDX-License-Identifier: MIT
"""PGO=1: the library is compiled with counters, serves the laboratory's own workloads, and is compiled again for what they
counted. The two have the same objects, the first below training/."""

import os
import shlex
import subprocess
from pathlib import Path

from SCons.Script import Action

import generated
import toolchain
from laboratory import wishes

FOLDER = "training"  # below a build's
SECONDS = 600  # what has not ended by then hangs
NO_VALUES = ["-mllvm", "-disable-vp=true"]  # to count values as well, clang's runtime allocates in the middle of malloc


def commands(programs: str) -> "list[list[str]]":
    """A short run of each workload that the laboratory builds itself: it is there, and the same, on every machine."""
    own = [one for one in wishes.chosen(["all"]) if one.command[0].startswith("{programs}/")]
    return [one.filled(one.simulated or one.command, programs) for one in own]


def count(env) -> None:
    """The flags of the library that counts."""
    env.Append(CCFLAGS=["-fprofile-generate", "-fprofile-update=atomic", *(NO_VALUES if toolchain.is_clang(env["CC"]) else [])])
    env.Append(SHLINKFLAGS=["-fprofile-generate"])


def train(env, library, needs: list):
    """The node of what the workloads count. It is built when library or workloads are new."""
    folder = env.Dir(f"$BUILD/{FOLDER}").abspath
    merge = toolchain.beside(env["CC"], "clang", "llvm-profdata") if toolchain.is_clang(env["CC"]) else ""

    def run(target, source, env) -> int:
        for old in [*Path(folder).rglob("*.gcda"), *Path(folder).glob("*.profraw")]:
            old.unlink()
        variables = {"LD_PRELOAD": f"{folder}/libhakmem.so", "LLVM_PROFILE_FILE": f"{folder}/%p.profraw"}
        for command in commands(env.Dir("$OUT/bench").abspath):
            done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=SECONDS)
            if done.returncode:
                print(f"scons: PGO: exit status {done.returncode}: {shlex.join(command)}")
                return 1
        raw = sorted(map(str, Path(folder).glob("*.profraw")))
        if merge:
            return subprocess.run([merge, "merge", "-o", str(target[0]), *raw]).returncode
        counted = sorted(Path(folder).rglob("*.gcda"))
        Path(str(target[0])).write_text(generated.digest_of(counted))  # what is compiled again when the counts are others
        return 0 if counted else 1

    return env.Command(f"$BUILD/{FOLDER}/profile", [library, needs], Action(run, "TRAIN $TARGET"))


def of_object(target, source, env, for_signature) -> str:
    """The flag that says what was counted for this object, if it is one of the library."""
    build = env.Dir("$BUILD").abspath
    below = os.path.relpath(str(target[0]), build)
    # An object is compiled again when the counts are others, wherever they lie.
    if for_signature or below.split("/")[0] not in ("core", "policies", "backends"):
        return ""
    if toolchain.is_clang(env["CC"]):
        return f"-fprofile-use={build}/{FOLDER}/profile"
    return f"-fprofile-use={build}/{FOLDER}/{os.path.splitext(below)[0]}.gcda"


def use(env) -> None:
    """The flags of the library that is trained. What no workload has reached is compiled as without a profile."""
    partial = NO_VALUES if toolchain.is_clang(env["CC"]) else ["-fprofile-partial-training", "-Wno-missing-profile"]
    env.Replace(PROFILE_OF_OBJECT=of_object)
    env.Append(CCFLAGS=["$(", "$PROFILE_OF_OBJECT", "$)", *partial])
