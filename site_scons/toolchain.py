# SPDX-License-Identifier: MIT
"""The compiler, the flags of the library, and what a build says of them."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess

from refusal import Refusal

# fmt: off
WARNINGS = [
    "-Wall", "-Wextra", "-Wundef", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes",
    "-Wpointer-arith", "-Wcast-qual", "-Wvla", "-Werror",
]
COMPILE = [
    "-std=gnu17", "-O2", "-fPIC", *WARNINGS,
    "-gdwarf-4",                   # Debian 12's valgrind does not read what clang 14 writes as DWARF 5
    "-fvisibility=hidden",         # only what is marked is exported
    "-fno-semantic-interposition",
    "-fno-plt",
    "-ftls-model=initial-exec",    # a thread's heap is one load away
    "-fexceptions",                # a C++ new-handler may throw through us
    "-ffunction-sections", "-fdata-sections",  # what no policy calls is not linked in
    "-fno-builtin-malloc",         # malloc is what we define, the compiler must not know better
]
LINK = [
    "-Wl,-z,nodelete",             # blocks, key and handlers outlive dlclose
    "-Wl,-z,relro", "-Wl,-z,now",
    "-Wl,--gc-sections",
]
# fmt: on

# SANITIZE: flags and the name that the build's folder gets.
SANITIZERS = {
    "": ([], ""),
    # gcc warns that its ThreadSanitizer does not follow fences, of which we have one, for fork; clang does
    # not know that warning.
    "thread": (["-fsanitize=thread", "-Wno-unknown-warning-option", "-Wno-tsan"], "-tsan"),
    "address,undefined": (
        ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"],
        "-asan",
    ),
}


# fmt: off
LTO = {  # of gcc the archive's objects are also ordinary ones, for programs that are linked without LTO
    "gcc": (["-flto", "-ffat-lto-objects"], ["-flto=auto", "-O2"]),
    "clang": (["-flto"], ["-flto", "-fuse-ld=lld", "-O2"]),
}
# fmt: on


def is_clang(cc: str) -> bool:
    return "clang" in cc


def beside(cc: str, name: str, tool: str) -> str:
    """The tool that comes with a compiler: llvm-ar-14 with clang-14, where it is on PATH."""
    word = shlex.split(cc)[0]
    found = re.sub(rf"{name}(?=(-[0-9]+)?$)", tool, word)
    return found if found != word and shutil.which(found) else tool


def flavour(settings) -> "list[str]":
    """What LTO, PGO and MARCH make of a build: the end of its folder's name, and a part of what the library says it is."""
    words = [word for word in ("lto", "pgo") if settings.get(word.upper())]
    return [*words, *([f"march={settings['MARCH']}"] if settings.get("MARCH") else [])]


def check_flavour(env) -> None:
    """Raises Refusal for what LTO, PGO and MARCH cannot be."""
    words, march = flavour(env), env["MARCH"]
    if words and env["SANITIZE"]:
        raise Refusal(f"{', '.join(words)}: not with SANITIZE={env['SANITIZE']}, which is for finding mistakes")
    if march and not re.fullmatch(r"[\w.+-]+", march):
        raise Refusal(f"MARCH={march}: this is one word, as the compiler's -march= takes it")
    if march:
        command = [*shlex.split(env["CC"]), f"-march={march}", "-E", "-x", "c", "-"]
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        if said.returncode:
            known = re.findall(r"note: (valid .*)", said.stderr)
            raise Refusal("\n".join([f"MARCH={march}: {env['CC']} does not know this processor", *known]))
    needed = {"ld.lld": "LTO", "llvm-ar": "LTO", "llvm-profdata": "PGO"} if is_clang(env["CC"]) else {}
    for tool, variable in needed.items():
        if env[variable] and not shutil.which(beside(env["CC"], "clang", tool)):
            raise Refusal(f"{variable}=1: {env['CC']} needs {tool} (Debian: apt-get install {'lld' if tool == 'ld.lld' else 'llvm'})")


