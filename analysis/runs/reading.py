"""Log files to runs."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from caffebench.analysis.read.columns import MetricRegistry, ParsedLog
from caffebench.analysis.read.files import RunFiles, find_runs
from caffebench.analysis.read.parser import parse_file
from caffebench.analysis.runs.config import TRAIN_SIZES, Config
from caffebench.analysis.runs.convergence import verdict
from caffebench.analysis.runs.model import Run, Session
from caffebench.analysis.runs.sessions import config_of, describe, with_later_scores
from caffebench.analysis.runs.trainings import Training, split_trainings, without_echoes
from caffebench.analysis.stitch.clock import Phases, read_phases
from caffebench.analysis.stitch.curves import RunCurves
from caffebench.analysis.stitch.session_rows import SessionRows
from caffebench.analysis.stitch.sessions import order_sessions, split_sessions
from caffebench.analysis.stitch.survivors import join_sessions
from caffebench.analysis.stitch.voices import OF_ONE, voices
from caffebench.common.caffe_facts import IMAGENET_NAME
from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.printable import printable

__all__ = ["make_runs", "read_runs", "read_source"]


def read_source(
    source: RunFiles,
    train_size: int | None = None,
    threads: int | None = None,
    metrics: MetricRegistry | None = None,
) -> list[Run]:
    """Read the runs that the files of ``source`` hold; none where not one of them is a Caffe log.

    ``train_size`` is the number of images of an epoch, if missing from the logs; ``threads`` read a large file,
    as many as there are processors without it. ``metrics`` knows what logs read before are like. Raises ``OSError``
    where a file cannot be read.
    """
    metrics = metrics or MetricRegistry()
    return make_runs(source, [parse_file(path, metrics, threads) for path in source.files], metrics, train_size)


def make_runs(
    source: RunFiles, logs: Sequence[ParsedLog], metrics: MetricRegistry, train_size: int | None = None
) -> list[Run]:
    """Stitch the runs of files that are parsed; none where not one of these is a Caffe log.

    ``logs`` are what the files of ``source`` hold, in their order, and ``metrics`` what gave the ids in them;
    ``train_size`` is as of ``read_source``. That is one run, unless several trainings are in them: one after the
    other, or at once.
    """
    if not any(one.is_caffe for one in logs):
        return []
    logs = [_believed(one) for one in logs]
    bad = sum(one.bad_lines for one in logs)
    spoken = [voices(one, metrics) for one in logs]
    notes = tuple(
        f"{printable(str(path))}: {note}"
        for path, several in zip(source.files, spoken, strict=True)
        for note in several[0].notes
    )
    sessions = [
        session
        for part, (path, several) in enumerate(zip(source.files, spoken, strict=True))
        for voice in several
        for session in split_sessions(voice, printable(path.name), part)
    ]
    bad += sum(one.garbled for one in sessions)
    known = [one for one in sessions if one.fresh or len(one.rows) or one.event("fatal", "broken", "head")]
    ordered = order_sessions(known, numbered=not source.together)
    at_once = any(len(several) > 1 for several in spoken)
    if at_once and len(single := without_echoes(ordered)) < len(ordered):
        notes = (*notes, f"{source.name}: several processes say the same training: only the first is read; {OF_ONE}")
        ordered = single
    runs: list[Run] = []
    for training in [Training("", tuple(ordered))] if source.together else split_trainings(ordered, at_once=at_once):
        runs.append(_make_run(source, training, metrics, train_size, bad))
        bad = 0  # they are the file's, not of each of its runs
    names = [run.name for run in runs]
    seen: dict[str, int] = {}
    for at, name in enumerate(names if len(set(names)) < len(names) else ()):
        seen[name] = seen.get(name, 0) + 1
        if names.count(name) > 1:
            name = f"{name}~{seen[name]}"
            runs[at] = replace(runs[at], name=name, stitched=replace(runs[at].stitched, name=name))
    return [replace(runs[0], notes=(*notes, *runs[0].notes)), *runs[1:]] if notes and runs else runs


def _believed(log: ParsedLog) -> ParsedLog:
    """``log`` without those of our events that no process of it can have written.

    The name of a layer may hold a line break, and behind it what looks like a line of ours. What cannot be known when a
    net is written is the number of the process: it must be one that trains, or that of the log's first line.
    """
    if all(one.kind != "event" for one in log.events):
        return log
    speakers = {one.pid for one in log.events if one.kind in ("solver", "net", "start", "resume")}
    speakers |= set(np.unique(log.rows.pid).tolist()) | {one.pid for one in log.events[:1]}
    believed = tuple(one for one in log.events if one.kind != "event" or one.pid in speakers or one.rank >= 0)
    return log._replace(events=believed)


class _Launch(NamedTuple):
    """What ``run-caffe`` says of a run, the last time that it started it; empty for logs that are not ours."""

    header: Mapping[str, Any] = {}
    identity: Mapping[str, Any] = {}
    phases: Phases = ()
    train_size: Any = None
    """Images of an epoch that it counted."""


def _launch(sessions: Sequence[SessionRows]) -> _Launch:
    launch = _Launch()
    for event in (event for one in sessions for event in one.events):
        if event.kind == "event" and event.text == "run" and isinstance(event.content.get("header"), dict):
            header, identity = event.content["header"], event.content.get("identity")
            if isinstance(identity, dict) and isinstance(identity.get("options"), dict):
                init = identity["options"].get("init", "none")
                header = header if header.get("init", "none") == init else {**header, "init": init}
            else:
                identity = launch.identity
            launch = _Launch(header, identity, read_phases(event.content), event.content.get("train_size"))
    return launch


def _make_run(
    source: RunFiles, training: Training, metrics: MetricRegistry, train_size: int | None, bad_lines: int
) -> Run:
    rows = [with_later_scores(one, metrics) for one in training.sessions]
    launch = _launch(rows)
    header = launch.header
    configs = [config_of(one) for one in rows]
    told = [(len(one.rows) > 0, number) for number, one in enumerate(rows) if configs[number].solver]
    config = configs[max(told)[1]] if told else Config()
    configs = [one if one.solver else config for one in configs]
    classes = header.get("classes") or config.classes
    classes = classes if isinstance(classes, int) and classes > 1 else None
    told_sizes = (train_size, launch.train_size, config.train_images, header.get("train_size"))
    sizes = [int(one) for one in told_sizes if isinstance(one, int) and 0 < one < 2**53]
    size = sizes[0] if sizes else TRAIN_SIZES.get(classes or 0)
    joined = join_sessions(rows, [one.batch_size for one in configs], launch.phases, size, metrics.known)
    sessions = tuple(
        describe(one, number, own, lost, seconds)
        for number, one, own, lost, seconds in zip(
            count(1), rows, configs, joined.lost_iterations, joined.session_seconds, strict=False
        )
    )
    name = f"{source.name}/{training.name}" if training.name and training.name != source.name else source.name
    if training.name.startswith(f"{source.name}~"):
        name = training.name
    curves = RunCurves(name, metrics.known, joined.parts)
    status, reason = verdict(sessions, curves, config, classes)
    if any(one.is_test for one in rows) and not any(one.event("solver") for one in rows):
        status, reason = "tested", "caffe test: a test of finished weights, no training"
    return Run(
        name=name,
        sources=tuple(printable(str(source.files[part])) for part in sorted({one.part for one in rows})),
        sessions=sessions,
        config=config,
        header=dict(header),
        identity=launch.identity,
        status=status,
        reason=reason,
        stitched=curves,
        train_size=size,
        seconds=joined.seconds,
        bad_lines=bad_lines,
        notes=tuple(f"{name}: {doubt}" for doubt in _doubts(config, size if not sizes else None, sessions)),
    )


def _doubts(config: Config, assumed: int | None, sessions: Sequence[Session]) -> Iterator[str]:
    """What is taken to be so and need not be; ``assumed`` are the images of an epoch if only the classes tell them."""
    trained = [one for one in sessions if one.trained]
    for before, anew in pairwise(trained):
        if before.lost_iterations and anew.began_anew and anew.config.solver_key != before.config.solver_key:
            lost = f"the {before.lost_iterations:,} iterations of the one before count as lost"
            apart = "; --run NAME=FILE for each makes runs of their own" if anew.source != before.source else ""
            yield f"session {anew.number} begins anew with another solver: {lost}{apart}"
    if config.iter_size_lost and config.batch_size:
        yield "the solver in the log is cut: if it had an iter_size, batch size and epochs are too small"
    if assumed and config.train_source and not IMAGENET_NAME.search(config.train_source):
        called = f"but the data are called {printable(config.train_source)}: --train-size says otherwise"
        yield f"an epoch is taken to be ImageNet's {assumed:,} images, as the net has its 1,000 classes, {called}"


def read_runs(
    paths: Path | str | Iterable[Path | str],
    train_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
    unreadable: Callable[[str], None] | None = None,
    named: Mapping[str, Sequence[Path]] | None = None,
    finish: Callable[[Run], Run] | None = None,
) -> list[Run]:
    """Read every run in ``paths`` (files, folders, or one of them), in the natural order of names.

    ``train_size`` is the number of images of an epoch, if missing from the logs. ``progress`` is called with the
    sources read and their number. ``workers`` processes share many; one large log is
    read by several threads in any case. ``named`` gives runs by name whose files the user knows. ``finish`` is
    called with each run in the process that read it, and what it returns is taken; pickle must know it by name. A file
    that cannot be read is left out, and ``unreadable`` is told why, as of one of ``paths`` that is no log of Caffe.
    Raises ``InputError`` without a Caffe log, ``CaffebenchError`` where one of the processes is killed.
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    sources = find_runs(given, named)
    runs: list[Run] = []
    refused = ""
    asked = {*given, *(one for some in (named or {}).values() for one in some)}
    for done, found in enumerate(_each(sources, train_size, workers, finish), 1):
        if isinstance(found, str):
            refused = found
            if unreadable is not None:
                unreadable(found)
        else:
            runs += found
            if not found and unreadable is not None:
                for path in asked.intersection(sources[done - 1].files):
                    unreadable(f"{path} has no training of Caffe in it, and no test")
        if progress is not None:
            progress(done, len(sources))
    if not runs:
        if refused:
            raise InputError(refused)
        where = ", ".join(map(str, given))
        raise InputError(f"no Caffe log in {where}: give the files that Caffe's messages (stderr) were written to")
    return runs


