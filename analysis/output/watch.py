"""Runs that are kept current while their logs grow: only what is new is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caffebench.analysis.read.columns import MetricRegistry
from caffebench.analysis.read.files import COMPRESSED, RunFiles, find_runs, pieces
from caffebench.analysis.read.parser import LogParser
from caffebench.analysis.runs.model import Run
from caffebench.analysis.runs.reading import make_runs

__all__ = ["Watcher", "watch"]


_HEAD = 1 << 12  # bytes: in them a process says when it began


@dataclass
class _Growing:
    """A log and how much of it is read."""

    path: Path
    parser: LogParser
    read: int = 0
    """Bytes that are read."""
    seen: tuple[int, int, int] = (0, 0, 0)
    """Inode, size and time of change (ns) when it was last looked at."""
    head: bytes = b""
    """What it began with then."""

    def state(self) -> tuple[int, int, int]:
        state = os.stat(self.path)
        return state.st_ino, state.st_size, state.st_mtime_ns

    def replaced(self, now: tuple[int, int, int]) -> bool:
        """It is not what was read before, only longer: another file, a shorter one, one written anew."""
        if not self.read or now == self.seen:
            return False
        anew = self.path.suffix in COMPRESSED or self._beginning(len(self.head)) != self.head
        return now[0] != self.seen[0] or now[1] < self.read or anew

    def _beginning(self, size: int) -> bytes:
        with self.path.open("rb") as file:
            return file.read(size)

    def read_new(self, now: tuple[int, int, int]) -> int:
        """Read what is new; returns how many bytes that were."""
        self.seen = now
        before = self.read
        for piece in pieces(self.path, 0 if self.path.suffix in COMPRESSED else self.read):
            self.parser.feed(piece)
            self.read += len(piece)
        self.head = self._beginning(min(self.read, _HEAD))
        return self.read - before


@dataclass
class _Kept:
    """Runs of some files and what is needed to carry on with them."""

    metrics: MetricRegistry = field(default_factory=MetricRegistry)
    files: list[_Growing] = field(default_factory=list)
    name: str = ""
    runs: tuple[Run, ...] = ()


class Watcher:
    """Reads runs again and again; ``bytes_read`` counts what was read of their logs so far."""

    def __init__(
        self,
        paths: Iterable[Path | str],
        train_size: int | None = None,
        named: Mapping[str, Sequence[Path]] | None = None,
    ) -> None:
        """The arguments are those of ``read_runs``."""
        self.paths = [Path(path) for path in paths]
        self.train_size = train_size
        self.named = named
        self.bytes_read = 0
        self._kept: dict[RunFiles, _Kept] = {}

    def update(self) -> list[Run] | None:
        """All runs in the natural order of names if any of their logs changed since the last time, else None.

        Raises ``InputError`` where a path does not exist.
        """
        sources = find_runs(self.paths, self.named)
        kept = {source: self._taken_over(source) for source in sources}
        changed = [self._refresh(source, one) for source, one in kept.items()]
        news = any(changed) or kept.keys() != self._kept.keys()
        self._kept = kept
        return [run for one in kept.values() for run in one.runs] if news else None

    def _taken_over(self, source: RunFiles) -> _Kept:
        """What is known of a run: as it is now, or before it got another part, or nothing."""
        for known, kept in self._kept.items():
            if known.files == source.files[: len(known.files)]:
                return kept
        return _Kept()

    def _refresh(self, source: RunFiles, kept: _Kept) -> bool:
        try:
            now = [_Growing(path, LogParser(kept.metrics)).state() for path in source.files]
        except OSError:
            return False  # a log that is just being moved away: the next look tells
        if any(one.replaced(state) for one, state in zip(kept.files, now, strict=False)):
            kept.metrics, kept.files = MetricRegistry(), []
        kept.files += [_Growing(path, LogParser(kept.metrics)) for path in source.files[len(kept.files) :]]
        stale = [(one, state) for one, state in zip(kept.files, now, strict=True) if one.seen != state]
        if not stale and kept.name == source.name:
            return False
        try:
            for one, state in stale:
                self.bytes_read += one.read_new(state)
        except OSError:  # not ours to read, or just being moved away: the next look reads it from its beginning
            kept.metrics, kept.files = MetricRegistry(), []
            return False
        logs = [one.parser.result() for one in kept.files]
        kept.name, kept.runs = source.name, tuple(make_runs(source, logs, kept.metrics, self.train_size))
        return True


def watch(
    watcher: Watcher, every: float, write: Callable[[list[Run]], object], report: Callable[[str], object] = print
) -> None:
    """Look ``every`` so many seconds, ``write`` all runs where there is news and ``report`` it in a line of text.

    It returns never: ``KeyboardInterrupt`` ends it. Raises ``InputError`` as ``Watcher.update`` does, and what
    ``write`` raises.
    """
    waiting = False
    while True:
        runs = watcher.update()
        if runs:
            write(runs)
            under_way = [run for run in runs if run.iteration is not None and run.iteration < (run.max_iter or 0)]
            where = ", ".join(f"{run.name} at {run.iteration:,}" for run in under_way[:4] if run.status == "stopped")
            report(f"{time.strftime('%H:%M:%S')}  {len(runs)} run(s) written{f'; {where}' if where else ''}")
        elif not waiting and runs is not None:
            report(f"no Caffe log in {', '.join(map(str, watcher.paths))} yet: waiting")
            waiting = True
        time.sleep(every)
