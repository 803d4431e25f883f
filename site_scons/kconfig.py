# SPDX-License-Identifier: MIT
"""The front ends of Kconfig for this tree: kconfiglib's own, around which nothing gets lost in silence.

usage: kconfig.py menuconfig | guiconfig | oldconfig | olddefconfig | listnewconfig
       kconfig.py defconfig FILE | savedefconfig FILE | randconfig SEED

KCONFIG_CONFIG names the file that is read and written, .config by default.

An option that was renamed keeps its value (configs/renamed). A setting that does not come out is reported with
the reason, as the build would. What a front end cannot work with (the locale, the terminal, the file) is one line
that says what to do.
"""

import builtins
import functools
import itertools
import locale
import os
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

import kconfiglib

import configuration
import pairs

ROOT = Path(__file__).resolve().parent.parent
FRONT_ENDS = ("menuconfig", "guiconfig", "oldconfig", "olddefconfig", "listnewconfig", "defconfig", "savedefconfig", "randconfig")
FILE = os.environ.get("KCONFIG_CONFIG") or ".config"


class CannotStart(Exception):
    pass


# ── What is lost ────────────────────────────────────────────────────────────────────────────────────


class Settings:
    """What a .config asks for, compared with what comes out of it."""

    def __init__(self, options: kconfiglib.Kconfig, file: Path, renamed: "dict[str, configuration.Renamed]") -> None:
        self.options = options
        self.shown = str(file)
        self.problems: "list[str]" = []
        lines, self.text = configuration.renamed_lines(file, self.shown, renamed)
        self.problems += lines
        known, malformed = configuration.parse(self.text, self.shown)
        self.problems += malformed
        self.problems += configuration.check_lines(options, known, self.shown)
        self.asked = [item for item in known if item.name in options.syms and options.syms[item.name].nodes]

    def loaded(self) -> None:
        """Compares with what was made of the file."""
        told = {problem.split(": ")[0] for problem in self.problems}
        self.problems += [
            problem
            for problem in configuration.check_outcome(self.options, self.asked, self.shown)
            if problem.split(": ")[0] not in told
        ]
        # What is at its default, nobody has asked for, though a full .config says it.
        self.own = [item for item in self.asked if self.came_out(item) and item.name in self.not_default()]

    def not_default(self) -> "set[str]":
        text = configuration.text_of(lambda file, header: self.options.write_min_config(file, header=header), "")
        return {item.name for item in configuration.parse(text, "")[0]}

    def came_out(self, item: configuration.Asked) -> bool:
        return not configuration.check_outcome(self.options, [item], self.shown)

    def compare(self) -> "list[str]":
        """All that is lost, after the user's changes; what the user has changed is not."""
        lost = []
        for item in self.own:
            symbol = self.options.syms[item.name]
            if not self.came_out(item) and not self.was_changed(symbol, item):
                lost += configuration.check_outcome(self.options, [item], self.shown)
        return self.problems + lost

    @staticmethod
    def was_changed(symbol: kconfiglib.Symbol, item: configuration.Asked) -> bool:
        if symbol.choice:
            return symbol.choice.user_selection is not symbol
        value = symbol.user_value
        return value is not None and kconfiglib.TRI_TO_STR.get(value, value) != configuration.plain_value(symbol, item)


class Options(kconfiglib.Kconfig):
    """Leaves it to a session how a .config is read."""

    session: "Session | None" = None

    def load_config(self, filename=None, replace=True, verbose=None) -> str:
        return self.session.load(filename, replace)


