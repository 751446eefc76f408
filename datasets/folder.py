"""Image files to a train and a test LMDB, over all cores, so that it may be stopped and resumed."""

from __future__ import annotations

import os
import signal
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

from caffebench.common.errors import CaffebenchError, InputError, StoppedError
from caffebench.common.files import write_whole
from caffebench.datasets.arrays import LmdbResult
from caffebench.datasets.datum import Record
from caffebench.datasets.images import ImageOptions, image_record, read_image
from caffebench.datasets.layout import Entry, Layout
from caffebench.datasets.lmdb_writer import Checksum, LmdbWriter, Summary, finished

__all__ = ["Advance", "make_images"]

_CHUNK = 32


@dataclass(frozen=True)
class Advance:
    """How far the work on one LMDB is."""

    path: Path
    done: int
    """Images looked at, damaged ones among them."""
    total: int
    damaged: int


def make_images(
    layout: Layout,
    out: Path,
    options: ImageOptions,
    *,
    seed: int = 0,
    jobs: int | None = None,
    force: bool = False,
    report: Callable[[Advance], None] = lambda _: None,
) -> list[LmdbResult]:
    """Write ``out/train_lmdb``, ``out/test_lmdb`` and, of a folder, ``out/labels.txt``, a class name a line.

    ``jobs`` processes (one a core by default) decode; ``report`` is called as the work advances. Damaged images are
    left out and named in the summary. Raises ``InputError`` where something else is in the way, ``StoppedError`` on
    Ctrl-C: called again, it resumes from there.
    """
    channels = "gray" if options.gray else "BGR"
    about = {"kind": layout.kind, "classes": len(layout.classes), "channels": channels, "seed": seed, **options.about()}
    targets = {part: out / f"{part}_lmdb" for part in layout.parts}
    sources = {part: {**about, "part": part, **layout.digests(part)} for part in layout.parts}
    made = []
    with _Decoders(layout.root, options, jobs or len(os.sched_getaffinity(0))) as decoders:
        checksums = {
            part: partial(_checksum, decoders, entries, targets[part], report) for part, entries in layout.parts.items()
        }
        found = {
            part: finished(targets[part], sources[part], force=force, checksum=checksums[part]) for part in layout.parts
        }
        if layout.kind == "folder":
            write_whole(out / "labels.txt", os.fsencode("".join(f"{name}\n" for name in layout.classes)))
        for part, summary in found.items():
            if summary is None:
                new = _write(decoders, layout.parts[part], targets[part], sources[part], checksums[part], report)
                made.append(LmdbResult(targets[part], new, already=False))
            else:
                made.append(LmdbResult(targets[part], summary, already=True))
    return made


def _write(
    decoders: _Decoders,
    entries: Sequence[Entry],
    target: Path,
    source: Mapping[str, Any],
    checksum: Checksum,
    report: Callable[[Advance], None],
) -> Summary:
    damaged: list[str] = []
    done = damaged_checksum = 0
    try:
        with LmdbWriter(target, source, checksum=checksum) as writer:
            done = len(writer.done)
            report(Advance(target, done, len(entries), 0))
            left = [position for position in range(len(entries)) if position not in writer.done]
            for chunk in decoders.each(_records, entries, left):
                for position, result in chunk:
                    if isinstance(result, Record):
                        writer.put(position, result, name=entries[position][0])
                    else:
                        damaged.append(f"{entries[position][0]}: {result.reason}")
                        damaged_checksum += result.checksum
                done += len(chunk)
                report(Advance(target, done, len(entries), len(damaged)))
            if not writer.done and len(damaged) == len(entries):
                raise InputError(f"not one of the {len(entries)} images for {target} can be read: {damaged[0]}")
            return writer.finish(damaged, damaged_checksum)
    except KeyboardInterrupt:
        raise StoppedError(
            f"stopped with {done} of {len(entries)} images in {target}: the same command resumes from there"
        ) from None


