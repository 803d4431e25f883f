# SPDX-License-Identifier: MIT
"""What a search has found, in words, as a configuration and as a page."""

import html
import math
from typing import Any

import numpy as np

from .race import Race
from .search import Outcome, Search

RESAMPLES = 200
GROUPS = 4  # of the values of a number


def interval(found: Any) -> str:
    if found is None:
        return "not measured"
    bounds = f" ({found.low:.3f} - {found.high:.3f})" if found.low is not None else ""
    return f"{found.ratio:.3f}{bounds}"


def paragraph(search: Search, outcome: Outcome, subject: str) -> str:
    """For the terminal."""
    goal, best = search.goal.name, search.name(outcome.best)
    tried, failed = len(search.journal.points), len(search.journal.failed)
    begin = (f"{tried} compositions were tried for {subject}, {failed} of which could not be built or run. In a measurement of its own, of "
             f"{len(outcome.fresh)} blocks that the search has not seen, ")
    if outcome.winner is None:
        return begin + f"there was none to compare with {best}, as nothing was found that keeps to the limits: take `{best}`."
    said = f"the best that was found has {interval(outcome.versus)} times the {goal} of {best}, the best configuration there was"
    if outcome.is_better:
        return begin + said + "."
    return begin + said + f": take `{best}`, nothing found is better."


def defconfig(search: Search, outcome: Outcome, subject: str, row: str, date: str) -> str:
    """The text of configs/NAME_defconfig."""
    race, winner, base = search.race, outcome.winner, search.race.base
    lines = [f"# For {subject}: found by `scons tune`, {date}.",
             f"# {search.goal.name} of {search.name(outcome.best)}, times {interval(outcome.versus)}, in {len(outcome.fresh)} blocks that "
             "the search had not seen."]
    for part, word in (("time", "time"), ("rss", "peak_rss")):
        found = race.ratio(winner, base, outcome.fresh, part)
        if not found or found.high is None:
            continue
        if found.high < 1 or found.low > 1:
            promise = "Better than default" if found.high < 1 else "At the price of"
            lines.append(f"# {promise}: {word} of {row}" if row else
                         f"# {'Better' if found.high < 1 else 'Worse'} than default: {word}, times {interval(found)}")
    own = [line for line in search.composer.minimal(search.journal.points[winner]["point"]).splitlines() if not line.startswith("# Gen")]
    return "\n".join([*lines, *own]) + "\n"


def importance(search: Search) -> "list[tuple[str, float, float, float]]":
    """(option, share of the variance of the goal that its values explain, and its interval), the most important first.

    Of all that was tried; the values of a number in four groups. The interval is from compositions drawn anew."""
    known = [(digest, one) for digest in search.journal.points if (one := search.race.standing(digest))]
    if len(known) < 8:
        return []
    value = np.array([one.value for _, one in known])
    chance = np.random.default_rng(1)
    found = []
    for one in search.composer.space:
        raw = [search.journal.points[digest]["point"].get(one.name) for digest, _ in known]
        if one.values:
            group = np.unique([str(item) for item in raw], return_inverse=True)[1]
        else:
            numbers = np.array([-1.0 if item is None else float(item) for item in raw])
            group = np.searchsorted(np.quantile(numbers, np.arange(1, GROUPS) / GROUPS), numbers)
        if len(set(group)) < 2:
            continue

        def explained(places):
            values, groups = value[places], group[places]
            whole = values.var()
            if whole <= 0:
                return 0.0
            means = {number: values[groups == number].mean() for number in set(groups)}
            between = np.mean([(means[number] - values.mean()) ** 2 for number in groups])
            degrees = max(len(values) - len(means), 1)
            # What that many groups explain by chance is taken off.
            return max(0.0, 1 - (whole - between) * (len(values) - 1) / (whole * degrees))

        drawn = [explained(chance.integers(0, len(value), len(value))) for _ in range(RESAMPLES)]
        found.append((one.name, explained(np.arange(len(value))), *np.quantile(drawn, (0.025, 0.975)).tolist()))
    return sorted(found, key=lambda item: -item[1])


