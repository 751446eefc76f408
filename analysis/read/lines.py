"""The lines that Caffe, its forks and our launcher write into a log, and what each says.

``FORMATS`` is the one table of formats. A line is matched from its message on; whatever stands before glog's prefix
(an MPI rank, binary noise) is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["FORMATS", "HINT", "PREFIX", "UNKNOWN_YEAR", "Format", "microseconds", "moment", "since_1970"]

VALUE = rb"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|NaN|inf|Inf)"

PREFIX = re.compile(
    rb"(?P<severity>[IWEF])(?P<year>\d{4})?(?P<month>\d\d)(?P<day>\d\d) "
    rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)\.(?P<micro>\d{6})\s+(?P<pid>\d+) [^\s\]]+:\d+\] ?"
)
"""``I0411 08:54:06.202049 10647 solver.cpp:237] `` (glog before 0.5), ``I20261121 ...`` (since)."""


@dataclass(frozen=True)
class Format:
    """One kind of line: what it is called in the parser, how it is recognised, and a real example."""

    kind: str
    words: tuple[bytes, ...]
    """One of them is in every such line: they are looked for first."""
    pattern: re.Pattern[bytes]
    example: str


def _format(kind: str, words: str, pattern: bytes, example: str) -> Format:
    return Format(kind, tuple(word.encode() for word in words.split("|")), re.compile(pattern), example)


_PACE = rb"(?: \([^()\n]*\))?"  # BVLC since 1.0 and NVCaffe: "(0.83 iter/s, 9.59s/8 iters)"

FORMATS = (
    _format(
        "loss",
        ", loss = ",
        rb"Iteration (\d+)" + _PACE + rb", loss = (" + VALUE + rb")\s*$",
        "Iteration 20, loss = 7.68",
    ),
    _format(
        "lr",
        ", lr = ",
        rb"Iteration (\d+)" + _PACE + rb", lr = (" + VALUE + rb")(?:, .*)?\s*$",
        "Iteration 20, lr = 0.01, m = 0.9, wd = 0.0005, gs = 1",
    ),
    _format(
        "testing", ", Testing net", rb"Iteration (\d+), Testing net \(#(\d+)\)\s*$", "Iteration 1000, Testing net (#0)"
    ),
    _format(
        "output",
        " net output #",
        rb"(Train|Test) net output #(\d+): (\S.{0,255}?) = ("
        + VALUE
        + rb")(?: \(\* ("
        + VALUE
        + rb") = .{0,99} loss\))?\s*$",
        "    Train net output #0: loss = 7.68 (* 1 = 7.68 loss)",
    ),
    # Caffe of early 2014:
    _format("score", "Test score #", rb"Test score #(\d+): (" + VALUE + rb")\s*$", "Test score #0: 0.41944"),
    # test_compute_loss: true
    _format("test_loss", "Test loss: ", rb"Test loss: (" + VALUE + rb")\s*$", "Test loss: 2.65"),
    _format(
        "solver",
        "Initializing solver",
        rb"Initializing solver from parameters:",
        "Initializing solver from parameters: ",
    ),
    _format("net", "Initializing net", rb"Initializing net from parameters:", "Initializing net from parameters: "),
    _format("gpus", "Using GPUs", rb"Using GPUs (\d+(?:, ?\d+)*)", "Using GPUs 0, 1"),
    _format(
        "resume",
        "Resuming from|Restoring previous solver",
        rb"(?:Resuming from|Restoring previous solver status from) (.*\S)",
        "Resuming from snapshots/bs512_iter_116210.solverstate",
    ),
    _format("finetune", "Finetuning from", rb"Finetuning from (.*\S)", "Finetuning from ./bs128.caffemodel"),
    _format(
        "start", "Starting Optimization|Solving ", rb"(?:Starting Optimization|Solving \S)", "Starting Optimization"
    ),
    _format(
        "snapshot",
        "Snapshotting ",
        rb"Snapshotting (?:solver state )?to (?:binary proto|HDF5) file (.*\S)",
        "Snapshotting to binary proto file snapshots/bs512_iter_5000.caffemodel",
    ),
    _format(
        "stopped",
        "Optimization stopped|Test interrupted",
        rb"(?:Optimization stopped early|Test interrupted)",
        "Optimization stopped early.",
    ),
    _format("done", "Optimization Done", rb"Optimization Done", "Optimization Done."),
    _format(
        "created",
        "Log file created at",
        rb"Log file created at: (\d{4})/(\d\d)/(\d\d)",
        "Log file created at: 2016/04/06 04:34:53",
    ),
    _format(
        "aborted",
        "*** Aborted at",
        rb"\*\*\* Aborted at (\d{1,12}) \(unix time\)",
        "*** Aborted at 1453634956 (unix time)",
    ),
    _format("signal", "*** SIG", rb"\*\*\* (SIG[A-Z0-9]+)\b", "*** SIGTERM (@0x3e800006dc4) received by PID 28865"),
    _format(
        "broken",
        "error while loading shared|Error parsing text-format|Segmentation fault|terminate called after|"
        "std::bad_alloc|out of memory",
        rb"(error while loading shared libraries: .*|Error parsing text-format .*|Segmentation fault.*|"
        rb"terminate called after .*|std::bad_alloc.*|out of memory.*)",
        "caffe: error while loading shared libraries: libcudart.so.7.0: cannot open shared object file",
    ),
    _format(
        "event",
        "caffebench: ",
        rb"caffebench: (\w+) (\{.*)$",
        'caffebench: end {"status": "done", "iteration": 200}',
    ),
)
"""Every kind of line that means something, with a real example each; the first that matches counts."""

HINT = re.compile(rb"Iteration \d|\bF\d{4,8} |" + b"|".join(re.escape(word) for form in FORMATS for word in form.words))
"""Every line of ``FORMATS``, every one that looks like one but is cut, and every fatal one, contains this."""

_EPOCH = datetime(1970, 1, 1)
UNKNOWN_YEAR = 1600
"""Stands for the year of a time that a log gives without one: a leap year, so that February 29 can be said."""


def microseconds(prefix: re.Match[bytes]) -> int | None:
    """The time of a glog prefix in microseconds since 1970 (local time), or None where it is no time at all."""
    try:
        at = datetime(
            int(prefix["year"] or UNKNOWN_YEAR),
            int(prefix["month"]),
            int(prefix["day"]),
            int(prefix["hour"]),
            int(prefix["minute"]),
            int(prefix["second"]),
            int(prefix["micro"]),
        )
    except ValueError:
        return None
    return since_1970(at)


def since_1970(at: datetime) -> int:
    """Microseconds from 1970 to a local time."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def moment(time: int) -> datetime:
    """The reverse of ``microseconds``."""
    return _EPOCH + timedelta(microseconds=time)
