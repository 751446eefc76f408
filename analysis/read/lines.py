"""The lines that Caffe, its forks and our launcher write into a log, and what each says.

``FORMATS`` is the one table of formats. A line is matched from its message on; whatever stands before glog's prefix
(an MPI rank, binary noise) is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from caffebench.common.glog import EVENT_MARK

__all__ = [
    "FORMATS",
    "LABEL",
    "PREFIX",
    "UNKNOWN_YEAR",
    "VALUE",
    "WORDS",
    "LineFormat",
    "find_format",
    "microseconds",
    "midnight",
    "since_1970",
    "to_datetime",
    "to_number",
]

VALUE = (
    rb"[-+]?(?:\d+(?:\.\d*|,\d+)?(?:[eE][-+]?\d+)?(?![\d#])|\d\.#[A-Z]+\d*|"
    rb"(?i:nan(?:\([a-z0-9]*\))?|inf(?:inity)?)\b)"
)
"""A number as some platform prints it: ``1e-007``, ``0,125``, ``-nan(ind)``, ``1.#QNAN``."""

PREFIX = re.compile(
    rb"(?:(?P<severity>[IWEF])(?P<year>\d{4})?(?P<month>\d\d)(?P<day>\d\d) "
    rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)\.(?P<micro>\d{6})\s+(?P<pid>\d+) [^\s\]]+:\d+\] ?"
    rb"|(?P<unix>\d{9,11}) +(?P<level>INFO|WARNING|ERROR|FATAL): \S+ : line \d+ : )"
)
"""``I0411 08:54:06.202049 10647 solver.cpp:237] `` (glog before 0.5), ``I20261121 ...`` (since), Android's miniglog:
``1508138262  INFO: src/caffe/solver.cpp : line 218 : ``."""

LABEL = re.compile(
    rb"\[(\d{1,4})\]|(\d{1,4}):|\[\d{1,4},(\d{1,4})\]<std(?:err|out)>:|(?:rank|worker)[ =:_#]*(\d{1,4})\W*", re.I
)
"""What stands before, or after, the prefix of a line that one of several ranks wrote, where it tells the rank."""


@dataclass(frozen=True)
class LineFormat:
    """One kind of line: what it is called in the parser, how it is recognised, and a real example."""

    kind: str
    words: tuple[bytes, ...]
    """One of them is in every such line: they are looked for first."""
    source: bytes
    """Of its pattern."""
    example: str
    shell: bool = False
    """Only a line without Caffe's prefix is of this kind: others than Caffe say it."""

    @cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """Compiled when it is first asked for: most logs have lines of a few kinds."""
        return re.compile(self.source)


def _format(kind: str, words: str, pattern: bytes, example: str, shell: bool = False) -> LineFormat:
    return LineFormat(kind, tuple(word.encode() for word in words.split("|")), pattern, example, shell)


_MORE = rb"(?:[ ,;\[(|](?:(?!Iteration )[^\n]){0,200}?)?"  # what forks put between two parts: pace, epochs, memory
_REST = rb"(?P<rest>[\s,;|(\[{].*)?$"  # and behind the last
_WEIGHTED = rb"(?: \(\*? (?P<weight>" + VALUE + rb") = .{0,99} loss\))?"

