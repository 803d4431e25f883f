# SPDX-License-Identifier: MIT
"""Programs of the user's as workloads: from PROGRAM= with SETUP=, PREPARE=, INPUT=, METRIC=, CLIENT= and PORT=, or
from a file in TOML. All functions raise ValueError with a message that says what is right."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Mapping

from .workloads import METRIC, WALL_TIME, WORKLOADS, Metric, Own, Workload

FILE = "workloads.toml"
MOST_NAME = 18  # characters: a name is a column
TAG = "own"  # the group of all programs of the file
PORT_PLACE = "{port}"


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{str(error).lower()}: the words are separated as in a shell") from None


SEPARATOR = re.compile(r"""((?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^;'"\\]|['"\\])*);?""", re.DOTALL)


def commands(text: str) -> list[str]:
    """The commands between semicolons that are not quoted."""
    return [command for match in SEPARATOR.finditer(text) if (command := match[1].strip())]


def _program(words: list[str], folder: str) -> tuple[str, ...]:
    """The words with the program's path in place of its name."""
    if not words:
        raise ValueError("there is no command in it")
    name = words[0]
    if "/" in name:
        path = os.path.join(folder, os.path.expanduser(name))
        if not os.path.isfile(path):
            raise ValueError(f"there is no program {name}")
        if not os.access(path, os.X_OK):
            raise ValueError(f"{name} is not executable: chmod +x it, or name its interpreter first")
    else:
        path = shutil.which(name) or ""
        if not path:
            raise ValueError(f"there is no program {name} in PATH; one of this folder is ./{name}")
    return (os.path.abspath(path), *words[1:])


def metric(text: str, unit: str = "") -> Metric:
    """[lower:|higher:]REGEX, whose group is the figure, or [lower:|higher:]json:FIELD.FIELD"""
    match = re.fullmatch(r"(?:(lower|higher):)?\s*(.*)", text, re.DOTALL)
    assert match
    better, pattern = match.groups()
    if pattern.startswith("json:"):
        if not all(pattern.removeprefix("json:").split(".")):
            raise ValueError("json: is followed by the names of fields, with dots: json:results.rate")
        return Metric(pattern.removeprefix("json:"), pattern, better == "higher", unit)
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError("the regular expression needs one group, around the figure: higher:([0-9.]+) requests/s")
    return Metric(pattern, pattern, better == "higher", unit)


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


def _input(text: str, folder: str) -> str:
    path = os.path.join(folder, os.path.expanduser(text))
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise ValueError("there is no such file, or it cannot be read")
    return os.path.abspath(path)


def _workload(name: str, given: Mapping[str, Any], folder: str, shown: Callable[[str], str]) -> Workload:
    """The workload of these settings. `shown` gives the beginning of a message about one of them."""
    def checked(key: str, parse: Callable[..., Any], *more: Any) -> Any:
        try:
            return parse(given[key], *more)
        except ValueError as error:
            raise ValueError(f"{shown(key)}: {error}") from None

    command = checked("program", lambda text: _program(_words(text), folder))
    client = checked("client", lambda text: _program(_words(text), folder)) if given.get("client") else ()
    port = checked("port", _port) if given.get("port") else 0
    if client and not port and not any(PORT_PLACE in word for word in command):
        raise ValueError(f"{shown('client')}: a server needs a port: PORT=NUMBER, or {{port}} in both commands, which "
                         "stands for a free one")
    if port and not client:
        raise ValueError(f"{shown('port')}: a server needs a client that drives it: CLIENT=\"COMMAND\"")
    found = checked("metric", metric, given.get("unit", "")) if given.get("metric") else None
    own = Own(
        folder=folder,
        setup=given.get("setup", ""),
        prepare=given.get("prepare", ""),
        input=checked("input", _input, folder) if given.get("input") else "",
        client=client,
        port=port,
        same_output=given.get("same_output", False),
    )
    return Workload(
        name=name,
        command=command,
        probe=(),
        about=given.get("about") or (f"{given['program']}, driven by {given['client']}" if client else given["program"]),
        measure=METRIC if found else WALL_TIME,
        environment=dict(given.get("environment", {})),
        default=False,
        tags=(TAG,),
        metric=found,
        own=own,
    )


def asked(program: str, **settings: str) -> list[Workload]:
    """Of the command line: a workload for each command of `program`; the settings hold for all of them."""
    given = {key: value for key, value in settings.items() if value}
    if not program:
        if given:
            raise ValueError(f"{next(iter(given)).upper()}= needs a program: PROGRAM=\"COMMAND\"")
        return []

    def shown(key: str) -> str:
        return f"{key.upper()}={program if key == 'program' else given[key]}"
    made: list[Workload] = []
    found = commands(program)
    if not found:
        raise ValueError(f"{shown('program')}: there is no command in it")
    names: dict[str, int] = {}
    for command in found:
        workload = _workload("", {**given, "program": command}, os.getcwd(), shown)
        name = os.path.basename(workload.command[0])[:MOST_NAME - 3]
        names[name] = names.get(name, 0) + 1
        label = f"{name} {names[name]}" if names[name] > 1 or name in _taken() else name
        made.append(replace(workload, name=label))
    return made


def _taken() -> set[str]:
    return {workload.name for workload in WORKLOADS}


# ── The file ────────────────────────────────────────────────────────────────────────────────────────

KEYS: dict[str, type] = {
    "program": str, "setup": str, "prepare": str, "input": str, "metric": str, "unit": str, "client": str, "port": int,
    "environment": dict, "about": str, "same_output": bool,
}
TYPES = {str: "a text in quotes", int: "a number", dict: "a table: { NAME = \"value\" }", bool: "true or false"}


def _checked_table(place: str, table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ValueError(f"{place}: a workload is a table: [name] with program = \"COMMAND\" below it")
    for key, value in table.items():
        if key not in KEYS:
            raise ValueError(f"{place}: {key} is none of {', '.join(KEYS)}")
        if not isinstance(value, KEYS[key]) or (KEYS[key] is int and isinstance(value, bool)):
            raise ValueError(f"{place}: {key} is {TYPES[KEYS[key]]}")
    if any(not isinstance(value, str) for value in table.get("environment", {}).values()):
        raise ValueError(f"{place}: environment is {TYPES[dict]}")
    if not table.get("program"):
        raise ValueError(f"{place}: there is no program = \"COMMAND\"")
    return {**table, **({"port": str(table["port"])} if "port" in table else {})}


def read(path: str | Path) -> list[Workload]:
    """The workloads of a file, a table each. Paths in it are relative to its folder."""
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    made = []
    for name, table in data.items():
        place = f"{path}: [{name}]"
        if len(name) > MOST_NAME or not name.strip() or name.startswith("@"):
            raise ValueError(f"{place}: a name has 1 to {MOST_NAME} characters and does not begin with @")
        if name in _taken():
            raise ValueError(f"{place}: a workload of the laboratory has this name")
        given = _checked_table(place, table)
        made.append(_workload(name, given, str(Path(path).resolve().parent), lambda key: f"{place}: {key}"))
    return made
