# SPDX-License-Identifier: MIT
"""hakmem/inline.h: the hit paths of a composition as code for programs, from the templates inline.h.in.

core/inline.h.in includes those of the front end, the back end and its space. Where a template says @EXPRESSION@, a constant
expression in the words of core/heap.h, the header gets the number that the compiler makes of it, so that the layout is never
written down twice. ABI is a digest of the header and of the sources that it goes with: it is a part of the name under which
the library lets programs see a thread's heap."""

import hashlib
import re
from pathlib import Path

from SCons.Script import Action

import generated
import size_class

TEMPLATE = "inline.h.in"
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include "([^"]+)"\n', re.MULTILINE)
EXPRESSION = re.compile(r"@([^@\n]+)@")
MARK, DIGITS = b"hak_inline_layout:", 20
# Options with which a hit does more than what the templates say.
OBSERVED = {
    "RECORD": "records what programs allocate, and would not see what is inlined",
    "TRACE_HITS": "traces every malloc and free, and would not see what is inlined",
}


def roots(root: Path, env) -> "list[Path]":
    """Where plug-ins lie."""
    return [root, *([Path(str(env["PLUGIN_ROOT"]))] if env["PLUGIN_ROOT"] else [])]


def found(roots: "list[Path]", path: str) -> "Path | None":
    return next((root / path for root in roots if (root / path).is_file()), None)


def refusal(roots: "list[Path]", config) -> str:
    """Why there is no such header; "": there is one."""
    for option, why in OBSERVED.items():
        if option in config.enabled:
            return f"the library {why}: build it without CONFIG_{option}, or use hakmem/hakmem.h"
    for place in config.places:
        if not found(roots, f"{place}/{TEMPLATE}"):
            kind = place.split("/")[0]
            others = sorted({path.parent.name for root in roots for path in root.glob(f"{kind}/*/{TEMPLATE}")})
            return f"{place} has no hit path to inline: choose one of {', '.join(others)}, or use hakmem/hakmem.h"
    return ""


def expanded(roots: "list[Path]", text: str, names: "dict[str, str]") -> str:
    """A template with those that it includes in their places, each once."""
    seen: "set[str]" = set()

    def include(match: "re.Match[str]") -> str:
        if match[1] in seen:
            return ""
        seen.add(match[1])
        return expand(found(roots, match[1]).read_text(encoding="utf-8"))

    def expand(text: str) -> str:
        for name, value in names.items():
            text = text.replace(f"@{name}@", value)
        return INCLUDE.sub(include, text)

    return expand(text)


def sources_digest(roots: "list[Path]", config) -> str:
    """Of all headers that decide what the heap looks like and what its members mean."""
    digest, seen = hashlib.sha256(config.digest.encode()), set()
    generated_ones = {f"gen/{kind}.h": f"{place}/{place.split('/')[1]}.h" for kind, place in zip(("frontend", "backend"), config.places)}
    waiting = ["core/heap.h", *generated_ones.values(), *([f"core/spaces/{config.space}/{config.space}.h"] if config.space else [])]
    while waiting:
        path = waiting.pop()
        file = found(roots, path)
        if path in seen or file is None:
            continue
        seen.add(path)
        text = file.read_text(encoding="utf-8")
        digest.update(text.encode())
        waiting += INCLUDE.findall(text)
    return digest.hexdigest()


def template(roots: "list[Path]", config) -> str:
    """The header but for numbers and ABI."""
    if why := refusal(roots, config):
        return f'/* SPDX-License-Identifier: MIT */\n#error "hakmem/inline.h: {why}"\n'
    sizes = size_class.configured(config.autoconf)
    classes = "".join(f"    if (size <= {size})\n        return {index * size_class.SCALE};\n" for index, size in enumerate(sizes))
    names = {
        "FRONTEND": config.frontend, "FRONTEND_FOLDER": f"policies/{config.frontend}",
        "BACKEND": config.backend, "BACKEND_FOLDER": f"backends/{config.backend}",
        "SPACE_FOLDER": f"core/spaces/{config.space}", "DIGEST": config.digest, "CLASSES": classes,
    }
    return expanded(roots, found(roots, f"core/{TEMPLATE}").read_text(encoding="utf-8"), names)


def expressions(text: str) -> "list[str]":
    return [one for one in dict.fromkeys(EXPRESSION.findall(text)) if one != "ABI"]


def layout_text(text: str) -> str:
    """A C file whose object has the value of each expression in decimal digits behind MARK."""
    wanted = expressions(text)
    digits = ", ".join(f"(char)('0' + (value) / {10 ** place}u % 10)" for place in reversed(range(DIGITS)))
    lines = "".join(f"    {{DIGITS((unsigned long long)({one}))}},\n" for one in wanted)
    return (
        '#include "core/heap.h"\n#pragma GCC diagnostic ignored "-Wpedantic"\n'
        f"#define DIGITS(value) {digits}\n"
        f"extern const struct hak_inline_layout {{\n    char mark[{len(MARK)}];\n    char value[{len(wanted) or 1}][{DIGITS}];\n}} "
        f'hak_inline_layout;\nconst struct hak_inline_layout hak_inline_layout = {{"{MARK.decode()}", {{\n{lines}}}}};\n'
    )


def finished(text: str, compiled: bytes, sources: str) -> "tuple[str, str]":
    """The header, and gen/inline_abi.h, by which the library offers what the header refers to."""
    wanted = expressions(text)
    if not wanted:
        return text, "#define HAK_INLINE_ABI extern _Thread_local struct hak_heap *hak_heap_mine\n"
    start = compiled.index(MARK) + len(MARK)
    values = {one: str(int(compiled[start + n * DIGITS:start + (n + 1) * DIGITS])) for n, one in enumerate(wanted)}
    text = EXPRESSION.sub(lambda match: values.get(match[1], match[0]), text)
    abi = hashlib.sha256(f"{sources} {text}".encode()).hexdigest()[:12]
    declared = (
        "#define HAK_INLINE_ABI \\\n    extern _Thread_local struct hak_heap *"
        f'hak_inline_heap_{abi} \\\n        __attribute__((alias("hak_heap_mine"), tls_model("initial-exec"), visibility("default")))\n'
    )
    return text.replace("@ABI@", abi), declared


def declare(env, root: Path, config) -> "list":
    """The nodes of gen/inline.h, gen/inline_abi.h, and what they are made from."""
    places = roots(root, env)
    text, sources = template(places, config), sources_digest(places, config)
    layout = env.Command("$BUILD/gen/inline_layout.c", env.Value(layout_text(text), name="layout"), Action(generated.write, "GEN  $TARGET"))
    compiled = env.Object("$BUILD/gen/inline_layout.o", layout, CCFLAGS=["$CCFLAGS", "-fno-lto", "-g0"])

    def make(target, source, env) -> None:
        for file, made in zip(target, finished(text, source[0].get_contents(), sources)):
            Path(str(file)).write_text(made, encoding="utf-8")

    known = env.Value(f"{sources}\n{text}", name="inline")
    made = env.Command(["$BUILD/gen/inline.h", "$BUILD/gen/inline_abi.h"], [compiled, known], Action(make, "GEN  $TARGET"))
    return [*made, *layout]
