"""The fast way through a log: most of its lines are of a few shapes and differ only in time and numbers.

A shape is the text between the time and the first number, as `` 8382 solver.cpp:237] Iteration ``. One line of each
is read by the patterns of ``lines``; all others of its shape are found and read by NumPy, eight bytes at a time. A line
that is not exactly of a shape is left to the patterns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.lines import PREFIX, microseconds
from caffebench.analysis.rows import LOSS, LR, TEST, TESTING, TRAIN, Metric, Metrics

__all__ = ["LATER", "PAD", "Columns", "Shapes", "output_metric", "read_shaped", "times"]

PAD = b"\n" * 128
"""Follows every block, so that no window reaches beyond it."""

_WINDOW = 64  # bytes: a shape that is longer is left to the patterns
_NONE = 255
LATER = -(2**63) + 1
"""Stands for a time that has not been read, because it will seldom be asked for."""
_SPACE = 32
_MOST = 64  # shapes
_LOOK = 400  # lines of a block that are looked at for new shapes

Array = npt.NDArray[Any]
_U8 = np.uint64


class Columns:
    """A block's lines: what each says, by number of line; ``kind`` is 255 where it says no value."""

    def __init__(self, lines: int) -> None:
        """Room for a number of lines."""
        self.kind = np.full(lines, _NONE, "u1")
        self.time = np.empty(lines, "i8")
        self.iteration = np.empty(lines, "i8")
        self.value = np.empty(lines, "f8")
        self.pid = np.empty(lines, "i4")
        self.metric = np.empty(lines, "i2")
        self.net = np.full(lines, -1, "i2")

    def put(
        self, line: int | Array, kind: int, time: Any, pid: int, iteration: Any, value: Any, metric: int, net: int
    ) -> None:
        """Say what one line, or many, are."""
        self.kind[line] = kind
        self.time[line] = time
        self.pid[line] = pid
        self.iteration[line] = iteration
        self.value[line] = value
        self.metric[line] = metric
        self.net[line] = net


@dataclass(frozen=True)
class _Shape:
    text: bytes
    kind: int
    pid: int
    metric: int


_BEGIN = re.compile(
    rb"(?:Iteration (?=\d+(?: \([^()\n]*\))?, (?P<said>loss|lr|Testing))"
    rb"|(?P<phase>Train|Test) net output #(?P<index>\d+): (?P<name>\S[^\n]*?) = (?=\S+(?: \(\* (?P<weight>\S+) = )?))"
)


class Shapes:
    """The shapes that are known so far; they grow while blocks are read, by several threads at once."""

    def __init__(self, metrics: Metrics) -> None:
        """``metrics`` gives the codes."""
        self.metrics = metrics
        self.old: list[_Shape] = []
        self.new: list[_Shape] = []

    def learn(self, line: bytes, skip: int) -> _Shape | None:
        """The shape of ``line``, whose time ends at byte ``skip``; None where it says no value or is irregular."""
        prefix = PREFIX.match(line)
        if prefix is None or prefix["severity"] != b"I" or int(prefix["pid"]) >= 2**31:
            return None
        found = _BEGIN.search(line, prefix.end())
        if found is None or line[prefix.end() : found.start()].strip():
            return None
        text = line[skip : found.end()]
        if len(text) > _WINDOW:
            return None
        code: int | None
        if found["said"] == b"Testing":
            kind, code = TESTING, -1
        elif found["said"]:
            kind = LOSS if found["said"] == b"loss" else LR
            code = self.metrics.code(Metric("loss" if kind == LOSS else "lr"))
        else:
            kind = TRAIN if found["phase"] == b"Train" else TEST
            code = self.metrics.code(output_metric(found["name"], found["index"], found["weight"]))
        if code is None or len(self.old) + len(self.new) >= _MOST:
            return None
        return _Shape(text, kind, int(prefix["pid"]), code)


def output_metric(name: bytes, index: bytes, weight: bytes | None) -> Metric:
    """The metric of an output line."""
    try:
        said = None if weight is None else float(weight)
    except ValueError:
        said = None
    if said is not None and said != said:
        said = None  # NaN is not equal to itself: it would be a new metric each time
    return Metric(name.decode(errors="replace"), int(index) if len(index) < 7 else 999_999, said)


