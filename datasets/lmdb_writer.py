"""Writing one LMDB so that a half of it is never taken for a whole one, and no half is made twice.

Records go to ``.NAME.partial`` beside the target, which gets its name when all of them are in. What such a folder
holds is kept when the work is stopped: the next writer with the same ``source`` says in ``done`` what need not be
made again. A finished LMDB describes itself in ``summary.json``, a file that Caffe does not read.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.files import write_whole
from caffebench.datasets.datum import Record

__all__ = ["LmdbWriter", "Summary", "finished"]

_SUMMARY = "summary.json"
_SOURCE = "source.json"
_JOURNAL = "journal.jsonl"
_COMMIT_RECORDS = 1000  # as convert_imageset does
_COMMIT_BYTES = 32 << 20
_FIRST_MAP = 64 << 20


@dataclass(frozen=True)
class Summary:
    """What stands in an LMDB: how it was made, and the figures that a prototxt needs."""

    source: Mapping[str, Any]
    """What it was made from and with which options: two LMDBs of equal source hold equal records. Without a
    ``quality`` where no image was encoded anew.
    """
    records: int
    smallest: tuple[int, ...]
    """Channels, height, width: the least of each over all images."""
    largest: tuple[int, ...]
    means: tuple[float, ...]
    """Mean pixel of each channel, 0 to 255, over all pixels of all images, in the order of the stored channels."""
    damaged: tuple[str, ...] = ()
    """Images that could not be read and are not in it, each with the reason."""
    checksum: int | None = None
    """Sum of the checksums of all files, the damaged ones too; None where an earlier version made it."""


Checksum = Callable[[frozenset[int] | None], int]
"""Sums up the checksums of the files at these positions, or of all: it reads them."""


def finished(
    target: Path, source: Mapping[str, Any], *, force: bool = False, checksum: Checksum = lambda _: 0
) -> Summary | None:
    """The summary of the LMDB at ``target`` if just this was made already; None where it is still to be made.

    Where the files have other ``times`` in ``source``, their checksum decides. With ``force`` an LMDB that is there
    counts as still to be made. Raises ``InputError`` where something else is in the way.
    """
    if not target.exists():
        return None
    if not (target / "data.mdb").is_file():
        raise InputError(f"{target} is in the way and no LMDB: remove it or choose another folder")
    if force:
        return None
    try:
        found: dict[str, Any] = json.loads((target / _SUMMARY).read_text())
        found |= {key: tuple(found[key]) for key in ("smallest", "largest", "means", "damaged")}
        summary = Summary(**found)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        summary = None
    wanted = _plain(source)
    if summary is not None and "quality" not in summary.source:
        wanted = _without_quality(wanted)
    if summary is not None and summary.source != wanted and _same_but_times(summary.source, wanted):
        if summary.checksum is None:  # of an earlier version, which noted neither times nor checksums
            return summary
        if summary.checksum == checksum(None):
            summary = replace(summary, source=wanted)  # so that next time the times say it
            _describe(target, summary)
    if summary is None or summary.source != wanted:
        how = "was not made by make-lmdb" if summary is None else "was made from other data or with other options"
        raise InputError(f"{target} is already there and {how}: choose another folder, or --force to replace it")
    return summary


class LmdbWriter:
    """Writes records to ``target``; a context manager. Leaving it without ``finish`` keeps what was put for later.

    Raises ``InputError`` where another writer is at work on the same target, ``CaffebenchError`` where the disk
    is full.
    """

    done: frozenset[int]
    """Positions that an earlier, stopped writer has put already."""

    def __init__(self, target: Path, source: Mapping[str, Any], *, checksum: Checksum = lambda _: 0) -> None:
        """Start the LMDB, or continue one of equal ``source`` that was not finished.

        Where the files have other ``times`` in it, the checksum of those that are done decides.
        """
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
        self._pending: list[tuple[bytes, Record]] = []
        self._pending_bytes = 0
        if not self._continued(checksum):
            for path in self._partial.iterdir():
                path.unlink()
            write_whole(self._partial / _SOURCE, json.dumps(self._source))
            self._open()
            self._totals, self.done = _Totals(), frozenset()
        self._journal = (self._partial / _JOURNAL).open("a")

    def __enter__(self) -> LmdbWriter:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database; what was put before Ctrl-C is kept."""
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self._commit()
        finally:
            self._env.close()
            self._journal.close()
            os.close(self._lock)

    def put(self, position: int, record: Record, *, name: str = "") -> None:
        """Add a record. ``position``, from 0, is its place in the order in which Caffe reads.

        The key is that of Caffe's ``convert_imageset``, ``00000042_name``, or without a name ``00000042``.
        """
        key = f"{position:08d}_{name}" if name else f"{position:08d}"
        # LMDB refuses longer keys; the number alone already makes them unique.
        self._pending.append((os.fsencode(key)[: self._env.max_key_size()], record))
        self._pending_bytes += len(record.data)
        if len(self._pending) >= _COMMIT_RECORDS or self._pending_bytes >= _COMMIT_BYTES:
            self._commit()

    def finish(self, damaged: Iterable[str] = (), damaged_checksum: int = 0) -> Summary:
        """Give the LMDB its name, in place of one that has it, and return what is in it.

        ``damaged_checksum`` is the sum of those of the damaged files. Raises ``CaffebenchError`` where it holds no
        record: Caffe would abort on it.
        """
        self._commit()
        totals = self._totals
        if not totals.records:
            raise CaffebenchError(f"there was no image to put into {self.target}")
        self._env.sync(True)
        summary = Summary(
            source=self._source if totals.encoded_anew else _without_quality(self._source),
            records=totals.records,
            smallest=tuple(totals.smallest),
            largest=tuple(totals.largest),
            means=tuple(round(total / totals.pixels, 4) for total in totals.sums),
            damaged=tuple(damaged),
            checksum=totals.checksum + damaged_checksum,
        )
        _describe(self._partial, summary)
        if self.target.exists():
            shutil.rmtree(self.target)
        self._partial.rename(self.target)
        for name in (_JOURNAL, _SOURCE):
            (self.target / name).unlink()
        return summary

    def _commit(self) -> None:
        if not self._pending:
            return
        totals = self._totals.with_records(record for _, record in self._pending)
        try:
            # Before the records, so that whenever the process is killed the journal knows the state of the database.
            self._journal.write(f"\n{json.dumps(asdict(totals))}")
            self._journal.flush()
            self._put_pending()
        except (lmdb.Error, OSError) as error:
            # LMDB reports a write of which the disk took only a part as an input/output error.
            full = shutil.disk_usage(self._partial).free < self._pending_bytes + (1 << 20)
            cause = "no space left on the disk" if full else str(error)
            raise CaffebenchError(
                f"cannot write {self.target} any further, {cause}: {totals.records - len(self._pending)} images "
                "are safe, and the same command resumes from there"
            ) from error
        self._totals, self._pending, self._pending_bytes = totals, [], 0

    def _put_pending(self) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for key, record in self._pending:
                        transaction.put(key, record.data)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])

    def _open(self) -> None:
        try:
            # Without metasync a power failure may cost the last commit, and no more.
            self._env = lmdb.open(str(self._partial), map_size=_FIRST_MAP, metasync=False, mode=0o644)
        except lmdb.DiskError as error:
            raise CaffebenchError(f"cannot write {self.target}: no space left on the disk") from error
        except lmdb.Error as error:
            raise CaffebenchError(f"cannot write {self.target}: {error}") from error

    def _continued(self, checksum: Checksum) -> bool:
        """Whether an earlier writer left records of the same source; if so they are kept."""
        try:
            source: dict[str, Any] = json.loads((self._partial / _SOURCE).read_text())
            if not _same_but_times(*map(_without_quality, (source, self._source))):
                return False
            journal = (self._partial / _JOURNAL).read_text()
        except (FileNotFoundError, ValueError):
            return False
        self._open()
        records = self._env.stat()["entries"]
        states = [_Totals(), *_states(journal)]
        # The latest of that length: a commit that failed has left a line as well, and was then made again.
        known = [state for state in states if state.records == records]
        with self._env.begin() as transaction:
            self.done = frozenset(int(key[:8]) for key in transaction.cursor().iternext(values=False))
        other_quality = source.get("quality") != self._source.get("quality")
        if (
            not known
            or (other_quality and known[-1].encoded_anew)
            or (source != self._source and known[-1].checksum != checksum(self.done))
        ):
            self._env.close()
            return False
        if source != self._source:
            write_whole(self._partial / _SOURCE, json.dumps(self._source))
        self._totals = known[-1]
        return True