FORMATS = (
    _format(
        "loss",
        "loss",
        rb"Iteration (?P<iteration>\d+)" + _MORE + rb", loss = (?P<value>" + VALUE + rb")" + _REST,
        "Iteration 1000 (21.1 iter/s, 4.72s/100 iter), 1.1/10.7ep, loss = 7.68",
    ),
    _format(
        "lr",
        ", lr = ",
        rb"Iteration (?P<iteration>\d+)" + _MORE + rb", lr = (?P<value>" + VALUE + rb")" + _REST,
        "Iteration 20, lr = 0.01, m = 0.9, wd = 0.0005, gs = 1",
    ),
    # Without the number of the net in spring 2014.
    _format(
        "testing",
        ", Testing net",
        rb"Iteration (?P<iteration>\d+)" + _MORE + rb", Testing net(?: \(#(?P<net>\d+)\))?" + _REST,
        "Iteration 1000, Testing net (#0)",
    ),
    # Caffe of 2013: at the iteration that was shown last.
    _format("testing", "Testing net", rb"(?:^|\] )Testing net\s*$", "Testing net"),
    _format(
        "output",
        " net output #",
        rb"(?P<phase>Train|Test) net output #(?:(?P<index>\d+)|\d+ evaluation): (?P<name>\S.{0,255}?) = (?P<value>"
        + VALUE
        + rb")"
        + _WEIGHTED
        + _REST,
        "    Train net output #0: loss = 7.68 (* 1 = 7.68 loss)",
    ),
    # Caffe of early 2014:
    _format(
        "score",
        "Test score #",
        rb"Test score #(?P<index>\d+): (?P<value>" + VALUE + rb")" + _REST,
        "Test score #0: 0.41944",
    ),
    # test_compute_loss: true
    _format("test_loss", "Test loss: ", rb"Test loss: (?P<value>" + VALUE + rb")" + _REST, "Test loss: 2.65"),
    # SSD with show_per_class_result
    _format("class_ap", "class", rb"^\s*(?P<name>class\d+): (?P<value>" + VALUE + rb")" + _REST, "class1: 0.61"),
    # caffe test: only the averages at its end count
    _format("caffe_test", "Running for ", rb"^Running for (\d+) iterations", "Running for 50 iterations."),
    _format(
        "average",
        " = ",
        rb"^(?!Batch )(?P<name>[\w/@.-]{1,255}) = (?P<value>" + VALUE + rb")" + _WEIGHTED + rb"$",
        "accuracy = 0.91",
    ),
    # FCN's score.py
    _format(
        "fcn",
        ">>> ",
        rb">>> .{0,40}Iteration (?P<iteration>\d+) (?P<name>overall accuracy|mean accuracy|mean IU|fwavacc|loss)"
        rb" (?P<value>" + VALUE + rb")" + _REST,
        ">>> 2016-02-16 10:05:00.123456 Iteration 4000 mean IU 0.27",
    ),
    # py-faster-rcnn's test_net.py, after the training
    _format("ap", "AP", rb"^((?:AP for \S{1,99}|Mean AP)) = (" + VALUE + rb")\s*$", "AP for aeroplane = 0.5912", True),
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
        "Snapshotting |Wrote snapshot to",
        rb"(?:Snapshotting (?:solver state )?to (?:binary proto file |HDF5 file )?|Wrote snapshot to: )(\S.*\S)",
        "Snapshotting to binary proto file snapshots/bs512_iter_5000.caffemodel",
    ),
    _format(
        "stopped",
        "Optimization stopped|Test interrupted",
        rb"(?:Optimization stopped early|Test interrupted)",
        "Optimization stopped early.",
    ),
    _format("done", "Optimization Done", rb"Optimization Done", "Optimization Done."),
    _format("done", "done solving", rb"^(done solving)\s*$", "done solving", True),
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
    # What the batch system, the kernel and the shell say of an end.
    _format(
        "cancelled",
        "CANCELLED AT|job killed|TERM_RUNLIMIT|TERM_OWNER|walltime",
        rb"((?:\*\*\* (?:JOB|STEP) .{0,99}CANCELLED AT|PBS: job killed|TERM_RUNLIMIT|TERM_OWNER|"
        rb"walltime .{0,40}exceeded).*)",
        "slurmstepd: error: *** JOB 77 ON n1 CANCELLED AT 2026-02-16T10:05:00 DUE TO TIME LIMIT ***",
        True,
    ),
    _format(
        "killed",
        "oom-kill|oom_kill|OOMKilled|Out of memory|out of memory|TERM_MEMLIMIT|memory limit",
        rb"((?:Detected \d+ )?(?:oom[-_]kill|OOMKilled|Out of memory|out of memory|TERM_MEMLIMIT|"
        rb"(?i:exceeded .{0,20}memory limit)).*)",
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=77.batch.",
        True,
    ),
    _format(
        "killed",
        "Killed|Illegal instruction|Bus error|Floating point exception|Aborted",
        rb"(?:^|[\s(])((?:Killed|Illegal instruction|Bus error|Floating point exception|Aborted)(?=$|[\s)]).{0,200})",
        "./train.sh: line 3:  4242 Killed                  caffe train --solver=solver.prototxt",
        True,
    ),
    _format(
        "cancelled",
        "Terminated|Hangup|KeyboardInterrupt",
        rb"(?:^|\s)((?:Terminated|Hangup|KeyboardInterrupt)(?=$|\s).{0,200})",
        "train.sh: line 2:  4242 Terminated              caffe train",
        True,
    ),
    _format(
        "broken",
        "error while loading shared|Error parsing text-format|Segmentation fault|terminate called after|"
        "std::bad_alloc|out of memory",
        rb"(error while loading shared libraries: .*|Error parsing text-format .*|Segmentation fault.*|"
        rb"terminate called after .*|std::bad_alloc.*|out of memory.*)",
        "caffe: error while loading shared libraries: libcudart.so.7.0: cannot open shared object file",
    ),
    # The last line of what Python says of an exception that nobody caught.
    _format(
        "raised",
        "Error: |AssertionError|MemoryError|Exception",
        rb"^((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)(?:: .{0,300})?)\s*$",
        "KeyError: 'nosuch'",
        True,
    ),
    _format(
        "event",
        EVENT_MARK,
        EVENT_MARK.encode() + rb"(\w+) (\{.*)$",
        'caffebench: end {"status": "done", "iteration": 200}',
    ),
)
"""Every kind of line that means something, with a real example each; the first that matches counts."""

