"""``run-caffe --dry-run``: what would run, and what it would take on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from caffebench.common.errors import CaffebenchError
from caffebench.common.messages import Announce
from caffebench.launcher.estimate.measured import Measured, measure
from caffebench.launcher.plan.plan import Batch, Plan
from caffebench.launcher.run.finished import finished_before
from caffebench.launcher.run.resources import child_environment, choose_layers, share_out
from caffebench.launcher.show.row import duration
from caffebench.launcher.solver.solverfile import parse_solver
from caffebench.launcher.state.datastate import training_images
from caffebench.launcher.state.record import read_record
from caffebench.launcher.state.snapshots import newest_whole

__all__ = ["Estimate", "dry_run"]


@dataclass(frozen=True)
class Estimate:
    """What there is to be done of a run, and what that takes."""

    run: str
    begin: int
    """The iteration that it would resume from."""
    end: int
    note: str = ""
    """Why there is nothing to be done, or why that cannot be told."""
    epochs: float | None = None
    images: int = 0
    """That are trained on, from ``begin`` to ``end``."""
    train_seconds: float = 0.0
    test_seconds: float = 0.0
    memory_bytes: int = 0
    snapshots: int = 0
    snapshot_bytes: int = 0
    """Of one."""
    synthetic: bool = False
    on_gpu: bool = False

    @property
    def seconds(self) -> float:
        """From ``begin`` to ``end``, tests included."""
        return self.train_seconds + self.test_seconds

    def cells(self) -> list[str]:
        """The row of a table; short, with the note at its end, where there is one."""
        where = [self.run, f"{self.begin} to {self.end}"]
        if self.note:
            return [*where, self.note]
        speed = f"{self.images / self.train_seconds:,.0f}" if self.train_seconds else ""
        return [
            *where,
            "" if self.epochs is None else f"{self.epochs:.3g}",
            speed + ("*" if self.synthetic else ""),
            duration(self.seconds),
            _size(self.memory_bytes),
            f"{self.snapshots} x {_size(self.snapshot_bytes)}" if self.snapshots else "none",
        ]


COLUMNS = ("run", "iterations", "epochs", "images/s", "time", "memory", "snapshots")


def dry_run(batch: Batch, announce: Announce) -> tuple[str, int]:
    """Measure all plans: a table as text, and the exit code; ``announce`` gets how far it is. Writes nothing."""
    share = share_out(batch.jobs, batch.gpus, len(os.sched_getaffinity(0)))[0]
    known: dict[tuple[str, ...], list[Measured]] = {}
    estimates, code = [], 0
    for number, plan in enumerate(batch.plans, 1):
        plan = replace(plan, gpus=share.gpus, threads=plan.threads or share.threads)
        try:
            estimates.append(_estimate(plan, known, announce, f"{number} of {len(batch.plans)}"))
        except CaffebenchError as error:
            estimates.append(Estimate(plan.run, 0, plan.max_iter, str(error)))
            code = max(code, error.exit_code)
    return _table(estimates, batch.jobs), code


def _estimate(plan: Plan, known: dict[tuple[str, ...], list[Measured]], announce: Announce, place: str) -> Estimate:
    """What is left to be done of a run; runs that differ in their seed alone are measured once."""
    begin = 0
    if not plan.fresh:
        if finished := finished_before(plan):
            return Estimate(plan.run, finished.iteration, plan.max_iter, f"{finished.status}, {finished.reason}")
        begin = newest_whole(plan.paths, announce) or 0
    record = read_record(plan.paths.snapshot(begin).record) if begin else None
    plan = replace(plan, layers=choose_layers(plan, record))
    key = (plan.solver, str(plan.header), str(plan.layers))
    if key not in known:
        announce(f"{plan.run}: measuring, {place}")
        known[key] = measure(plan, child_environment(plan))
    return _reckon(plan, begin, known[key])


def _reckon(plan: Plan, begin: int, phases: Sequence[Measured]) -> Estimate:
    """Add up the phases from iteration ``begin`` on."""
    solver = parse_solver(plan.solver, plan.prototxt)
    at, images, train, tests = begin, 0, 0.0, 0.0
    every = solver.test_interval
    for phase in phases:
        count = max(phase.until - at, 0)
        images += count * phase.images
        train += count * phase.seconds
        if every and solver.test_iter:
            first = -(-at // every) if at or solver.test_initialization else 1
            tests += max(-(-phase.until // every) - first, 0) * phase.test_seconds
        at = max(at, phase.until)
    if solver.test_iter:
        tests += phases[-1].test_seconds  # that of the final weights
    records = training_images(solver) or int(plan.header.get("train_size") or 0)
    return Estimate(
        plan.run,
        begin,
        plan.max_iter,
        epochs=images / records if records else None,
        images=images,
        train_seconds=train,
        test_seconds=tests,
        memory_bytes=max(phase.memory_bytes for phase in phases),
        snapshots=_snapshots(plan, solver, begin),
        snapshot_bytes=phases[-1].snapshot_bytes,
        synthetic=any(phase.synthetic for phase in phases),
        on_gpu=bool(plan.gpus),
    )


def _snapshots(plan: Plan, solver: Any, begin: int) -> int:
    """Snapshots that will be written and kept."""
    every = solver.snapshot
    count = plan.max_iter // every - begin // every if every else 0
    last = solver.snapshot_after_train and not (every and plan.max_iter % every == 0)
    count += bool(last)
    return count if plan.keep_snapshots is None else min(count, plan.keep_snapshots)


def _table(estimates: Sequence[Estimate], jobs: int) -> str:
    """The rows, with a total, as text in columns."""
    rows = [list(COLUMNS), *(one.cells() for one in estimates)]
    whole = [row for row in rows if len(row) == len(COLUMNS)]
    widths = [max(len(row[place]) for row in (rows if place < 2 else whole)) for place in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    total = duration(sum(one.seconds for one in estimates))
    disk = _size(sum(one.snapshots * one.snapshot_bytes for one in estimates))
    shared = f" (--jobs {jobs}: measured with the cores that each would have)" if jobs > 1 else ""
    lines.append(f"in all {total} one after another{shared}, {disk} of snapshots")
    if any(one.synthetic for one in estimates):
        lines.append("* without loading the data, which are not here")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines += [
        f"{one.run} needs {_size(one.memory_bytes)}, and this machine has {_size(memory)}: it was measured on a part "
        "of its batch; halve batch_size and double iter_size"
        for one in estimates
        if one.memory_bytes > memory and not one.on_gpu
    ]
    return "\n".join(lines)


def _size(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
