"""Timing many contestants against each other: all in one process, in turns, in an order that is drawn each time."""

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyperf

ROUNDS = 60
SLICE = 0.004
"""Seconds that one turn of a contestant takes."""


class Figure(NamedTuple):
    """What a contestant has taken, in seconds a call: the median, and the quarters around it."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half of the distance of the quarters, as a share of the median."""
        return (self.high - self.low) / 2 / self.median


def seconds(call: Callable[[], object]) -> float:
    """How long the call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _turn(call: Callable[[], object], loops: int) -> float:
    started = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - started) / loops


def _loops(call: Callable[[], object], seconds: float) -> int:
    loops = 1
    while (taken := _turn(call, loops) * loops) < seconds / 4:
        loops *= 2
    return max(1, round(loops * seconds / taken))


def race(contestants: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds a call, of each turn of each contestant; turns of all are mixed, so what disturbs hits all alike."""
    loops = {name: _loops(call, SLICE) for name, call in contestants.items()}
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            taken[name].append(_turn(contestants[name], loops[name]))
    return taken


def figure(values: list[float], less: float = 0.0) -> Figure:
    """Median and quarters, less what the measuring itself takes."""
    low, median, high = statistics.quantiles(values, n=4)
    return Figure(median - less, low - less, high - less)


def save(path: Path, taken: dict[str, list[float]]) -> None:
    """As pyperf's JSON, which ``python -m pyperf compare_to`` and others read."""
    runs = [
        pyperf.Benchmark(
            [pyperf.Run([value], metadata={"name": name, "unit": "second"}, collect_metadata=False) for value in values]
        )
        for name, values in taken.items()
    ]
    path.unlink(missing_ok=True)
    pyperf.BenchmarkSuite(runs).dump(str(path))
