# SPDX-License-Identifier: MIT
"""From the times of paired runs to a ratio and its interval.

A pair is two runs made one after the other, A and B in random order, so that what the machine did
meanwhile hits both. The figure of a pair is log(time of B / time of A); all that follows is about
these numbers. Their centre is the mean without the outer tenth on either side: on a machine that
others use too, a single run may take twice as long, and such a run must neither move the figure
nor widen the interval to uselessness.

The interval is a bootstrap of the studentised trimmed mean, with Winsorised variance as Yuen gave
it, symmetric. In simulations with 10 to 40 pairs (normal, heavy-tailed, skewed, with spikes) it
misses the truth in 3 to 6 of 100 cases. The BCa bootstrap of the mean, which is commonly used,
misses it in 6 to 15 of 100.

Pairs of several machines are in blocks, a machine each. The ratio is the mean over the pairs; what one machine's
ratio differs from another's is taken off before any error is computed, and resamples are drawn within each machine.
So the interval is of the ratio on these machines, as many pairs of each as there were. With 4 to 20 pairs a machine it
misses the truth in 1 to 6 of 100 simulated cases; with fewer it is useless, so that a machine needs four.

The p value of a row comes from the same resamples as its interval, so that it is below 0.05 just
where the interval does not hold 1. A report has many rows; holm() says which of them may be
claimed all at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence

Array = Any  # of numpy's, which is imported where it is needed: it takes long

CONFIDENCE = 0.95
ENOUGH_PAIRS = 10  # below that no winner is named
FEWEST_PAIRS = 6  # below that there is no interval: too few different resamples
FEWEST_OF_MACHINE = 4  # of several; below that its pairs are left out
TRIMMED = 0.1
RESAMPLES = 9999
SEED = 20251107


@dataclass(frozen=True)
class Estimate:
    pairs: int
    ratio: float  # time of B / time of A: above 1, A is faster
    low: float | None  # bounds of the ratio's interval; None below FEWEST_PAIRS
    high: float | None
    spread: float  # standard deviation of the pairs' log ratios: 0.02 is about two per cent
    p: float | None = None  # how often chance alone would take the ratio as far from 1 as it is

    @property
    def enough(self) -> bool:
        return self.pairs >= ENOUGH_PAIRS and self.low is not None

    @property
    def width(self) -> float | None:
        """Of the interval, relative to the ratio: 0.02 is about plus or minus one per cent."""
        return None if self.low is None or self.high is None else math.log(self.high / self.low)

    @property
    def faster(self) -> str | None:
        """"A", "B", or None where the data do not tell."""
        if not self.enough or self.low is None or self.high is None or self.low <= 1 <= self.high:
            return None
        return "A" if self.low > 1 else "B"


def _trimmed_mean(values: Array, axis: int = -1) -> tuple[Array, Array]:
    """Trimmed mean along the last axis, and its standard error."""
    import numpy

    values = numpy.sort(numpy.moveaxis(values, axis, -1), axis=-1)
    count = values.shape[-1]
    cut = int(TRIMMED * count)
    kept = count - 2 * cut
    mean = values[..., cut:count - cut].mean(axis=-1)
    winsorised = numpy.clip(values, values[..., cut:cut + 1],
                            values[..., count - cut - 1:count - cut])
    deviation = winsorised.std(axis=-1, ddof=1)
    return mean, deviation * math.sqrt((count - 1) / (kept * (kept - 1)))


def _distances(logs: Array, centre: float, error: float, resamples: int) -> Array:
    """How far resampled data lie from their centre, in their own standard errors."""
    import numpy
    from scipy import stats

    def distance(sample: Array, axis: int) -> Array:
        mean, sample_error = _trimmed_mean(sample, axis)
        # A sample of hardly anything but one value has no error of its own: count it as far off.
        return abs(mean - centre) / numpy.maximum(sample_error, 1e-6 * error)

    return stats.bootstrap((logs,), distance, vectorized=True, n_resamples=resamples,
                           method="percentile", random_state=SEED).bootstrap_distribution


def _bounds(centre: float, half: float, least: float, most: float) -> tuple[float, float]:
    """The interval's, of data from `least` to `most`. Few pairs of which most agree can give a bound beyond all of them, which
    says nothing. That a bound is on the other side of 1 does say something, so that is left."""
    return max(centre - half, min(least, 0.0)), min(centre + half, max(most, 0.0))


def _blocks(machines: Sequence[str]) -> list[list[int]]:
    """The places of each machine's pairs; none where there is one machine only."""
    places: dict[str, list[int]] = {}
    for place, machine in enumerate(machines):
        places.setdefault(machine, []).append(place)
    return list(places.values()) if len(places) > 1 else []


def _mean_of_blocks(values: Array, sizes: Sequence[int]) -> tuple[Array, Array]:
    """As _trimmed_mean, of values along the last axis that are one machine's after another's."""
    import numpy

    ends = numpy.cumsum(sizes)
    centres = numpy.concatenate([
        numpy.repeat(_trimmed_mean(values[..., end - size:end])[0][..., None], size, axis=-1)
        for size, end in zip(sizes, ends)], axis=-1)
    mean, error = _trimmed_mean(values - centres + centres.mean(axis=-1, keepdims=True))
    return mean, error * math.sqrt((ends[-1] - 1) / (ends[-1] - len(sizes)))


