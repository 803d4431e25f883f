# SPDX-License-Identifier: MIT
"""What the library promises about itself: its interface, identity, system calls and memory."""

import json
import os
import re
import shutil
import xml.etree.ElementTree

from harness import about, once, test, test_without_libc_names

# What the library may export beside its own hak_ names: libc's, and C++'s operators new and delete.
LIBC_NAMES = """
    malloc free calloc realloc reallocarray aligned_alloc memalign posix_memalign valloc pvalloc
    malloc_usable_size malloc_trim free_sized free_aligned_sized
    mallinfo mallinfo2 malloc_info malloc_stats mallopt
    __libc_malloc __libc_free __libc_calloc __libc_realloc __libc_memalign __libc_valloc __libc_pvalloc
    __register_atfork
""".split()
DEEPBIND_NAMES = ["dlopen", "dlmopen"]
# The other forms are the C++ runtime's, which call these and free.
CXX_NAMES = "_Znwm _Znam _ZnwmSt11align_val_t _ZdlPv _ZdaPv _ZdlPvm _ZdaPvm".split()

DIRTY_LIMIT_KB = 250


@about("policy", "backend")
@test
def interface(case):
    """libc's names do what C23, POSIX.1-2024 and glibc say."""
    result = case.run([case.program("api.c", libraries=(case.build.library,))])
    case.check(result.stdout == b"as the standards say\n", result.command, result.stdout)
    case.served(result)


@once
@test
def exported_names(case):
    """All of libc's and C++'s names are exported, and none but these and the hak_ names."""
    listed = case.run([case.tool("nm"), "-D", "--defined-only", case.build.library], library=False)
    names = {line.split()[-1].split("@")[0] for line in listed.stdout.decode().splitlines()}
    wanted = {*LIBC_NAMES, *CXX_NAMES}
    if "CONFIG_DEEPBIND=y" in (case.build.folder / "gen" / "config").read_text():
        wanted |= {*DEEPBIND_NAMES}
    case.check(wanted <= names, f"not exported: {sorted(wanted - names)}")
    others = {name for name in names - wanted if not name.startswith("hak_")}
    case.check(not others, f"exported, but not public: {sorted(others)}")


@once
@test_without_libc_names
def small_static_tls(case):
    """The library takes 8 bytes of static TLS, so that it can be opened at run time; with assertions 16."""
    listed = case.run([case.tool("readelf"), "-lW", case.build.library], library=False)
    size = re.search(r"^\s*TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+0x([0-9a-f]+)", listed.stdout.decode(), re.MULTILINE)
    case.check(size, "no TLS segment", listed.stdout)
    most = 8 if "define CONFIG_ASSERT_LEVEL 0" in (case.build.folder / "gen/autoconf.h").read_text() else 16
    case.check(int(size.group(1), 16) <= most, f"{int(size.group(1), 16)} bytes of static TLS")


@once
@test
def identity(case):
    """HAKMEM_VERSION=1 prints what hak_config() returns and what the file contains."""
    config = case.identity()
    case.check(re.match(r"hakmem \d+\.\d+\.\d+ \w+/\w+", config), f"an odd identity: {config!r}")
    shown = case.run(["/bin/true"], env={"HAKMEM_VERSION": "1"})
    case.check(shown.stderr.decode() == config + "\n", f"{shown.stderr!r} is not {config!r} and a newline")
    for file in (case.build.library, case.build.archive):
        strings = re.findall(rb"[\x20-\x7e]{4,}", file.read_bytes())
        case.check(config.encode() in strings, f"{file} does not contain the string {config!r}")
    for setting in ({}, {"HAKMEM_VERSION": "0"}, {"HAKMEM_VERSION": ""}):
        quiet = case.run(["/bin/true"], env=setting)
        case.check(not quiet.stderr, f"{setting} prints {quiet.stderr!r}")


@once
@test
def glibc_statistics(case):
    """mallinfo2, mallinfo, mallopt, malloc_info and malloc_stats."""
    result = case.run([case.program("statistics.c")])
    case.served(result)
    root = xml.etree.ElementTree.fromstring(result.stdout.decode())
    case.check(root.tag == "malloc" and root.find("system").get("size").isdigit(), "an odd malloc_info", result.stdout)
    sizes = [(int(size.get("from")), int(size.get("to"))) for size in root.iter("size")]
    case.check(sizes and all(low <= high for low, high in sizes), f"odd sizes: {sizes}")
    case.check(result.stderr.startswith(b"hakmem ") and b"live_blocks" in result.stderr, "an odd table", result.stderr)


@once
@test
def statistics_at_exit(case):
    """HAKMEM_STATS=1 or json prints statistics at exit, and nothing else does."""
    table = case.run(["/bin/true"], env={"HAKMEM_STATS": "1"}).stderr.decode()
    case.check("  live_blocks\n" in table, f"no table: {table!r}")
    said = json.loads(case.run(["/bin/ls", "/"], env={"HAKMEM_STATS": "json"}).stderr.decode())
    case.check(said["exact"] is True, f"one thread, and not exact: {said}")
    total = sum(said[layer] for layer in ("slabs", "large", "dirty", "clean"))
    case.check(total == said["mapped"] and said["by_class"], f"does not add up: {said}")
    for value in ("0", ""):
        quiet = case.run(["/bin/true"], env={"HAKMEM_STATS": value})
        case.check(not quiet.stderr, f"HAKMEM_STATS={value} prints {quiet.stderr!r}")


