# SPDX-License-Identifier: MIT
"""Results that are kept in a page of doc/, between two marks that name the command which writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence


class DocumentError(Exception):
    """The page is not one that can be written to; the message says why."""


def write(path: Path, command: Sequence[str], lines: list[str]) -> None:
    """Replaces what stands between the marks by these lines."""
    begin, end = f"<!-- {command} writes from here -->\n", "<!-- to here -->\n"
    try:
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(begin, 1)
        after = rest.split(end, 1)[1]
        path.write_text(before + begin + "\n".join(lines) + "\n" + end + after, encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror}") from None
    except (ValueError, IndexError):
        raise DocumentError(f"{path} has not the two marks between which the result goes") from None
