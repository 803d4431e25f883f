# SPDX-License-Identifier: MIT
"""What a function is in machine code: its conditional branches, on the way to each of its ends."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\s+(?:(?:bnd|notrack|repz|rep)\s+)*([a-z]\w*)\s*(.*)")
TARGET = re.compile(r"([0-9a-f]+)(?: <.*>)?$")
# What needs a stack frame, or makes one.
NO_LEAF = re.compile(r"^(call\w*|push\w*|pop\w*|enter|leave)$")
CHANGES_STACK = re.compile(r",%[er]sp$")
MOST_PATHS = 1000


@dataclass(frozen=True)
class Function:
    name: str
    in_all: int  # conditional branches of the hot body
    on_hits: "tuple[int, ...]"  # how many of them lie on a way that returns: each number that there is
    longest_hit: int  # instructions on the longest of these ways
    not_leaf: "tuple[str, ...]"  # instructions that a leaf without a frame does not have


def conditional(mnemonic: str) -> bool:
    return mnemonic.startswith("j") and mnemonic != "jmp" or mnemonic.startswith("loop")


def extent(library: Path, name: str) -> "tuple[int, int]":
    """Where a function begins and ends, without the part that the compiler has put elsewhere as cold."""
    command = ["nm", "--print-size", "--defined-only", str(library)]
    for line in subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        words = line.split()
        if len(words) == 4 and words[3] == name:
            return int(words[0], 16), int(words[0], 16) + int(words[1], 16)
    raise LookupError(f"{library} has no function {name}")


def disassemble(library: Path, name: str) -> "dict[int, tuple[str, str]]":
    """{address: (mnemonic, operands)}, in order."""
    start, end = extent(library, name)
    command = ["objdump", "--disassemble", "--no-show-raw-insn", f"--start-address={start}", f"--stop-address={end}"]
    text = subprocess.run([*command, str(library)], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = (INSTRUCTION.fullmatch(line.split("#")[0].rstrip()) for line in text.splitlines())
    return {int(match[1], 16): (match[2], match[3]) for match in found if match}


def analyse(library: Path, name: str) -> Function:
    code = disassemble(library, name)
    addresses = sorted(code)
    following = dict(zip(addresses, addresses[1:]))
    hits, paths, longest = set(), 0, 0

    def walk(address: "int | None", branches: int, behind: "frozenset[int]") -> None:
        """Follows every way from here. What leaves the body for another function is a miss."""
        nonlocal paths, longest
        while address in code:
            mnemonic, operands = code[address]
            if address in behind:
                raise ValueError(f"{name} has a loop at {address:x}")
            behind |= {address}
            match = TARGET.search(operands)
            target = int(match[1], 16) if match else None
            if mnemonic.startswith("ret"):
                hits.add(branches)
                longest = max(longest, len(behind))
                return
            if conditional(mnemonic):
                branches += 1
                paths += 1
                if paths > MOST_PATHS:
                    raise ValueError(f"{name} has more than {MOST_PATHS} ways through it")
                walk(target, branches, behind)
            elif mnemonic == "jmp":
                address = target
                continue
            address = following.get(address)

    walk(addresses[0], 0, frozenset())
    return Function(
        name,
        sum(conditional(mnemonic) for mnemonic, _ in code.values()),
        tuple(sorted(hits)),
        longest,
        tuple(
            f"{mnemonic} {operands}"
            for mnemonic, operands in code.values()
            if NO_LEAF.match(mnemonic) or CHANGES_STACK.search(operands)
        ),
    )