def _estimate_of_blocks(blocks: Sequence[Array], resamples: int) -> Estimate:
    """From the log ratios of each machine's pairs."""
    import numpy

    sizes, logs = [len(block) for block in blocks], numpy.concatenate(blocks)
    centre, error = map(float, _mean_of_blocks(logs, sizes))
    spread = math.sqrt(sum(float(block.var()) * len(block) for block in blocks) / (len(logs) - len(blocks)))
    if not error:
        return Estimate(len(logs), math.exp(centre), math.exp(centre), math.exp(centre), spread,
                        1 / (resamples + 1) if centre else 1.0)
    generator = numpy.random.default_rng(SEED)
    means, errors = _mean_of_blocks(numpy.concatenate(
        [block[generator.integers(0, len(block), (resamples, len(block)))] for block in blocks], axis=-1), sizes)
    distances = abs(means - centre) / numpy.maximum(errors, 1e-6 * error)
    half = float(numpy.quantile(distances, CONFIDENCE)) * error
    p = (1 + int(numpy.count_nonzero(distances >= abs(centre) / error))) / (resamples + 1)
    low, high = _bounds(centre, half, float(logs.min()), float(logs.max()))
    return Estimate(len(logs), math.exp(centre), math.exp(low), math.exp(high), spread, p)


def estimate(values_a: Sequence[float], values_b: Sequence[float], resamples: int = RESAMPLES,
             machines: Sequence[str] = ()) -> Estimate | None:
    """The estimate from the figures of A and B, pair by pair; None without a pair. They need not be
    times; whatever they are, they must be above 0. `machines` names the one that each pair was made on."""
    import numpy

    if len(values_a) != len(values_b) or machines and len(machines) != len(values_a):
        raise ValueError("A and B must have the same number of runs")
    if not values_a:
        return None
    logs = numpy.log(numpy.asarray(values_b, float)) - numpy.log(numpy.asarray(values_a, float))
    blocks = _blocks(machines)
    kept = [logs[places] for places in blocks if len(places) >= FEWEST_OF_MACHINE]
    if len(kept) > 1:
        return _estimate_of_blocks(kept, resamples)
    logs = kept[0] if kept else logs
    if len(logs) < FEWEST_PAIRS or blocks and not kept:
        spread = float(logs.std(ddof=1)) if len(logs) > 1 else 0.0
        return Estimate(len(logs), math.exp(logs.mean()), None, None, spread)
    centre, error = (float(value) for value in _trimmed_mean(logs))
    p = 1 / (resamples + 1) if centre else 1.0
    low = high = centre
    if error > 0:
        distances = _distances(logs, centre, error, resamples)
        half = float(numpy.quantile(distances, CONFIDENCE)) * error
        beyond = int(numpy.count_nonzero(distances >= abs(centre) / error))
        p = (1 + beyond) / (resamples + 1)
        low, high = _bounds(centre, half, logs.min(), logs.max())
    return Estimate(len(logs), math.exp(centre), math.exp(low), math.exp(high),
                    float(logs.std(ddof=1)), p)


def estimate_apart(values_a: Sequence[float], values_b: Sequence[float],
                   resamples: int = RESAMPLES) -> Estimate | None:
    """The estimate from figures of A and B that were not made in pairs, at different times maybe. `pairs` is the
    number of figures of the smaller sample. What the machine did to all figures of one side is not in the
    interval: nothing in the figures tells it from a difference between A and B."""
    import numpy

    pairs = min(len(values_a), len(values_b))
    if not pairs:
        return None
    a, b = (numpy.log(numpy.asarray(values, float)) for values in (values_a, values_b))
    if pairs < FEWEST_PAIRS:
        spread = math.hypot(*(float(logs.std(ddof=1)) if len(logs) > 1 else 0.0 for logs in (a, b)))
        return Estimate(pairs, math.exp(b.mean() - a.mean()), None, None, spread)
    (mean_a, error_a), (mean_b, error_b) = (map(float, _trimmed_mean(logs)) for logs in (a, b))
    centre, error = mean_b - mean_a, math.hypot(error_a, error_b)
    spread = math.hypot(float(a.std(ddof=1)), float(b.std(ddof=1)))
    if not error:
        p = 1 / (resamples + 1) if centre else 1.0
        return Estimate(pairs, math.exp(centre), math.exp(centre), math.exp(centre), spread, p)
    generator = numpy.random.default_rng(SEED)
    (means_a, errors_a), (means_b, errors_b) = (
        _trimmed_mean(logs[generator.integers(0, len(logs), (resamples, len(logs)))]) for logs in (a, b))
    distances = abs(means_b - means_a - centre) / numpy.maximum(numpy.hypot(errors_a, errors_b), 1e-6 * error)
    half = float(numpy.quantile(distances, CONFIDENCE)) * error
    p = (1 + int(numpy.count_nonzero(distances >= abs(centre) / error))) / (resamples + 1)
    low, high = _bounds(centre, half, float(b.min() - a.max()), float(b.max() - a.min()))
    return Estimate(pairs, math.exp(centre), math.exp(low), math.exp(high), spread, p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction: p values that may be compared with 0.05 all together, so that the chance
    of even one false claim among them is at most 0.05. None stays None, and counts as a row."""
    def key(index: int) -> float:
        p = p_values[index]
        return 1.0 if p is None else p
    corrected: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=key)):
        p = p_values[index]
        if p is not None:
            floor = max(floor, min(1.0, p * (len(p_values) - rank)))
            corrected[index] = floor
    return corrected
