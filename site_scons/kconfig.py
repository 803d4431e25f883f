# SPDX-License-Identifier: MIT
"""Runs kconfiglib's front ends for this tree, and reports every setting that gets lost.

usage: kconfig.py menuconfig | guiconfig | oldconfig | olddefconfig | listnewconfig
       kconfig.py defconfig FILE | savedefconfig FILE | randconfig SEED

KCONFIG_CONFIG names the file that is read and written, .config by default.

An option that was renamed keeps its value (configs/renamed). A setting that does not come out is reported with
the reason, as in a build. When a front end cannot use the locale, the terminal or the file, one line says what to do.
"""

import builtins
import functools
import itertools
import locale
import os
import re
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

import kconfiglib

import configuration
import pairs
from refusal import Refusal

ROOT = Path(__file__).resolve().parent.parent
FILE = os.environ.get("KCONFIG_CONFIG") or ".config"


class CannotStart(Exception):
    pass


# ── What is lost ────────────────────────────────────────────────────────────────────────────────────


def user_setting(symbol: kconfiglib.Symbol):
    return symbol.choice.user_selection if symbol.choice else symbol.user_value


class Options(kconfiglib.Kconfig):
    """Options that read a .config through the table of renamed ones, and know what it had that gets lost."""

    def __init__(self, *arguments, **settings) -> None:
        self.problems: "list[str]" = []  # of the file
        self.asked: "list[tuple]" = []  # (line number, line, symbol, user's setting): what is not at its default
        self.before = file_text()
        super().__init__(*arguments, **settings)

    def load_config(self, filename=None, replace=True, verbose=None) -> str:
        file = filename or FILE
        if not os.path.exists(file):
            return super().load_config(filename, replace)
        renamed = configuration.read_renamed(ROOT)
        text = configuration.with_new_names(configuration.read_text(Path(file), file), renamed)
        self.problems = configuration.load_text(self, text, file, renamed)
        # A full .config also lists options at their defaults, which the user did not ask for.
        own = configuration.text_of(self.write_min_config).splitlines()
        self.asked = []
        for number, line in enumerate(text.splitlines(), 1):
            if line in own:
                symbol = self.syms[re.search(r"CONFIG_(\w+)", line)[1]]
                self.asked.append((number, line, symbol, user_setting(symbol)))
        return f"Loaded configuration '{file}'"

    def report(self) -> None:
        """What the file that was written lost, but for what the user has changed. A file that is as it was has lost
        nothing."""
        lost = self.problems + [
            f"{FILE}:{number}: {problem}"
            for number, line, symbol, setting in self.asked
            if user_setting(symbol) == setting and (problem := configuration.line_problem(self, line))
        ]
        if lost and file_text() != self.before:
            print(f"make: what {FILE} had and has no more ({FILE}.old still has it):", *lost, sep="\n  ", file=sys.stderr)


