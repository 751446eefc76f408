"""Log files to runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from caffebench.analysis.read.block import Mark
from caffebench.analysis.read.columns import Metrics
from caffebench.analysis.read.files import Source, find_runs
from caffebench.analysis.read.parser import Scan, scan_file
from caffebench.analysis.runs.config import TRAIN_SIZES, Config
from caffebench.analysis.runs.convergence import verdict
from caffebench.analysis.runs.model import Run
from caffebench.analysis.stitch.session_rows import to_session
from caffebench.analysis.stitch.sessions import in_order, pieces_of
from caffebench.analysis.stitch.survivors import stitch
from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.printable import printable

__all__ = ["make_run", "read_run", "read_runs"]


def read_run(source: Source, train_size: int | None = None, threads: int | None = None) -> Run | None:
    """Read one run; None where not one of its files is a Caffe log."""
    metrics = Metrics()
    return make_run(source, [scan_file(path, metrics, threads) for path in source.files], metrics, train_size)


def make_run(source: Source, scans: Sequence[Scan], metrics: Metrics, train_size: int | None = None) -> Run | None:
    """Stitch a run from the scans of its files; None where not one of them is a Caffe log."""
    if not any(one.caffe for one in scans):
        return None
    scans = [replace(one, marks=_believed(one)) for one in scans]
    found = [
        piece
        for part, (path, one) in enumerate(zip(source.files, scans, strict=True))
        for piece in pieces_of(one, printable(path.name), part)
    ]
    header: dict[str, Any] = {}
    for mark in (mark for one in scans for mark in one.marks):
        if mark.kind == "event" and mark.text == "run" and isinstance(mark.content.get("header"), dict):
            header = mark.content["header"]
    ordered = in_order([one for one in found if one.fresh or len(one.rows) or one.mark("fatal", "broken", "head")])
    sessions = [to_session(piece, number) for number, piece in enumerate(ordered, 1)]
    told = [one.config for one in sessions if one.trained and one.config.solver]
    told = told or [one.config for one in sessions if one.config.solver] or [Config()]
    config = told[-1]
    for one in sessions:
        if not one.config.solver:
            one.config = config
    classes = header.get("classes") or config.classes
    classes = classes if isinstance(classes, int) and classes > 1 else None
    said = header.get("train_size")
    size = train_size or (said if isinstance(said, int) and said > 0 else None) or TRAIN_SIZES.get(classes or 0)
    stitched, seconds = stitch(source.name, metrics.known, ordered, sessions, header, size)
    status, reason = verdict(sessions, stitched, config, classes)
    return Run(
        name=source.name,
        sources=[printable(str(path)) for path in source.files],
        sessions=sessions,
        config=config,
        header=header,
        status=status,
        reason=reason,
        stitched=stitched,
        train_size=size,
        seconds=seconds,
        bad_lines=sum(one.bad for one in scans) + sum(one.garbled for one in found),
    )


def _believed(scan: Scan) -> list[Mark]:
    """Its marks but for event lines that no process of the log can have written.

    The name of a layer may hold a line break, and behind it what looks like a line of ours. What cannot be known when a
    net is written is the number of the process: it must be one that trains, or that of the log's first line.
    """
    speakers = {one.pid for one in scan.marks if one.kind in ("solver", "net", "start", "resume")}
    speakers |= set(np.unique(scan.ends.pid).tolist()) | {one.pid for one in scan.marks[:1]}
    return [one for one in scan.marks if one.kind != "event" or one.pid in speakers]


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts names as people do: ``bs32`` before ``bs128``."""
    return [
        (int(part), "") if part.isdecimal() else (1 << 63, part.lower())
        for part in re.split(r"(\d{1,18})", name)
        if part
    ]


def read_runs(
    paths: Iterable[Path | str],
    train_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
    unreadable: Callable[[str], None] | None = None,
) -> list[Run]:
    """Read every run in ``paths`` (files, folders), in the natural order of names.

    ``progress`` is called with the runs read and their number. ``workers`` processes share many runs; one large log is
    read by several threads in any case. A file that cannot be read is left out, and ``unreadable`` is told why. Raises
    ``InputError`` where there is no Caffe log, ``CaffebenchError`` where one of the processes is killed.
    """
    given = [Path(path) for path in paths]
    sources = sorted(find_runs(given), key=lambda one: natural(one.name))
    runs: list[Run] = []
    refused = ""
    for done, run in enumerate(_each(sources, train_size, workers), 1):
        if isinstance(run, Run):
            runs.append(run)
        elif run is not None:
            refused = run
            if unreadable is not None:
                unreadable(run)
        if progress is not None:
            progress(done, len(sources))
    if not runs:
        if refused:
            raise InputError(refused)
        where = ", ".join(map(str, given))
        raise InputError(f"no Caffe log in {where}: give the files that Caffe's messages (stderr) were written to")
    return runs


_MANY = 16  # runs from which on processes are worth their start


def _each(sources: Sequence[Source], train_size: int | None, workers: int) -> Iterator[Run | str | None]:
    if workers == 1 or len(sources) < _MANY:
        yield from (_alone(source, train_size, None) for source in sources)
        return
    # Not forked: the caller may have threads (those of polars are never idle for sure).
    few = max(1, min(8, len(sources) // (8 * workers)))  # no process is left with many when others are done
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(partial(_alone, train_size=train_size, threads=1), sources, chunksize=few)
        except BrokenProcessPool as error:
            why = "a process that read logs was killed, perhaps for want of memory: merge fewer logs at a time"
            raise CaffebenchError(why) from error


def _alone(source: Source, train_size: int | None, threads: int | None) -> Run | str | None:
    """A run, None where there is no Caffe log, or why a file of it could not be read."""
    try:
        return read_run(source, train_size, threads)
    except OSError as error:
        return f"{error.filename or source.name} cannot be read: {error.strerror or error}"
