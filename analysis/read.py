"""Log files to runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from caffebench.analysis.config import TRAIN_SIZES
from caffebench.analysis.curves import stitch
from caffebench.analysis.model import Run
from caffebench.analysis.scan import Metric, scan
from caffebench.analysis.sources import Source, find_runs, pieces
from caffebench.analysis.stitch import Piece, in_order, pieces_of, to_session
from caffebench.analysis.verdict import verdict
from caffebench.common.errors import InputError

__all__ = ["read_run", "read_runs"]


def read_run(source: Source, train_size: int | None = None) -> Run | None:
    """Read one run; None where not one of its files is a Caffe log."""
    found: list[Piece] = []
    metrics: dict[int, list[Metric]] = {}
    header: dict[str, Any] = {}
    bad = caffe = 0
    for part, path in enumerate(source.files):
        scanned = scan(pieces(path))
        caffe += scanned.caffe + len(scanned.rows)
        bad += scanned.bad
        for piece in pieces_of(scanned, path.name, part):
            metrics[id(piece)] = scanned.metrics
            found.append(piece)
        for mark in scanned.marks:
            if mark.kind == "event" and mark.text == "run" and isinstance(mark.content.get("header"), dict):
                header = mark.content["header"]
    if not caffe:
        return None
    ordered = [one for one in in_order(found) if one.fresh or len(one.rows) or one.mark("fatal", "broken", "solver")]
    sessions = [to_session(piece, number) for number, piece in enumerate(ordered, 1)]
    trained = [one for one in sessions if one.first_iteration is not None]
    config = trained[-1].config if trained else sessions[0].config if sessions else None
    for one in reversed(trained):
        if one.config.solver:
            config = one.config
            break
    if config is None:
        return None
    for one in sessions:
        if not one.config.solver:
            one.config = config
    classes = header.get("classes") or config.classes
    classes = classes if isinstance(classes, int) and classes > 1 else None
    said = header.get("train_size")
    size = train_size or (said if isinstance(said, int) and said > 0 else None) or TRAIN_SIZES.get(classes or 0)
    names = [metrics[id(piece)] for piece in ordered]
    curves, seconds = stitch(source.name, ordered, sessions, names, header, size)
    status, reason = verdict(sessions, curves, config, classes)
    return Run(
        name=source.name,
        sources=[str(path) for path in source.files],
        sessions=sessions,
        config=config,
        header=header,
        status=status,
        reason=reason,
        curves=curves,
        train_size=size,
        seconds=seconds,
        bad_lines=bad,
    )


def read_runs(
    paths: Iterable[Path | str],
    train_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Run]:
    """Read every run in ``paths`` (files, folders), in order of names.

    ``progress`` is called with the runs read and their number. Raises ``InputError`` where there is no Caffe log.
    """
    given = [Path(path) for path in paths]
    sources = find_runs(given)
    runs = []
    for done, source in enumerate(sources):
        run = read_run(source, train_size)
        if run is not None:
            runs.append(run)
        if progress is not None:
            progress(done + 1, len(sources))
    if not runs:
        where = ", ".join(map(str, given))
        raise InputError(f"no Caffe log in {where}: give the files that Caffe's messages (stderr) were written to")
    return runs