class Session:
    """The options, which read each file through the table of renamed ones."""

    def __init__(self) -> None:
        self.options = configuration.load_options(ROOT, plugins(), Options)
        self.options.session = self
        self.renamed = configuration.read_renamed(ROOT)
        self.settings: "Settings | None" = None
        self.before = self.text()

    @staticmethod
    def text() -> "str | None":
        try:
            return Path(FILE).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def load(self, filename: "str | None", replace: bool) -> str:
        load_file = super(Options, self.options).load_config
        file = filename or FILE
        if not os.path.exists(file):
            return load_file(filename, replace)
        self.settings = Settings(self.options, Path(file), self.renamed)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as temporary:
            temporary.write(self.settings.text)
            temporary.flush()
            said = load_file(temporary.name, replace)
        self.settings.loaded()
        return said.replace(temporary.name, file)

    def report(self) -> None:
        """What the file that was written lost. A file that is as it was has lost nothing."""
        if self.settings is None or self.text() == self.before:
            return
        if lost := self.settings.compare():
            print(f"make: what {FILE} had and has no more ({FILE}.old still has it):", file=sys.stderr)
            for line in lost:
                print(f"  {line}", file=sys.stderr)


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


def run_menuconfig(session: Session) -> None:
    check_terminal()
    settle_locale()
    import curses

    import menuconfig

    # It cuts the lines of its pages of information at the edge of the screen.
    information = menuconfig._info_str
    menuconfig._info_str = lambda node: folded(information(node), max(shutil.get_terminal_size().columns, 40))
    try:
        menuconfig.menuconfig(session.options)
    except curses.error:
        raise CannotStart("menuconfig cannot draw: the terminal is too small, or TERM says it is another one") from None


def run_guiconfig(session: Session) -> None:
    try:
        import tkinter

        tkinter.Tk().destroy()
    except Exception:  # without the module, or a display
        raise CannotStart(
            "guiconfig needs a display and tkinter (Debian: apt-get install python3-tk); menuconfig does not"
        ) from None
    import guiconfig

    guiconfig.menuconfig(session.options)


def run_oldconfig(session: Session) -> None:
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

    oldconfig.standard_kconfig = lambda _: session.options
    oldconfig.input = ask
    session.options.warn_to_stderr = True  # what is wrong with an answer
    oldconfig._main()


def run_listnewconfig(session: Session) -> None:
    import listnewconfig

    listnewconfig.Kconfig = lambda *_, **__: session.options
    sys.argv = ["listnewconfig"]
    listnewconfig.main()


def run_olddefconfig(session: Session) -> None:
    print(session.options.load_config())
    print(session.options.write_config())


# ── Command ─────────────────────────────────────────────────────────────────────────────────────────


def run(front_end: str, arguments: "list[str]") -> None:
    if front_end == "defconfig":
        check_writable()
        options = configuration.load_strictly(ROOT, ROOT / arguments[0], arguments[0], plugins())
        print(f"Loaded configuration '{arguments[0]}'")
        print(options.write_config(FILE))
        return
    if front_end == "randconfig":
        check_writable()
        text = pairs.random_text(ROOT, arguments[0], plugins())
        Path(FILE).write_text(text, encoding="utf-8")
        print(text.split("\n", 1)[0])
        return
    check_readable()
    if front_end == "savedefconfig":
        options = configuration.load_strictly(ROOT, Path(FILE), FILE, plugins())
        print(options.write_min_config(arguments[0]))
        return
    session = Session()
    if front_end == "listnewconfig":
        run_listnewconfig(session)
        return
    check_writable()
    {
        "menuconfig": run_menuconfig,
        "guiconfig": run_guiconfig,
        "oldconfig": run_oldconfig,
        "olddefconfig": run_olddefconfig,
    }[front_end](session)
    session.report()


def plugins() -> "Path | None":
    return configuration.plugin_root(ROOT, os.environ.get("PLUGINS", ""))


def main(arguments: "list[str]") -> int:
    front_end, *rest = arguments or [""]
    if front_end not in FRONT_ENDS or len(rest) != (front_end in FRONT_ENDS[-3:]):
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    os.environ["KCONFIG_CONFIG"] = FILE
    try:
        run(front_end, rest)
        sys.stdout and sys.stdout.flush()
    except configuration.ConfigurationError as error:
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