def _checksum(
    decoders: _Decoders,
    entries: Sequence[Entry],
    target: Path,
    report: Callable[[Advance], None],
    positions: frozenset[int] | None,
) -> int:
    """The sum over the files at ``positions`` as they are now."""
    places = range(len(entries)) if positions is None else sorted(positions)
    total = done = 0
    for chunk in decoders.each(_checksums, entries, places):
        total += sum(chunk)
        done += len(chunk)
        report(Advance(target, done, len(entries), 0))
    return total


@dataclass(frozen=True)
class _Damaged:
    reason: str
    checksum: int


_Place = tuple[int, str, int]
"""Position, path and label."""
_Result = TypeVar("_Result")


class _Decoders:
    """Processes that turn images into records; started with the first image."""

    def __init__(self, root: Path, options: ImageOptions, jobs: int) -> None:
        # A fork server, for the process that calls may have threads (a progress bar), and forking those may hang.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pool = ProcessPoolExecutor(jobs, context, _start_worker)
        self._root, self._options, self._jobs = root, options, jobs

    def __enter__(self) -> _Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def each(
        self,
        work: Callable[[Path, Sequence[_Place], ImageOptions], _Result],
        entries: Sequence[Entry],
        positions: Sequence[int],
    ) -> Iterator[_Result]:
        """What ``work`` makes of the images at ``positions``, in order, some at a time."""
        waiting: deque[Future[_Result]] = deque()
        try:
            for start in range(0, len(positions), _CHUNK):
                chunk = [(i, *entries[i]) for i in positions[start : start + _CHUNK]]
                with _undisturbed():
                    waiting.append(self._pool.submit(work, self._root, chunk, self._options))
                if len(waiting) > 4 * self._jobs:  # and no more: records would pile up where the disk is slower
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise CaffebenchError(
                "a process that decodes images was killed (out of memory?): the same command resumes from where it "
                "was, with fewer --jobs if need be"
            ) from None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """SIGINT and SIGTERM wait for the end of this: a process that is half started would be left behind.

    What is started here inherits that SIGINT is blocked: Ctrl-C goes to the whole group, and reaches a fork server
    and workers that still import.
    """
    if threading.current_thread() is not threading.main_thread():  # which has all signals
        yield
        return
    came: list[int] = []
    # Blocking alone is not enough: the thread of a progress bar would take the signal, and pass it on to this one.
    handlers = {
        one: signal.signal(one, lambda number, _: came.append(number)) for one in (signal.SIGINT, signal.SIGTERM)
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for one, handler in handlers.items():
            signal.signal(one, handler)
    for number in came[:1]:
        signal.raise_signal(number)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends us in order
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    """End with the parent, even where that was killed."""
    connection.wait([sentinel])
    os._exit(1)


def _records(root: Path, places: Sequence[_Place], options: ImageOptions) -> list[tuple[int, Record | _Damaged]]:
    results: list[tuple[int, Record | _Damaged]] = []
    for position, path, label in places:
        checksum = 0
        try:
            content = read_image(root / path)
            checksum = _checksum_of(content, position)
            results.append((position, replace(image_record(content, label, options), checksum=checksum)))
        except MemoryError:
            raise
        except Exception as error:  # damaged bytes can make Pillow raise anything
            # Pillow's message continues with the name of its buffer; ours has the name of the file already.
            reason = str(error).partition(" <_io")[0] or type(error).__name__
            results.append((position, _Damaged(reason, checksum)))
    return results


def _checksums(root: Path, places: Sequence[_Place], _: ImageOptions) -> list[int]:
    found = []
    for position, path, _label in places:
        try:
            found.append(_checksum_of(read_image(root / path), position))
        except (OSError, InputError):
            found.append(0)
    return found


def _checksum_of(content: bytes, position: int) -> int:
    return zlib.crc32(content, position)  # the position, so that two files cannot change places