def _window(data: Array, at: Array, size: int) -> Array:
    """``size`` bytes from each place, as rows."""
    every: Array = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
    return every[at]


def _words(data: Array, at: Array) -> Array:
    return _window(data, at, 8).view("<u8")


def _digits(words: Array) -> tuple[Array, Array]:
    """Leading digits of eight bytes: their value, and how many they are (0 to 8)."""
    low = words ^ _U8(0x3030303030303030)
    other = ((low + _U8(0x0606060606060606)) | low) & _U8(0xF0F0F0F0F0F0F0F0)
    count = np.where(other == 0, 8, np.bitwise_count((other & -other) - _U8(1)) >> 3).astype("u8")
    low = np.where(count == 0, _U8(0), low << ((_U8(8) - count) << _U8(3)) % _U8(64))
    low = (low * _U8(10)) + (low >> _U8(8))
    low = ((low & _U8(0x000000FF000000FF)) * _U8(0x000F424000000064)) + (
        ((low >> _U8(16)) & _U8(0x000000FF000000FF)) * _U8(0x0000271000000001)
    )
    return (low >> _U8(32)).astype("i8"), count.astype("i8")


def times(data: Array, at: Array, skip: int) -> Array:
    """Microseconds of lines of which it is known that a prefix begins there; NO_TIME is left to the caller."""
    clock = _words(data, at + (skip - 15))  # HH:MM:SS
    micro = _words(data, at + (skip - 7))  # .ffffff and a space
    pairs = clock - _U8(0x30303A30303A3030)
    two = ((pairs & _U8(0x000F00000F00000F)) * _U8(10) + ((pairs >> _U8(8)) & _U8(0x000F00000F00000F))).view("i8")
    seconds = (two & 0xFF) * 3600 + ((two >> 24) & 0xFF) * 60 + ((two >> 48) & 0xFF)
    fraction, count = _digits((micro >> _U8(8)) & _U8(0x0000FFFFFFFFFFFF))
    good = (count == 6) & ((micro & _U8(0xFF)) == ord("."))
    shape = clock & _U8(0x0000FF0000FF0000)
    good &= shape == _U8(0x00003A00003A0000)
    date = _window(data, at, skip - 16)
    days = np.empty(len(at), "i8")
    edges = np.flatnonzero(date[1:] != date[:-1]) + 1
    edges = np.concatenate([[0], edges, [len(at)]])
    for first, last in pairwise(edges.tolist()):
        said = microseconds_of_day(bytes(date[first]))
        good[first:last] &= said is not None
        days[first:last] = said or 0
    good &= ((two & 0xFF) < 24) & (((two >> 24) & 0xFF) < 60) & (((two >> 48) & 0xFF) < 60)
    return np.where(good, days + seconds * 1_000_000 + fraction, -1 << 63)


def microseconds_of_day(date: bytes) -> int | None:
    """Midnight of ``I0411`` or ``I20160411``."""
    found = PREFIX.match(date + b" 00:00:00.000000 1 a:1] ")
    return microseconds(found) if found else None


_POWERS = np.array([float(f"1e{power}") for power in range(23)])
"""Powers of ten that a float holds exactly: a quotient of such a one and of a whole number below 2**53 is rounded once,
and so is the very float that ``float`` makes of the text."""
_ONE = re.compile(rb"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|NaN|inf|Inf)$")


def _is_end(byte: Array) -> Array:
    """A number ends at a space or at the end of its line."""
    ends: Array = (byte == _SPACE) | (byte == 10)
    return ends