@once
@test
def odd_variables(case):
    """Unknown and ill-formed variables are said on stderr, once each."""
    for name, value, what in (
        ("HAKMEM_NO_SUCH", "1", "unknown"),
        ("HAKMEM_STATSX", "1", "unknown"),
        ("HAKMEM_STATS", "yes", "ill-formed"),
        ("HAKMEM_VERSION", "2", "ill-formed"),
    ):
        said = case.run(["/bin/true"], env={name: value}).stderr.decode()
        wanted = f"hakmem: {what} variable of the environment: {name}={value}\n"
        case.check(said == wanted, f"{said!r} is not {wanted!r}")
    quiet = case.run(["/bin/true"], env={"HAKMEMORY": "1", "HAKMEM_TEST_X": "1"})
    case.check(not quiet.stderr, f"not for the library, and it prints {quiet.stderr!r}")


@once
@test
def no_variables_under_set_user_id(case):
    """A set-user-ID program reads none of them. It is linked with the library, as the loader ignores LD_PRELOAD."""
    program = case.program("statistics.c", "statistics_suid", ("-Wl,--no-as-needed",), (case.build.archive,))
    env = {"HAKMEM_VERSION": "1", "HAKMEM_STATS": "json", "HAKMEM_NO_SUCH": "1"}
    plain = case.run([program], library=False, before=["env", *(f"{k}={v}" for k, v in env.items())])
    case.check(plain.stderr.count(b"compiler") == 2 and b"HAKMEM_NO_SUCH" in plain.stderr, "read no variable", plain.stderr)
    case.check(os.geteuid() == 0, "only root can make a program of another user")
    copy = case.folder / "set_user_id"
    shutil.copy(program, copy)
    os.chown(copy, 65534, 65534)
    os.chmod(copy, 0o4755)
    secure = case.run([copy], library=False, before=["env", *(f"{k}={v}" for k, v in env.items())])
    case.check(secure.stderr.count(b"compiler") == 1, "more than malloc_stats said", secure.stderr)
    case.check(b"HAKMEM_NO_SUCH" not in secure.stderr and b"by_class" not in secure.stderr, "it reads variables", secure.stderr)


def calls_between_marks(case, source, arguments=(), before_library=()):
    """[(mark, system calls)] of a program that writes "MARK begin" and "MARK end"."""
    trace = case.folder / "trace"
    strace = [case.tool("strace"), "-f", "-o", trace]
    library = [*before_library, case.build.library]
    result = case.run([case.program(source), *arguments], library=library, before=strace)
    case.served(result, [source.removesuffix(".c")])
    found = []
    inside = None
    for line in trace.read_text().splitlines():
        call = line.split(None, 1)[1]
        mark = re.match(r'write\(1, "(\w+) (begin|end)\\n"', call)
        if mark and mark.group(2) == "begin":
            inside = []
        elif mark:
            found.append((mark.group(1), inside))
            inside = None
        elif inside is not None:
            inside.append(call)
    return found


@test
def no_system_call_when_warm(case):
    """A million pairs of malloc and free, and a million random replacements, make no system call before memory is
    overdue; time stands still meanwhile, so that none becomes overdue on a busy machine."""
    still = [case.shared_object("still.c")]
    loops = calls_between_marks(case, "system_calls.c", before_library=still)
    for mark, calls in loops:
        case.check(not calls, f"system calls during the {mark}:", "\n".join(calls))
    case.check(len(loops) == 5, f"{len(loops)} loops in the trace, not 5")


@test
def memory_after_a_pause(case):
    """What a pause leaves: by default unused memory goes back, and coming again costs system calls; a
    configuration whose PURGE_DELAY_MS is an hour makes none any more once it is warm."""
    config = (case.build.folder / "gen" / "config").read_text()
    delay = int(re.search(r"^CONFIG_PURGE_DELAY_MS=(\d+)$", config, re.MULTILINE)[1])
    [(_, calls)] = calls_between_marks(case, "pause.c")
    if delay >= 3600000:
        case.check(not calls, f"{len(calls)} system calls after the pause:", "\n".join(calls[:20]))
    elif delay < 800 and "CONFIG_PURGE_THREAD=y" not in config: # which does it in the pause
        back = [call for call in calls if re.match("madvise|munmap|mmap", call)]
        case.check(back, "nothing has gone back in the pause or after it:", "\n".join(calls[:20]))


@test
def private_dirty_memory(case):
    """A process that does nothing has at most 250 KB more private dirty memory than without."""
    program = case.program("dirty.c")
    alone = min(int(case.run([program], library=False).stdout) for _ in range(3))
    under = min(int(case.run([program], witness=False).stdout) for _ in range(3))
    added = under - alone
    case.check(added <= DIRTY_LIMIT_KB, f"{added} KB more: {under} KB, {alone} KB without")
