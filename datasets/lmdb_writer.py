"""Writing one LMDB so that a half of it is never taken for a whole one, and a half is never made twice.

Records go to ``.NAME.partial`` beside the target, which gets its name when all of them are in. What such a folder
holds is kept when the work is stopped: the next writer with the same ``source`` says in ``done`` what need not be
made again. A finished LMDB describes itself in ``summary.json``, a file that Caffe does not look at.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.files import write_whole
from caffebench.datasets.datum import Image

__all__ = ["LmdbWriter", "Summary", "finished"]

_SUMMARY = "summary.json"
_COMMIT_RECORDS = 1000
_COMMIT_BYTES = 32 << 20
_FIRST_MAP = 64 << 20


@dataclass(frozen=True)
class Summary:
    """What stands in an LMDB: how it was made, and the figures that a prototxt needs."""

    source: Mapping[str, Any]
    """What it was made from and with which options; two LMDBs of equal source hold equal records."""
    records: int
    smallest: tuple[int, ...]
    """Channels, height, width: the least of each over all images."""
    largest: tuple[int, ...]
    means: tuple[float, ...]
    """Mean pixel of each channel, 0 to 255, over all pixels of all images, in the order of the stored channels."""


def finished(target: Path, source: Mapping[str, Any], *, force: bool = False) -> Summary | None:
    """The summary of the LMDB at ``target`` if just this was made already; None where it is still to be made.

    With ``force`` an LMDB that is there counts as still to be made. Raises ``InputError`` where something else
    is in the way.
    """
    if not target.exists():
        return None
    if not (target / "data.mdb").is_file():
        raise InputError(f"{target} is in the way and no LMDB: remove it or choose another folder")
    if force:
        return None
    try:
        found: dict[str, Any] = json.loads((target / _SUMMARY).read_text())
        found |= {key: tuple(found[key]) for key in ("smallest", "largest", "means")}
        summary = Summary(**found)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        summary = None
    if summary is None or summary.source != _plain(source):
        how = "was not made by make-lmdb" if summary is None else "was made from other data or with other options"
        raise InputError(f"{target} is already there and {how}: choose another folder, or --force to replace it")
    return summary


class LmdbWriter:
    """Writes records to ``target``; a context manager. Leaving it without ``finish`` keeps what was put for later.

    Raises ``InputError`` where another writer is at work on the same target, ``CaffebenchError`` for a full disk.
    """

    def __init__(self, target: Path, source: Mapping[str, Any]) -> None:
        """Start the LMDB, or go on with one of equal ``source`` that was not finished."""
        self.target = target
        self._source = _plain(source)
        self._partial = target.with_name(f".{target.name}.partial")
        self._partial.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._partial, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise InputError(f"another make-lmdb is writing {target}: wait for it or choose another folder") from None
        started = self._partial / "source.json"
        if not started.is_file() or json.loads(started.read_text()) != self._source:
            for path in self._partial.iterdir():
                path.unlink()
            write_whole(started, json.dumps(self._source))
        # Without metasync the last commit may be lost in a power failure, which costs that commit and no more.
        self._env = lmdb.open(str(self._partial), map_size=_FIRST_MAP, metasync=False, mode=0o644)
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0
        self._journal = (self._partial / "journal.jsonl").open("a+")
        self._totals = self._read_journal()
        self.done: frozenset[int] = frozenset(self._positions())
        """Positions that an earlier, stopped writer has put already."""

    def __enter__(self) -> LmdbWriter:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database; what was put before Ctrl-C is kept."""
        try:
            if kind is None or issubclass(kind, KeyboardInterrupt):
                self._commit()
        finally:
            self._env.close()
            self._journal.close()
            os.close(self._lock)

    def put(self, position: int, record: bytes, image: Image, *, name: str = "") -> None:
        """Add a record. ``position``, from 0, is its place in the reading order; ``image``, the pixels of shape
        (channels, height, width), is for the means. The key is that of Caffe's ``convert_imageset``:
        ``00000042_name``, or ``00000042`` without a name.
        """
        key = f"{position:08d}_{name}" if name else f"{position:08d}"
        # LMDB refuses longer keys, and Caffe does not read them.
        self._pending.append((key.encode(errors="surrogateescape")[: self._env.max_key_size()], record))
        self._pending_bytes += len(record)
        self._totals.add(image)
        if len(self._pending) >= _COMMIT_RECORDS or self._pending_bytes >= _COMMIT_BYTES:
            self._commit()

    def finish(self) -> Summary:
        """Give the LMDB its name, in place of one that has it, and return what is in it.

        Raises ``CaffebenchError`` where it holds no record: Caffe would abort on it.
        """
        self._commit()
        totals = self._totals
        if not totals.records:
            raise CaffebenchError(f"there was no image to put into {self.target}")
        self._env.sync(True)
        summary = Summary(
            source=self._source,
            records=totals.records,
            smallest=tuple(totals.smallest),
            largest=tuple(totals.largest),
            means=tuple(round(total / totals.pixels, 4) for total in totals.sums),
        )
        write_whole(self._partial / _SUMMARY, json.dumps(asdict(summary), indent=1) + "\n")
        if self.target.exists():
            shutil.rmtree(self.target)
        self._partial.rename(self.target)
        for name in ("journal.jsonl", "source.json"):
            (self.target / name).unlink()
        return summary

    def _commit(self) -> None:
        if not self._pending:
            return
        # Before the records: so each state of the database has its line, whenever the process is killed.
        self._journal.write(json.dumps(asdict(self._totals)) + "\n")
        self._journal.flush()
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for key, record in self._pending:
                        transaction.put(key, record)
                break
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.Error as error:
                # LMDB reports a write that the disk took only a part of as an input/output error.
                full = shutil.disk_usage(self._partial).free < self._pending_bytes
                cause = "no space left on the disk" if full else str(error)
                raise CaffebenchError(f"cannot write {self.target}: {cause}; the same command goes on later") from error
        self._pending.clear()
        self._pending_bytes = 0

    def _positions(self) -> list[int]:
        with self._env.begin() as transaction:
            return [int(key[:8]) for key in transaction.cursor().iternext(values=False)]

    def _read_journal(self) -> _Totals:
        records = self._env.stat()["entries"]
        self._journal.seek(0)
        for line in self._journal:
            try:
                found = _Totals(**json.loads(line))
            except ValueError:  # the line that was being written when the process was killed
                continue
            if found.records == records:
                return found
        return _Totals()


@dataclass
class _Totals:
    """Sums over the records put so far, exact, so that the means do not depend on where the work was stopped."""

    records: int = 0
    pixels: int = 0
    sums: list[int] | tuple[int, ...] = ()
    smallest: list[int] | tuple[int, ...] = ()
    largest: list[int] | tuple[int, ...] = ()

    def add(self, image: Image) -> None:
        sums = np.add.reduce(image, axis=(1, 2), dtype=np.int64).tolist()
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)] if self.records else sums
        self.smallest = [*map(min, self.smallest, image.shape)] if self.records else [*image.shape]
        self.largest = [*map(max, self.largest, image.shape)] if self.records else [*image.shape]
        self.records += 1
        self.pixels += image.shape[1] * image.shape[2]


def _plain(source: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that what was read can be compared with what is wanted."""
    return dict(json.loads(json.dumps(source)))
