# SPDX-License-Identifier: MIT
"""A load for the Python interpreter, run with PYTHONMALLOC=malloc so that every object is a block.

What it does is what programs do: parse and write JSON, count words in dictionaries, sort, format
strings, make objects that refer to each other and let the cycle collector find them. Without
numbers from outside and with hash seeds fixed it prints the same digest every time.

    load_python.py [ROUNDS]
"""

import gc
import hashlib
import json
import re
import sys


class Node:
    def __init__(self, name, parent):
        self.name = name
        self.parent = parent
        self.children = []
        if parent is not None:
            parent.children.append(self)


def records(count, state):
    """A list of small records from a linear congruential generator."""
    result = []
    for number in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        result.append({
            "number": number,
            "name": f"item-{state >> 44:05x}",
            "tags": [f"t{state >> shift & 31}" for shift in (8, 16, 24)],
            "weight": (state >> 32) / 1000,
        })
    return result


def tree(names):
    """A tree whose links go both ways, so that only the cycle collector can free it."""
    nodes = [Node("root", None)]
    for number, name in enumerate(names):
        nodes.append(Node(name, nodes[number // 3]))
    return sum(len(node.name) * (1 + len(node.children)) for node in nodes)


def one_round(state):
    items = json.loads(json.dumps(records(3000, state)))
    words = {}
    for word in re.findall(r"[a-z]+\d*", " ".join(tag for item in items for tag in item["tags"])):
        words[word] = words.get(word, 0) + 1
    items.sort(key=lambda item: (item["name"], item["number"]))
    text = "\n".join(f"{item['name']:>12} {item['weight']:.2f}" for item in items)
    lines = sorted(set(text.split("\n")), key=len)
    return f"{sorted(words.items())} {len(lines)} {tree(item['name'] for item in items)} {text}"


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    digest = hashlib.sha256()
    for number in range(rounds):
        digest.update(one_round(number + 1).encode())
    gc.collect()
    print(f"rounds={rounds} digest={digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