_MANY = 16  # runs from which on processes are worth their start


def _each(
    sources: Sequence[RunFiles], train_size: int | None, workers: int, finish: Callable[[Run], Run] | None = None
) -> Iterator[list[Run] | str]:
    """The runs of each of ``sources``, or why it could not be read."""
    if workers == 1 or len(sources) < _MANY:
        yield from _in_turn(sources, train_size, None, finish)
        return
    # A tenth of the time that one small log takes:
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
    from multiprocessing import get_context

    few = max(1, min(64, len(sources) // (8 * workers)))  # no process is left with many when others are done
    batches = [sources[begin : begin + few] for begin in range(0, len(sources), few)]
    # What they make has no cycles, and to look for some takes a tenth of their time.
    with ProcessPoolExecutor(workers, mp_context=get_context(_start_method()), initializer=gc.disable) as pool:
        try:
            for found in pool.map(partial(_batch, train_size=train_size, finish=finish), batches):
                yield from found
        except BrokenProcessPool as error:
            why = "a process that read logs was killed, perhaps for want of memory: merge fewer logs at a time"
            raise CaffebenchError(why) from error


def _start_method() -> str:
    """How processes are started: forked, which takes no time, where no other thread can hold what they need."""
    try:
        return "fork" if len(os.listdir("/proc/self/task")) == 1 else "spawn"
    except OSError:  # no Linux
        return "spawn"


def _batch(
    sources: Sequence[RunFiles], train_size: int | None, finish: Callable[[Run], Run] | None
) -> list[list[Run] | str]:
    """What one of several processes does."""
    return list(_in_turn(sources, train_size, 1, finish))


def _in_turn(
    sources: Sequence[RunFiles], train_size: int | None, threads: int | None, finish: Callable[[Run], Run] | None
) -> Iterator[list[Run] | str]:
    metrics = MetricRegistry()  # what the lines of one log look like, those of the next do, too
    for source in sources:
        if metrics.is_crowded:
            metrics = MetricRegistry()
        try:
            runs = read_source(source, train_size, threads, metrics)
            yield runs if finish is None else [finish(run) for run in runs]
        except OSError as error:
            yield f"{error.filename or source.name} cannot be read: {error.strerror or error}"
        except Exception as error:  # one hostile log does not end the others
            yield f"{source.files[0]} cannot be read, {type(error).__name__}: {error}"