def file_text() -> "str | None":
    try:
        return Path(FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


# ── What a front end needs ──────────────────────────────────────────────────────────────────────────


def check_readable() -> None:
    if os.path.lexists(FILE):
        try:
            Path(FILE).read_text(encoding="utf-8")
        except OSError as error:
            raise CannotStart(f"{FILE} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise CannotStart(f"{FILE} is not UTF-8 text") from None


def check_writable() -> None:
    """Before the first question, not after the last."""
    folder = os.path.dirname(FILE) or "."
    try:
        if os.path.exists(FILE):
            os.close(os.open(FILE, os.O_WRONLY))
        else:
            os.makedirs(folder, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CannotStart(f"{FILE} cannot be written: {error.strerror}; KCONFIG_CONFIG=FILE or O=FOLDER takes another") from None


def settle_locale() -> None:
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        name = next((os.environ[v] for v in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(v)), "that was set")
        print(f"make: the locale {name} is not installed here (locale -a lists those that are): C.UTF-8 is used", file=sys.stderr)
        os.environ["LC_ALL"] = "C.UTF-8"


def check_terminal() -> None:
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        raise CannotStart("menuconfig needs a terminal; without one, use make NAME_defconfig or write .config by hand")
    import curses

    name = os.environ.get("TERM", "")
    try:
        curses.setupterm()
        able = curses.tigetstr("cup")
    except curses.error:
        able = None
    if not able:
        raise CannotStart(f"menuconfig cannot draw on this terminal, TERM={name}: try TERM=xterm make menuconfig")


def folded(text: str, columns: int) -> str:
    """The text with lines that are too long continued on others, as far to the right; help is filled again."""
    lines, in_help = [], False
    for indent, group in itertools.groupby(text.expandtabs().split("\n"), lambda line: line[: len(line) - len(line.lstrip())]):
        group = list(group)
        fill = functools.partial(textwrap.wrap, width=columns, initial_indent=indent, subsequent_indent=indent)
        if in_help and max(map(len, group)) > columns:
            lines += fill(" ".join(line.strip() for line in group))
        else:
            for line in group:
                lines += fill(line.strip()) if len(line) > columns else [line]
        in_help = lines[-1].strip() == "help" or in_help and not lines[-1]
    return "\n".join(lines)


def run_menuconfig(options: Options) -> None:
    check_terminal()
    settle_locale()
    import curses

    import menuconfig

    # It cuts the lines of its pages of information at the edge of the screen.
    information = menuconfig._info_str
    menuconfig._info_str = lambda node: folded(information(node), max(shutil.get_terminal_size().columns, 40))
    try:
        menuconfig.menuconfig(options)
    except curses.error:
        raise CannotStart("menuconfig cannot draw: the terminal is too small, or TERM says it is another one") from None


def run_guiconfig(options: Options) -> None:
    try:
        import tkinter

        tkinter.Tk().destroy()
    except Exception:  # without the module, or a display
        raise CannotStart(
            "guiconfig needs a display and tkinter (Debian: apt-get install python3-tk); menuconfig does not"
        ) from None
    import guiconfig

    guiconfig.menuconfig(options)


def run_oldconfig(options: Options) -> None:
    import oldconfig

    def ask(question: str = "") -> str:
        try:
            if sys.stdin is None:
                raise EOFError
            return builtins.input(question)
        except EOFError:
            print()
            raise CannotStart(
                "oldconfig has a question and no answer on standard input; "
                "make olddefconfig takes the defaults, make listnewconfig lists what is new"
            ) from None

    oldconfig.standard_kconfig = lambda _: options
    oldconfig.input = ask
    options.warn_to_stderr = True  # what is wrong with an answer
    oldconfig._main()


def run_olddefconfig(options: Options) -> None:
    print(options.load_config())
    print(options.write_config())


def run_listnewconfig(options: Options) -> None:
    import listnewconfig

    listnewconfig.Kconfig = lambda *_, **__: options
    sys.argv = ["listnewconfig"]
    listnewconfig.main()


def defconfig(file: str) -> None:
    options = configuration.load_strictly(ROOT, ROOT / file, file, plugins())
    print(f"Loaded configuration '{file}'")
    print(options.write_config(FILE))


def savedefconfig(file: str) -> None:
    options = configuration.load_strictly(ROOT, Path(FILE), FILE, plugins())
    print(options.write_min_config(file))


def randconfig(seed: str) -> None:
    text = pairs.random_text(ROOT, seed, plugins())
    Path(FILE).write_text(text, encoding="utf-8")
    print(text.split("\n", 1)[0])


# ── Command ─────────────────────────────────────────────────────────────────────────────────────────

WITH_OPTIONS = {
    "menuconfig": run_menuconfig,
    "guiconfig": run_guiconfig,
    "oldconfig": run_oldconfig,
    "olddefconfig": run_olddefconfig,
    "listnewconfig": run_listnewconfig,
}
WITH_ARGUMENT = {"defconfig": defconfig, "savedefconfig": savedefconfig, "randconfig": randconfig}


def run(front_end: str, arguments: "list[str]") -> None:
    if front_end in ("savedefconfig", *WITH_OPTIONS):
        check_readable()
    if front_end not in ("savedefconfig", "listnewconfig"):
        check_writable()
    if arguments:
        WITH_ARGUMENT[front_end](*arguments)
        return
    options = configuration.load_options(ROOT, plugins(), Options)
    WITH_OPTIONS[front_end](options)
    options.report()


def plugins() -> "Path | None":
    return configuration.plugin_root(ROOT, os.environ.get("PLUGINS", ""))


def main(arguments: "list[str]") -> int:
    front_end, *rest = arguments or [""]
    if not (front_end in WITH_OPTIONS and not rest or front_end in WITH_ARGUMENT and len(rest) == 1):
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    os.environ["KCONFIG_CONFIG"] = FILE
    try:
        run(front_end, rest)
        sys.stdout and sys.stdout.flush()
    except Refusal as error:
        print(error, file=sys.stderr)
        return 1
    except CannotStart as error:
        print(f"make: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        print(f"make: {front_end}: {error.filename or FILE}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nmake: {front_end} was interrupted; {FILE} is as it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
