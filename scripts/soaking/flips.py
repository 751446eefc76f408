"""Damaging every file of a snapshot in many ways: each must be named, and the snapshot before taken."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from caffebench.launcher.state.paths import RunPaths
from caffebench.launcher.state.snapshots import newest_whole

__all__ = ["Flips", "flip_all"]

ENDINGS = (".caffemodel", ".solverstate", ".json")


@dataclass
class Flips:
    """Counts by the ending of the damaged file."""

    tried: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    """The damaged file was named and the snapshot before taken."""


def flip_all(folder: Path, runs: list[str], flips: int, rng: random.Random, found: Flips) -> None:
    """Damage the newest snapshot of each run of a finished trial, ``flips`` bits in each file and more than bits."""
    for run in runs:
        paths = RunPaths(run, folder / "logs", folder / "s")
        newest, before = paths.iterations()[:2]
        for path in vars(paths.snapshot(newest)).values():
            whole = path.read_bytes()
            for damaged in _damages(whole, flips, rng):
                path.write_bytes(damaged)
                said: list[str] = []
                found.tried[path.suffix] += 1
                if newest_whole(paths, said.append) == before and len(said) == 1 and path.name in said[0]:
                    found.named[path.suffix] += 1
            path.write_bytes(whole)


def _damages(whole: bytes, flips: int, rng: random.Random) -> Iterator[bytes]:
    for _ in range(flips):
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        yield whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    at = rng.randrange(max(1, len(whole) - 4096))
    zeroed = whole[:at] + bytes(len(whole[at : at + 4096])) + whole[at + 4096 :]
    yield from (zeroed, whole[: rng.randrange(len(whole))], whole + b"\0", b"")