def _numbers(data: Array, at: Array) -> tuple[Array, Array]:
    """The numbers that begin at ``at`` and end at a space or a line's end, and which of them are numbers at all."""
    minus = data[at] == ord("-")
    begin = at + minus
    words = _words(data, begin)
    whole, digits = _digits(words)
    end = begin + digits
    dot = data[end] == ord(".")
    part, places = _digits(_words(data, end + 1))
    part, places = np.where(dot, part, 0), np.where(dot, places, 0)
    end += dot + places
    more = np.flatnonzero(places == 8)
    if len(more):
        rest, count = _digits(_words(data, end[more]))
        part[more] = part[more] * 10 ** np.minimum(count, 7) + rest
        places[more] += count
        end[more] += count
    power = places.copy()
    scaled = np.flatnonzero((data[end] == ord("e")) & (digits > 0))
    if len(scaled):
        sign = data[end[scaled] + 1]
        scaled = scaled[(sign == ord("-")) | (sign == ord("+"))]
    if len(scaled):
        less = data[end[scaled] + 1] == ord("-")
        exponent, count = _digits(_words(data, end[scaled] + 2))
        power[scaled] += np.where(less, exponent, -exponent)
        end[scaled] = np.where(count > 0, end[scaled] + 2 + count, end[scaled])
    good: Array = (digits > 0) & (digits + places <= 15) & _is_end(data[end]) & (np.abs(power) <= 22)
    mantissa = (whole * 10 ** np.minimum(places, 15) + part).astype("f8")
    scale = _POWERS[np.minimum(np.abs(power), 22)]
    values: Array = np.where(power >= 0, mantissa / scale, mantissa * scale)
    values[minus] *= -1
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        said = (words & _U8(0xFFFFFF)) == _U8(int.from_bytes(name.encode(), "little"))
        if said.any():
            said &= _is_end(data[begin + 3])
            values[said] = value
            values[said & minus] *= -1
            good |= said
    for place in np.flatnonzero(~good):
        token = data[at[place] : at[place] + 40].tobytes().split(b"\n")[0].split(b" ")[0]
        if len(token) < 40 and _ONE.match(token):
            values[place], good[place] = float(token), True
    return values, good


_LOSS_TAIL = np.frombuffer(b", loss =", "<u8")[0]
_PACE = _U8(int.from_bytes(b" (", "little"))
_LR_TAIL = np.frombuffer(b", lr = \0", "<u8")[0]
_TEST_TAIL = np.frombuffer(b", Testin", "<u8")[0]


def read_shaped(data: bytes, starts: Array, columns: Columns, shapes: Shapes) -> None:
    """Read every line of ``data`` (``starts``: their offsets; ``PAD`` follows the last) that is of a known shape."""
    view = np.frombuffer(data, "u1")
    old = view[starts + 5] == 32
    new = ~old & (view[starts + 9] == 32)
    head = view[starts] == ord("I")
    for chosen, skip, known in ((old & head, 21, shapes.old), (new & head, 25, shapes.new)):
        lines = np.flatnonzero(chosen)
        if not len(lines):
            continue
        text = _window(view, starts[lines] + skip, _WINDOW)
        left = np.arange(len(lines))
        for shape in list(known):
            left = _take(shape, view, starts, lines, text, left, skip, columns)
        tried = 0
        low = 0
        while tried < _LOOK and low < len(left):
            # The next line that may teach a shape.
            found = _BEGIN.search(data, int(starts[lines[left[low]]]))
            if found is None:
                break
            number = int(np.searchsorted(starts, found.start(), side="right")) - 1
            low = int(np.searchsorted(lines[left], number))
            if low >= len(left):
                break
            if lines[left[low]] == number:
                tried += 1
                at = int(starts[number])
                shape_of = shapes.learn(data[at : data.index(b"\n", at)], skip)
                if shape_of is not None:
                    known.append(shape_of)
                    left = _take(shape_of, view, starts, lines, text, left, skip, columns)
                    low = int(np.searchsorted(lines[left], number + 1))
                    continue
                low += 1


