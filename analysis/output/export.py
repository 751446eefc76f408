"""The curves and the summary for other tools: CSV, Parquet, JSON, and TensorBoard's event files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from caffebench.analysis.runs.model import Run
from caffebench.common.errors import InputError
from caffebench.common.extras import needs_extra
from caffebench.common.files import write_whole

__all__ = ["FORMATS", "export", "export_csv", "export_json", "export_parquet", "export_tensorboard"]

EVENTS = "events.out.tfevents.caffebench"
"""TensorBoard reads every file with ``tfevents`` in its name; a name that stays is written anew, not beside."""


def export(runs: Sequence[Run], folder: Path, formats: Iterable[str]) -> list[Path]:
    """Write ``runs`` into ``folder`` in each of ``formats`` (names of ``FORMATS``), each once.

    Returns the paths that are written, of TensorBoard's files their folder. Raises ``InputError`` for an unknown
    format, and where Polars or TensorBoard is needed and not installed; ``OSError`` where a file cannot be written.
    """
    chosen = list(dict.fromkeys(formats))
    for name in chosen:
        if name not in FORMATS:
            raise InputError(f"no export is called {name!r}: choose from {', '.join(FORMATS)}")
    return [path for name in chosen for path in FORMATS[name](runs, folder)]


def export_csv(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write ``curves.csv`` and ``summary.csv`` (``csv_files``) into ``folder``; returns both paths.

    Raises ``OSError`` where one cannot be written.
    """
    from caffebench.analysis.output.csv_files import write_curves, write_summary

    paths = [folder / "curves.csv", folder / "summary.csv"]
    write_curves(runs, paths[0])
    write_summary(runs, paths[1])
    return paths


def export_parquet(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write ``curves.parquet`` and ``summary.parquet`` into ``folder``: the same tables, a tenth of the size.

    Columns and their types are those of ``RunCurves.frame`` and of ``csv_files.summary``, null where something is not
    known. Returns both paths. Raises ``InputError`` where Polars is missing, ``OSError`` where one cannot be written.
    """
    with needs_extra("frames", "Parquet is written with Polars"):
        import polars as pl

    from caffebench.analysis.output.csv_files import renamed_to, summary, write_curves
    from caffebench.analysis.stitch.curves import empty_frame

    paths = [folder / "curves.parquet", folder / "summary.parquet"]
    # By way of a file, and so stretch by stretch: the table may not fit into the memory.
    with renamed_to(paths[0]) as made, TemporaryDirectory(dir=folder, prefix=".parquet-") as temporary:
        text = Path(temporary, "curves.csv")
        write_curves(runs, text, guarded=False)
        pl.scan_csv(text, schema=empty_frame().schema).sink_parquet(made)
    buffer = io.BytesIO()
    summary(runs).write_parquet(buffer)
    write_whole(paths[1], buffer.getvalue())
    return paths


def export_json(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write ``curves.json`` and ``summary.json`` into ``folder``: the same tables as arrays of objects, by column.

    JSON has no NaN and no infinity: they are null there, as missing values are. Returns both paths. Raises
    ``InputError`` where Polars is missing, ``OSError`` where one cannot be written.
    """
    from caffebench.analysis.output.csv_files import renamed_to, summary

    paths = [folder / "curves.json", folder / "summary.json"]
    with renamed_to(paths[0]) as made, made.open("w") as file:
        before = "["
        for frame in (frame for run in runs for frame in run.stitched.frames()):
            file.write(before + frame.write_json()[1:-1])
            before = ","
        file.write("[]" if before == "[" else "]")
    write_whole(paths[1], summary(runs).write_json().encode())
    return paths


def export_tensorboard(runs: Sequence[Run], folder: Path) -> list[Path]:
    """``tensorboard/<run>/``: an event file a run, written by TensorBoard's own writer.

    Steps are the stitched iterations; tags are ``test/accuracy``, ``train/loss``, ``test1/...`` for further test nets,
    and ``train/lr``. The wall time is the run's beginning plus its training seconds: so "relative" in TensorBoard
    is training time, without nights. Returns the one folder. Raises ``InputError`` where TensorBoard is not installed.
    """
    out = folder / "tensorboard"
    for run in runs:
        # A run's name is made of names of files: but no name shall lead out of the folder.
        parts = [part for part in PurePosixPath(run.name).parts if part not in ("/", "..")]
        write_whole(out.joinpath(*parts) / EVENTS, _events(run))
    return [out]


def _events(run: Run) -> bytes:
    with needs_extra("tensorboard", "TensorBoard's files need it"):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    start = _beginning(run)
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=start, file_version="brain.Event:2").SerializeToString())
    for step, seconds, values in _steps(run):
        one = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        writer.write(Event(wall_time=start + seconds, step=step, summary=one).SerializeToString())
    writer.flush()
    return buffer.getvalue()


def _steps(run: Run) -> Iterable[tuple[int, float, dict[str, float]]]:
    """Iteration, training seconds, and the values of all tags then, in order."""
    frame = run.stitched.frame().sort("iteration", maintain_order=True)
    last, time, values = -1, 0.0, dict[str, float]()
    for phase, net, iteration, seconds, rate, metric, value in frame.select(
        "phase", "net", "iteration", "seconds", "lr", "metric", "value"
    ).iter_rows():
        now = time if seconds is None else max(time, seconds)
        if values and (iteration, now) != (last, time):  # a test has another time than the train loss there
            yield last, time, values
            values = {}
        last, time = iteration, now
        values[f"{phase}{net or ''}/{metric}"] = value
        if phase == "train" and metric == "loss" and rate is not None:
            values["train/lr"] = rate
    if values:
        yield last, time, values


def _beginning(run: Run) -> float:
    """When the run began, in seconds since 1970; 0 where its log does not tell the year."""
    began: datetime | None = next((one.began for one in run.sessions if one.began is not None), None)
    return began.timestamp() if began is not None and began.year > 1970 else 0.0


FORMATS: dict[str, Callable[[Sequence[Run], Path], list[Path]]] = {
    "csv": export_csv,
    "parquet": export_parquet,
    "json": export_json,
    "tensorboard": export_tensorboard,
}
"""Name of a format -> what writes it."""