_MORE_WORDS = (b"Iteration ", b"] class", b": class", b"AP for ", b"Mean AP", b">>> ")
WORDS = tuple(dict.fromkeys((*_MORE_WORDS, *(word for form in FORMATS for word in form.words if len(word) > 5))))
"""One of them is in every line of ``FORMATS`` but the averages of ``caffe test``, and in every one that is cut."""


def find_format(message: bytes, prefixed: bool) -> tuple[LineFormat, re.Match[bytes]] | None:
    """Of which format a line is, and its match; None where it means nothing. ``prefixed``: it has Caffe's prefix."""
    return (_remembered if len(message) < _SHORT else _find_format)(message, prefixed)


_SHORT = 200  # bytes of a line that may stand in every log of a folder


def _find_format(message: bytes, prefixed: bool) -> tuple[LineFormat, re.Match[bytes]] | None:
    for form in FORMATS:
        if form.shell and prefixed:
            continue
        for word in form.words:
            # Of bytes `in` takes twice as long as find, and any() twice as long again.
            if message.find(word) >= 0 and (match := form.pattern.search(message)) is not None:
                return form, match
    return None


_remembered = lru_cache(maxsize=256)(_find_format)


_EPOCH = datetime(1970, 1, 1)
UNKNOWN_YEAR = 1600
"""Stands for the year of a time that a log gives without one: a leap year, so that February 29 can be said."""


def to_number(text: bytes) -> float:
    """The number that ``text`` gives, which ``VALUE`` matches; NaN or infinite where it says so."""
    low = text.lower().replace(b",", b".")
    if b"#" in low or b"(" in low:
        size = float("inf") if b"inf" in low else float("nan")
        return -size if low.startswith(b"-") else size
    return float(low)


def microseconds(prefix: re.Match[bytes]) -> int | None:
    """The time of a line in microseconds since 1970, local time, from the match of ``PREFIX``.

    The year is ``UNKNOWN_YEAR`` where the prefix has none. None where there is no such day or hour.
    """
    if prefix["unix"]:
        return int(prefix["unix"]) * 10**6
    day = midnight(prefix["year"] or b"", prefix["month"], prefix["day"])
    hour, minute, second, micro = map(int, prefix.group("hour", "minute", "second", "micro"))
    if day is None or hour > 23 or minute > 59 or second > 59:
        return None
    return day + ((hour * 60 + minute) * 60 + second) * 10**6 + micro


@lru_cache(maxsize=400)
def midnight(year: bytes, month: bytes, day: bytes) -> int | None:
    """When a day begins, in microseconds since 1970; ``year`` may be empty. None where there is no such day."""
    if not (year + month + day).isdigit():
        return None
    try:
        return since_1970(datetime(int(year or UNKNOWN_YEAR), int(month), int(day)))
    except ValueError:
        return None


def since_1970(at: datetime) -> int:
    """Microseconds from 1970 to ``at``, a local time without a zone."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def to_datetime(time: int) -> datetime:
    """The local time that is ``time`` microseconds after 1970; the first or last of the calendar for what is beyond."""
    try:
        return _EPOCH + timedelta(microseconds=time)
    except OverflowError:
        return datetime.min if time < 0 else datetime.max