def front(race: Race, digests: "list[str]") -> "list[tuple[str, float, float]]":
    """(digest, time, memory) by the base's, of all that was run."""
    points = []
    for digest in digests:
        pair = [race.ratio(digest, race.base, part=part) if digest != race.base else None for part in ("time", "rss")]
        if digest == race.base or all(pair):
            points.append((digest, *(one.ratio if one else 1.0 for one in pair)))
    return points


def page(search: Search, outcome: Outcome, subject: str, text: str) -> str:
    race, escape = search.race, html.escape
    points = front(race, [digest for digest in search.journal.points if search.journal.runs.get(digest)])
    best = {a[0] for a in points if not any(b[1] <= a[1] and b[2] <= a[2] and b[1:] != a[1:] for b in points)}
    scale = lambda values: (min(values) - 0.02, max(values) + 0.02)
    (x0, x1), (y0, y1) = scale([point[1] for point in points]), scale([point[2] for point in points])
    dots = "".join(f'<circle cx="{40 + 540 * (x - x0) / (x1 - x0):.1f}" cy="{330 - 310 * (y - y0) / (y1 - y0):.1f}" r="4" '
                   f'class="{"on" if digest in best else "off"}"><title>{escape(search.name(digest))}: time {x:.3f}, memory {y:.3f}'
                   "</title></circle>" for digest, x, y in points)
    cost = lambda digest: found.cost if (found := race.standing(digest)) else math.inf
    rows = "".join(
        f"<tr><td>{escape(search.name(digest))}</td><td>{one.blocks}</td><td>{math.exp(one.value):.3f}</td>"
        f"<td>{'' if one.exceeds <= 0 else 'exceeds a limit'}</td></tr>"
        for digest in sorted(search.journal.points, key=cost)
        if (one := race.standing(digest)))
    failed = "".join(f"<tr><td>{escape(digest)}</td><td colspan=3>{escape(why)}</td></tr>" for digest, why in search.journal.failed.items())
    options = "".join(f"<tr><td>{escape(name)}</td><td>{100 * share:.0f} %</td><td>{100 * low:.0f} - {100 * high:.0f} %</td></tr>"
                      for name, share, low, high in importance(search)[:12])
    compared = "".join(
        f"<tr><td>{escape(search.name(digest))}</td>" + "".join(
            f"<td>{interval(race.ratio(digest, race.base, outcome.fresh, part))}</td>" for part in ("", "time", "rss")) + "</tr>"
        for digest in search.journal.points if digest != race.base and race.common(digest, race.base, outcome.fresh))
    chosen = outcome.winner or outcome.best
    minimal = escape(search.composer.minimal(search.journal.points[chosen]["point"]))
    return f"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>scons tune: {escape(subject)}</title>
<style>body{{font:15px sans-serif;max-width:50em;margin:2em auto;padding:0 1em}}table{{border-collapse:collapse}}
td,th{{padding:.1em .8em;border-bottom:1px solid #ccc;text-align:left}}.on{{fill:#06c}}.off{{fill:#bbb}}pre{{background:#f4f4f4;padding:1em;
overflow:auto}}</style>
<h1>{escape(subject)}</h1><p>{escape(text)}</p>
<h2>The fresh measurement</h2><table><tr><th>by default's<th>{escape(search.goal.name)}<th>time<th>peak memory</tr>{compared}</table>
<h2>{"The best that was found" if outcome.winner else "The best configuration"}, size classes and all</h2><pre>{minimal}</pre>
<h2>Time against memory</h2><p>By default's; blue: nothing is better in both. Right: more time; up: more memory
({x0:.2f} - {x1:.2f}, {y0:.2f} - {y1:.2f}).</p>
<svg viewBox="0 0 600 350" role="img" aria-label="time against memory"><path d="M40 10V330H590" fill="none" stroke="#888"/>{dots}</svg>
<h2>Which options mattered</h2><p>How much of the differences among all that was tried the values of an option explain, what chance alone
would explain taken off, with 95 % intervals.</p><table><tr><th>option<th>share<th>interval</tr>{options}</table>
<h2>The race</h2><table><tr><th>composition<th>blocks<th>{escape(search.goal.name)} by default's<th></tr>{rows}{failed}</table></html>
"""
