# SPDX-License-Identifier: MIT
"""The table of doc/hit-paths.md."""

import re
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent.parent / "doc" / "hit-paths.md"
ROW = re.compile(r"\| `(\w+/\w+)` +\|" + r" *([\d, ]+?) *\|" * 4)


def table() -> "dict[str, list[str]]":
    """{"front end/back end": [malloc on a hit, in all, free on a hit, in all]}"""
    rows = [row for row in map(ROW.match, FILE.read_text(encoding="utf-8").splitlines()) if row]
    found = {row[1]: list(row.groups()[1:]) for row in rows}
    if len(found) != len(rows):
        raise ValueError(f"{FILE.name} has two rows for one pair")
    return found


def row(pair: str, cells: "list[str]") -> str:
    return f"| `{pair}` | {' | '.join(cells)} |"
