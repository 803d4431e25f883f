# SPDX-License-Identifier: MIT
"""Whose function is called: programs that replace some of the names that the library has, wrap them, or mix them."""

from harness import test

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


@test
def own_operators(case):
    """A program's own operators new and delete are reached by all forms that it has not replaced."""
    for name in OWN_FORMS:
        forms_reached(case, name)
    forms_reached(case, "plain", position=False)


@test
def own_operators_static(case):
    """Likewise in a static program with libhakmem.a, which links."""
    for name in OWN_FORMS:
        forms_reached(case, name, static=True)


@test
def own_malloc(case):
    """A program's own malloc family serves all that libc, C++ and the preloaded library make of malloc."""
    program = case.program("own_malloc.cpp")
    says(case, case.run([program], witness=False), "all from the program's own malloc\n")
    for kind, flags in (("static", ["-static"]), ("archive", [])):
        linked = case.program("own_malloc.cpp", f"own_malloc_{kind}", flags, [case.build.archive])
        says(case, case.run([linked], library=False), "all from the program's own malloc\n")


@test
def wrapped_malloc(case):
    """A library that wraps malloc and free before this one sees each new and delete, also of warm caches."""
    library = [case.shared_object("wrapper.c"), case.build.library]
    result = case.run([case.program("wrapped.cpp", libraries=("-ldl",))], library=library, witness=False)
    forms = ("malloc", "new", "new, sized", "new[]", "new[], sized", "new, nothrow")
    says(case, result, "".join(f"{form}: 1000 1000\n" for form in forms))


@test
def libc_names(case):
    """Blocks of malloc and of __libc_malloc are one kind, also where a program wraps some of these names."""
    text = "all names are one malloc's\n"
    for name, flags in (("libc_names", []), ("libc_names_wrapped", ["-DWRAP"])):
        result = case.run([case.program("libc_names.c", name, flags)], witness=False)
        says(case, result, text)
        linked = case.program("libc_names.c", f"{name}_static", ["-static", *flags], [case.build.archive])
        says(case, case.run([linked], library=False), text)


@test
def own_reallocarray(case):
    """A program that carries a reallocarray of its own links with libhakmem.a, static and not, and calls it."""
    for kind, flags in (("static", ["-static"]), ("archive", [])):
        program = case.program("own_reallocarray.c", f"own_reallocarray_{kind}", flags, [case.build.archive])
        says(case, case.run([program], library=False), "the program's own\n")
    says(case, case.run([case.program("own_reallocarray.c")]), "the program's own\n")


@test
def mallopt_answers(case):
    """mallopt answers as glibc's, for each parameter that it knows."""
    case.both([case.program("mallopt_answers.c")])
