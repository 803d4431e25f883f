# SPDX-License-Identifier: MIT
"""All that a search has measured, a line of JSON each: what is written is never written again, so that a search that was
interrupted at any moment goes on from its last whole line."""

import json
import os
from pathlib import Path


class OtherSearch(Exception):
    """The journal is of a search for something else."""


class Journal:
    def __init__(self, file: Path, settings: dict) -> None:
        self.file = file
        self.points: "dict[str, dict]" = {}  # digest → {"point", "name"}
        self.runs: "dict[str, dict[int, dict]]" = {}  # digest → block → figures
        self.failed: "dict[str, str]" = {}  # digest → why
        self.machines: "dict[int, str]" = {}  # block → the one of several that made it
        self.fresh: "set[int]" = set()  # blocks that no choice may rest on
        self.blocks = 0  # that were begun
        self.seconds = 0.0  # that were spent before now
        file.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_bytes().decode(errors="replace") if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        for line in whole.splitlines():
            self._take(json.loads(line), settings)
        if whole != text:
            file.write_text(whole, encoding="utf-8")
        if not whole:
            self.add("search", settings=settings)

    def _take(self, entry: dict, settings: dict) -> None:
        kind = entry["kind"]
        if kind == "search" and entry["settings"] != settings:
            was = {name: value for name, value in entry["settings"].items() if settings.get(name) != value}
            raise OtherSearch(f"{self.file} is of a search with other settings ({', '.join(f'{n}={v}' for n, v in was.items())}): "
                              "give another NAME=, or remove it")
        if kind == "point":
            self.points.setdefault(entry["digest"], {"point": entry["point"], "name": entry["name"]})
        elif kind == "run":
            self.runs.setdefault(entry["digest"], {})[entry["block"]] = entry["figures"]
            if "machine" in entry:
                self.machines[entry["block"]] = entry["machine"]
            self.blocks = max(self.blocks, entry["block"] + 1)
        elif kind == "fresh":
            self.fresh.add(entry["block"])
            self.blocks = max(self.blocks, entry["block"] + 1)
        elif kind == "failed":
            self.failed[entry["digest"]] = entry["why"]
        elif kind == "spent":
            self.seconds += entry["seconds"]

    def add(self, kind: str, **more) -> None:
        entry = {"kind": kind, **more}
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(entry, more.get("settings", {}))