@dataclass(frozen=True)
class _Totals:
    """Exact sums over the records so far, so that the means do not depend on where the work was stopped."""

    records: int = 0
    pixels: int = 0
    sums: tuple[int, ...] = ()
    smallest: tuple[int, ...] = ()
    largest: tuple[int, ...] = ()
    checksum: int = 0
    encoded_anew: bool = False
    """Whether any was."""

    def with_records(self, records: Iterable[Record]) -> _Totals:
        count, pixels, sums, smallest, largest = self.records, self.pixels, self.sums, self.smallest, self.largest
        checksum, anew = self.checksum, self.encoded_anew
        for record in records:
            first = count == 0
            sums = record.sums if first else tuple(a + b for a, b in zip(sums, record.sums, strict=True))
            smallest = record.shape if first else tuple(map(min, smallest, record.shape))
            largest = record.shape if first else tuple(map(max, largest, record.shape))
            pixels += record.shape[1] * record.shape[2]
            checksum += record.checksum
            anew = anew or record.encoded_anew
            count += 1
        return _Totals(count, pixels, sums, smallest, largest, checksum, anew)


def _states(journal: str) -> Iterable[_Totals]:
    for line in journal.splitlines():
        try:
            found: dict[str, Any] = json.loads(line)
            found = {"encoded_anew": True} | found  # of before it was noted
            yield _Totals(**(found | {key: tuple(found[key]) for key in ("sums", "smallest", "largest")}))
        except ValueError:  # empty, or being written when the process was killed
            continue


def _describe(lmdb_folder: Path, summary: Summary) -> None:
    write_whole(lmdb_folder / _SUMMARY, json.dumps(asdict(summary), indent=1) + "\n")


def _same_but_times(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether these may be the same data: files that were copied have other times, as files that were replaced."""
    return {**found, "times": ""} == {**wanted, "times": ""}


def _without_quality(source: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key != "quality"}


def _plain(source: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that what was read can be compared with what is wanted."""
    return dict(json.loads(json.dumps(source)))
