# SPDX-License-Identifier: MIT
"""A comparison as a JSON file: every single run, so that other figures can follow later."""

import json
import os
from dataclasses import asdict

FORMAT = 1


def _row(row):
    estimate = row.estimate()
    return {
        "workload": row.workload.name,
        "command": row.workload.command,
        "environment": row.workload.environment,
        "compared": row.workload.measure,
        "estimate": estimate and {**asdict(estimate), "faster": estimate.faster},
        "failure": row.failure,
        "to_repeat": row.command,
        "pairs": [{"order": order, "A": asdict(a), "B": asdict(b)}
                  for order, (a, b) in zip(row.orders, row.pairs)],
    }


def as_data(comparison, machine, started):
    return {
        "format": FORMAT,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(comparison.seconds, 1),
        "budget": comparison.budget,
        "seed": comparison.seed,
        "interrupted": comparison.interrupted,
        "machine": machine,
        "A": asdict(comparison.a),
        "B": asdict(comparison.b),
        "rows": [_row(row) for row in comparison.rows],
    }


def write(comparison, machine, started, folder):
    """Writes the record, and `latest.json` as a link to it; returns its path."""
    os.makedirs(folder, exist_ok=True)
    labels = f"{comparison.a.label}-{comparison.b.label}".replace("/", "_")
    name = f"{started:%Y%m%d-%H%M%S}-{labels}.json"
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(as_data(comparison, machine, started), file, indent=1)
        file.write("\n")
    latest = os.path.join(folder, "latest.json")
    temporary = f"{latest}.{os.getpid()}"
    os.symlink(name, temporary)
    os.replace(temporary, latest)
    return path
