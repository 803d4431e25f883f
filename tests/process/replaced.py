# SPDX-License-Identifier: MIT
"""Whose function is called: programs that replace some of the names that the library has, wrap them, or mix them, and
plug-ins that look names up in their own way."""

import glob
import signal

from harness import Failure, once, test, wait_until

OWN_FORMS = {
    "plain": ["-DOWN_PLAIN"],
    "array": ["-DOWN_ARRAY"],
    "aligned": ["-DOWN_ALIGNED"],
    "all": ["-DOWN_PLAIN", "-DOWN_ARRAY", "-DOWN_ALIGNED"],
}


def says(case, result, text):
    case.check(result.stdout.decode() == text, f"{result.command}: not {text!r}", result.stdout, result.stderr)


def forms_reached(case, name, static=False, position=True):
    """Which functions of the program each form of new and delete comes to: as with the C++ runtime's own."""
    # Of a form that it has not replaced, gcc warns; that is what this is about.
    flags = ["-O0", "-Wno-sized-deallocation", *OWN_FORMS[name], *([] if position else ["-no-pie", "-fno-pie"])]
    program = case.program("own_operators.cpp", f"own_operators_{name}{'' if position else '_fixed'}", flags)
    alone = case.run([program], library=False)
    reached = {line.split(": ")[1] for line in alone.stdout.decode().splitlines()}
    case.check(len(reached) > 1, "reaches no function of its own", alone.stdout)
    if static:
        linked = case.program("own_operators.cpp", f"own_operators_{name}_static", ["-static", *flags], [case.build.archive])
        under = case.run([linked], library=False)
    else:
        under = case.run([program])
        case.served(under)
    case.same(alone.stdout, under.stdout, under.command)


@once
@test
def own_operators(case):
    """A program's own operators new and delete are reached by all forms that it has not replaced."""
    for name in OWN_FORMS:
        forms_reached(case, name)
    forms_reached(case, "plain", position=False)


@once
@test
def own_operators_static(case):
    """Likewise in a static program with libhakmem.a, which links."""
    for name in OWN_FORMS:
        forms_reached(case, name, static=True)


@once
@test
def own_malloc(case):
    """A program's own malloc family serves all that libc, C++ and the preloaded library make of malloc."""
    program = case.program("own_malloc.cpp")
    says(case, case.run([program], witness=False), "all from the program's own malloc\n")
    for kind, flags in (("static", ["-static"]), ("archive", [])):
        linked = case.program("own_malloc.cpp", f"own_malloc_{kind}", flags, [case.build.archive])
        says(case, case.run([linked], library=False), "all from the program's own malloc\n")


@once
@test
def wrapped_malloc(case):
    """A library that wraps malloc and free before this one sees each new and delete, also of warm caches."""
    library = [case.shared_object("wrapper.c"), case.build.library]
    result = case.run([case.program("wrapped.cpp", libraries=("-ldl",))], library=library, witness=False)
    forms = ("malloc", "new", "new, sized", "new[]", "new[], sized", "new, nothrow")
    says(case, result, "".join(f"{form}: 1000 1000\n" for form in forms))


@once
@test
def libc_names(case):
    """Blocks of malloc and of __libc_malloc are one kind, also where a program wraps some of these names."""
    text = "all names are one malloc's\n"
    for name, flags in (("libc_names", []), ("libc_names_wrapped", ["-DWRAP"])):
        result = case.run([case.program("libc_names.c", name, flags)], witness=False)
        says(case, result, text)
        linked = case.program("libc_names.c", f"{name}_static", ["-static", *flags], [case.build.archive])
        says(case, case.run([linked], library=False), text)


@once
@test
def own_reallocarray(case):
    """A program that carries a reallocarray of its own links with libhakmem.a, static and not, and calls it."""
    for kind, flags in (("static", ["-static"]), ("archive", [])):
        program = case.program("own_reallocarray.c", f"own_reallocarray_{kind}", flags, [case.build.archive])
        says(case, case.run([program], library=False), "the program's own\n")
    says(case, case.run([case.program("own_reallocarray.c")]), "the program's own\n")


@once
@test
def mallopt_answers(case):
    """mallopt answers as glibc's, for each parameter that it knows."""
    case.both([case.program("mallopt_answers.c")])


@test
def mallopt_trim_threshold(case):
    """mallopt(M_TRIM_THRESHOLD) bounds the free memory that waits to be given back."""
    says(case, case.run([case.program("mallopt_trim.c")]), "no more waits than was set\n")