def _take(
    shape: _Shape, view: Array, starts: Array, lines: Array, text: Array, left: Array, skip: int, columns: Columns
) -> Array:
    """Read the lines of one shape among ``left`` and return the others."""
    size = len(shape.text)
    begins = np.ndarray((len(text),), f"S{size}", text, strides=(_WINDOW,))
    # Its last eight bytes first: they tell most of the others apart, and are compared at once.
    ends = np.ndarray((len(text),), "<u8", text, offset=size - 8, strides=(_WINDOW,))
    same: Array = (ends if len(left) == len(text) else ends[left]) == np.frombuffer(shape.text[-8:], "<u8")[0]
    likely = np.flatnonzero(same)
    same[likely] = begins[left[likely]] == shape.text
    mine = left[same]
    if not len(mine):
        return left
    number_of = lines[mine]
    line_at = starts[number_of]
    at = line_at + (skip + size)
    good: Any = np.ones(len(mine), bool)
    iteration: Any = -1
    net: Any = -1
    value: Any = np.nan
    if shape.kind in (LOSS, LR, TESTING):
        iteration, count = _digits(_words(view, at))
        count, tail = _after_pace(view, at, count)
        if shape.kind == TESTING:
            good = (count > 0) & (tail == _TEST_TAIL)
            # "g net (#0)"
            net, count_net = _digits(_words(view, at + count + 16))
            good &= (
                (_words(view, at + count + 8) == np.frombuffer(b"g net (#", "<u8")[0])
                & (count_net < 4)
                & (count_net > 0)
            )
            value_at = None
        else:
            is_loss = (tail == _LOSS_TAIL) & (view[at + count + 8] == _SPACE)
            is_lr = (tail & _U8(0x00FFFFFFFFFFFFFF)) == _LR_TAIL
            good = (count > 0) & (is_loss if shape.kind == LOSS else is_lr)
            value_at = at + count + (9 if shape.kind == LOSS else 7)
    else:
        value_at = at
    if value_at is not None:
        good_at = np.flatnonzero(good)
        if shape.kind == LR:
            values, right = _repeated(view, value_at[good_at])
        else:
            values, right = _numbers(view, value_at[good_at])
        good[good_at] = right
        value = np.empty(len(mine))
        value[good_at] = values
    # An output has the time of the line above it, a learning rate is seldom a row of its own.
    time: Any = times(view, line_at, skip) if shape.kind in (LOSS, TESTING) else LATER
    whole = bool(np.all(good))
    if not whole:
        number_of = number_of[good]
        time = time[good] if isinstance(time, np.ndarray) else time
        iteration = iteration[good] if isinstance(iteration, np.ndarray) else iteration
        net = net[good] if isinstance(net, np.ndarray) else net
        value = value[good] if isinstance(value, np.ndarray) else value
    columns.put(number_of, shape.kind, time, shape.pid, iteration, value, shape.metric, net)
    if not whole:
        same[np.flatnonzero(same)[~good]] = False
    others: Array = left[~same]
    return others


def _after_pace(view: Array, at: Array, count: Array) -> tuple[Array, Array]:
    """Bytes up to the end of `` (0.83 iter/s, 9.59s/8 iters)`` where that follows the number, and the eight after."""
    tail = _words(view, at + count)
    paced = np.flatnonzero(((tail & _U8(0xFFFF)) == _PACE) & (count > 0))
    if len(paced):
        text = _window(view, at[paced] + count[paced], 64).view("u1").reshape(-1, 64)
        closed = (text == ord(")")).argmax(axis=1)
        ended = np.where((text == 10).any(axis=1), (text == 10).argmax(axis=1), 64)
        whole = (closed > 0) & (closed < ended)
        count = count.copy()
        count[paced[whole]] += closed[whole] + 1
        count[paced[~whole]] = 0
        tail = _words(view, at + count)
    return count, tail


def _repeated(view: Array, at: Array) -> tuple[Array, Array]:
    """Numbers most of which repeat the one before, as learning rates do."""
    if not len(at):
        return np.empty(0), np.empty(0, bool)
    text = _window(view, at, 12)
    whole: Array = np.asarray((text.view("u1").reshape(-1, 12) <= 32).any(axis=1))
    ends = np.flatnonzero(np.concatenate([[True], (text[1:] != text[:-1]) | ~whole[1:]]))
    values, good = _numbers(view, at[ends])
    times = np.diff(ends, append=len(at))
    return np.repeat(values, times), np.repeat(good, times)