def require(variable: str, command: str, package: str) -> None:
    """Raises Refusal unless the first word of the command can be run."""
    words = shlex.split(command)
    if not words or not shutil.which(words[0]):
        raise Refusal(
            f"{variable}={command}: there is no such program on PATH. Install it "
            f"(Debian: apt-get install {package}), or name another: scons {variable}=…"
        )


def compiler_version(cc: str) -> str:
    """The compiler's own words on what it is, for hak_config()."""
    require("CC", cc, "gcc")
    # A compiler reports its version in the language of the user.
    asked = subprocess.run(
        [*shlex.split(cc), "--version"],
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    lines = asked.stdout.splitlines()
    if asked.returncode or not lines:
        raise Refusal(f"CC={cc}: `{cc} --version` fails: is that a C compiler?\n{asked.stderr}".rstrip())
    return lines[0].strip()


def require_header(cc: str, cppflags: str, header: str, package: str) -> None:
    """Raises Refusal unless the compiler finds the header."""
    found = subprocess.run(
        [*shlex.split(cc), *shlex.split(cppflags), "-E", "-x", "c", "-"],
        input=f"#include <{header}>\n",
        capture_output=True,
        text=True,
    )
    if found.returncode:
        raise Refusal(f"{cc} does not find <{header}>: `make deps` installs it (Debian: {package})")


def configure(env) -> None:
    """Adds our flags in front of the user's, so that the user has the last word."""
    sanitizer, _ = SANITIZERS[env["SANITIZE"]]
    cflags, cppflags, ldflags = (env.Split(env[name]) for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS"))
    # A sanitizer's runtime is in the program, not in the library.
    link = LINK if sanitizer else [*LINK, "-Wl,--no-undefined"]

    words = flavour(env)
    compiled, linked = LTO["clang" if is_clang(env["CC"]) else "gcc"] if env["LTO"] else ([], [])
    compiled = [*compiled, *([f"-march={env['MARCH']}"] if env["MARCH"] else [])]
    if env["LTO"] and is_clang(env["CC"]) and env["AR"] == "ar":
        env.Replace(AR=beside(env["CC"], "clang", "llvm-ar"))  # ar cannot read clang's objects

    env["OWN_FLAGS"] = not (cflags or cppflags or ldflags or words)
    env.Replace(
        CFLAGS=[],
        CCFLAGS=[*COMPILE, *sanitizer, *compiled, *cflags],
        CPPFLAGS=cppflags,
        LINKFLAGS=[*sanitizer, *linked, *ldflags],
        SHLINKFLAGS=["-shared", *link, "$LINKFLAGS"],
        ARFLAGS="rcsD",  # D: no times and owners, so that equal objects give equal archives
        RANLIBCOM="",  # s has done it
        STATIC_AND_SHARED_OBJECTS_ARE_THE_SAME=True,
    )
    # All that goes into the code; taken before what only says where the sources lie is added.
    flags = env.subst("$CCFLAGS $CPPFLAGS $SHLINKFLAGS")
    env["FLAGS_DIGEST"] = hashlib.sha256(flags.encode()).hexdigest()[:12] + "".join(f"+{word}" for word in words)

    # No path of this machine gets into the library. $( $) keeps the paths out of what SCons compares, so
    # that a tree that was moved is not built again.
    folders = [env.Dir("#").abspath, *([str(env["PLUGIN_ROOT"])] if env["PLUGIN_ROOT"] else [])]
    maps = [f"-ffile-prefix-map={folder}=." for folder in folders]
    # Generated headers lie outside of the tree with O=, and are named as if they did not.
    maps += [] if env["OUT"].startswith("#") else [f"-ffile-prefix-map={env['OUT']}=build"]
    env.Append(CCFLAGS=["$(", *maps, "$)"])