# ── RTLD_DEEPBIND ───────────────────────────────────────────────────────────────────────────────


def deepbind(case, *arguments, **how):
    case.shared_object("deepbind_plugin.cpp")
    flags = ("-rdynamic", "-Wl,--enable-new-dtags,-rpath,$ORIGIN")
    return case.run([case.program("deepbind.cpp", flags=flags, libraries=("-ldl",)), *arguments], **how)


@once
@test
def deepbind_plugin(case):
    """A plug-in opened with RTLD_DEEPBIND and the program free each other's blocks; its names stay its own."""
    for how in ("open", "mopen"):
        result = deepbind(case, how)
        says(case, result, "blocks came and went; the plug-in's name leads to the plug-in\n")
        case.served(result, ["deepbind"])


@once
@test
def deepbind_bad_pointer(case):
    """What such a plug-in frees that is no block stops the process with a message."""
    result = deepbind(case, "open", "bad", status=-signal.SIGABRT, witness=False)
    case.check(result.stderr.startswith(b"hakmem: free(): invalid pointer 0x"), result.command, result.stderr)


PHP_WORK = r"""<?php
$rows = [];
for ($i = 0; $i < 2000; $i++)
    $rows[] = ['id' => $i, 'name' => str_repeat(chr(97 + $i % 26), $i % 100), 'when' => date('c', $i * 86400)];
$text = json_encode($rows);
$again = json_decode($text, true);
usort($again, fn($a, $b) => strcmp($a['name'], $b['name']) ?: $a['id'] <=> $b['id']);
$words = preg_split('/[^a-z]+/', $text);
echo md5(serialize($again)), ' ', count($words), ' ', strlen(iconv('UTF-8', 'UTF-16', $text)), "\n";
"""


@test
def php(case):
    """php, which opens its extensions with RTLD_DEEPBIND: -r, -m, and work."""
    php = case.tool("php")
    says(case, case.both([php, "-r", "echo 1;"])[1], "1")
    modules = case.both([php, "-m"])[1].stdout.split()
    case.check(b"ctype" in modules and b"iconv" in modules, "no extensions: install php-common", modules)
    script = case.folder / "work.php"
    script.write_text(PHP_WORK)
    for memory in ({}, {"USE_ZEND_ALLOC": "0"}):
        case.both([php, script], env=memory)


FPM = """[global]
error_log = {folder}/fpm.log
daemonize = no
[www]
listen = {folder}/fpm.sock
pm = dynamic
pm.max_children = 4
pm.start_servers = 2
pm.min_spare_servers = 1
pm.max_spare_servers = 3
pm.max_requests = 30
{user}"""
REQUESTS = 200


@once
@test
def php_fpm(case):
    """php-fpm under 200 requests, four at a time, by children that come and go: each answer is right."""
    found = sorted(glob.glob("/usr/sbin/php-fpm*"))
    if not found:
        raise Failure("php-fpm is not installed: apt-get install php-fpm")
    client = case.tool("cgi-fcgi")
    script, socket = case.folder / "work.php", case.folder / "fpm.sock"
    script.write_text(PHP_WORK)
    answer = case.run([case.tool("php"), script], library=False).stdout
    config = case.folder / "fpm.conf"
    config.write_text(FPM.format(folder=case.folder, user="user = root\ngroup = root\n"))
    server = case.start([found[-1], "--nodaemonize", "--allow-to-run-as-root", "-y", config, "-c", case.folder])
    wait_until(lambda: socket.exists() or server.poll() is not None, "php-fpm listens")
    request = {"SCRIPT_FILENAME": script, "SCRIPT_NAME": "/work.php", "REQUEST_METHOD": "GET", "QUERY_STRING": ""}
    words = [f"{name}={value}" for name, value in request.items()]
    ask = ["sh", "-c", f'seq {REQUESTS} | xargs -P4 -I@ env "$@" {client} -bind -connect {socket}', "sh", *words]
    answers = case.run(ask, library=False, timeout=120).stdout
    server.send_signal(signal.SIGTERM)
    ended = case.finish(server)
    log = (case.folder / "fpm.log").read_text()
    case.check(answers.count(answer) == REQUESTS, f"{answers.count(answer)} right answers of {REQUESTS}", answers, log)
    case.check("exited on signal" not in log, "a child crashed", log)
    case.served(ended)
