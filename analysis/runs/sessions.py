"""What a session says of itself: configuration, how it ended and why."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from caffebench.analysis.read.columns import NO_TIME, TEST, LogEvent, Metric, MetricRegistry, ParsedRows
from caffebench.analysis.read.lines import to_datetime
from caffebench.analysis.runs.config import NO_NET, BuiltNet, Config, read_config
from caffebench.analysis.runs.model import Session
from caffebench.analysis.stitch.session_rows import SessionRows, snapshots

__all__ = ["config_of", "describe", "with_later_scores"]

_PHASE = re.compile(r"\s*state \{\s*phase: (\w+)")
_STOP_SIGNALS = {"SIGTERM", "SIGINT", "SIGHUP"}


def _ending(session: SessionRows) -> tuple[str, str]:
    """How a session ended, and the log's own words for it."""
    ended, reason = "cut", ""
    last_row = int(session.rows.byte_offset[-1]) if len(session.rows) else -1  # what is trained after it was caught
    for event in session.events:
        if event.kind == "event" and event.text == "end":
            status = str(event.content.get("status"))
            if status in {"done", "stopped", "crashed", "not_converged"}:
                return status, str(event.content.get("reason") or "")
        elif event.kind in ("fatal", "broken") and ended not in ("crashed", "done"):  # while it ends, all is written
            ended, reason = "crashed", event.text
        elif event.kind == "signal" and ended == "cut":
            ended = "stopped" if event.text in _STOP_SIGNALS else "crashed"
            reason = f"{event.text} received"
        elif event.kind in ("killed", "cancelled") and ended in ("cut", "stopped"):
            # Somebody else says why, as the last: a batch system tells more than the signal that it sent.
            ended = "crashed" if event.kind == "killed" else "stopped"
            reason = " ".join(event.text.split())
        elif event.kind == "raised" and ended == "cut" and event.byte_offset > last_row:
            ended, reason = "crashed", " ".join(event.text.split())
        elif event.kind == "stopped" and ended == "cut":
            ended, reason = "stopped", "stopped on request"
        elif event.kind == "done" and ended == "cut":
            ended, reason = "done", event.text
    return ended, reason


def config_of(session: SessionRows) -> Config:
    """What it was configured to do, as far as it says it."""
    solver = session.event("solver") or session.event("head")
    gpus = session.event("gpus")
    count = len(gpus.text.split(",")) if gpus is not None else 1
    settings = str(session.told("run").get("solver") or "")
    return read_config(solver.text if solver else "", *_built_nets(session), count, settings)


def _built_nets(session: SessionRows) -> tuple[BuiltNet, tuple[BuiltNet, ...]]:
    """The training net that was built, empty where the log has none, and the test nets."""
    train, tests = list[BuiltNet](), list[BuiltNet]()
    for event in (one for one in session.events if one.kind == "net"):
        phase = _PHASE.match(event.text)
        # Before mid 2014 a net did not say its phase: the first was that for training.
        is_test = phase[1] == "TEST" if phase is not None else bool(train)
        (tests if is_test else train).append(BuiltNet(event.text, event.content["wiring"]))
    return (train or [NO_NET])[0], tuple(tests)


def with_later_scores(session: SessionRows, metrics: MetricRegistry) -> SessionRows:
    """``session`` with the scores that another program printed after it, as rows at its last iteration.

    ``metrics`` gives ids to their names. A ``caffe test`` is left without the learning rate of the log's trainings.
    """
    if session.is_test:
        return replace(session, rows=replace(session.rows, lr=np.full(len(session.rows), np.nan)))
    scores: list[tuple[LogEvent, int]] = []
    for event in session.events:
        number = metrics.id_for(Metric(event.text)) if event.kind == "ap" else None
        if number is not None:
            scores.append((event, number))
    if not scores:
        return session
    last = max([*snapshots(session), int(session.rows.iteration.max(initial=0))])
    time = int(session.rows.time.max(initial=NO_TIME))
    count = len(scores)
    rows = ParsedRows(
        iteration=np.full(count, last, "i8"),
        value=np.array([event.content["value"] for event, _ in scores], "f8"),
        lr=np.full(count, np.nan),
        metric=np.array([number for _, number in scores], "i4"),
        net=np.zeros(count, "i2"),
        kind=np.full(count, TEST, "u1"),
        byte_offset=np.array([event.byte_offset for event, _ in scores], "i8"),
        time=np.full(count, time, "i8"),
        pid=np.full(count, session.pid, "i4"),
    )
    return replace(session, rows=ParsedRows.joined([session.rows, rows]))


def describe(session: SessionRows, number: int, config: Config, lost_iterations: int, seconds: float) -> Session:
    """What the rows and events of a session say of it; ``number`` is its place in true order, from 1.

    ``config`` is its own or that of its run; ``lost_iterations`` and ``seconds`` (of training) come from stitching.
    """
    ended, reason = _ending(session)
    seen, facts = session.rows.iteration, session.rows.facts
    ends = session.ends()
    weights = session.event("finetune")
    resumed, resume = session.told("resume"), session.event("resume")
    return Session(
        number=number,
        source=session.source,
        pid=session.pid,
        began=to_datetime(ends[0]) if ends else None,
        finished=to_datetime(ends[1]) if ends else None,
        resumed_from=session.resumed_from,
        resumed_file=resume.text if resume is not None else None,
        weights=weights.text if weights else None,
        first_iteration=int(seen[0]) if len(seen) else None,
        last_iteration=(facts.last_loss if facts.losses else facts.last) if len(seen) else None,
        headless=not session.fresh and session.resumed_from is None and len(seen) > 0 and facts.first > 0,
        ended=ended,
        reason=reason,
        lost_iterations=lost_iterations,
        seconds=seconds,
        config=config,
        restored=_words(resumed.get("restored")),
        not_restored=_words(resumed.get("not_restored")),
    )


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
