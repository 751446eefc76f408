"""Which learning rate a row has, by the rule in plain words, whatever the order of lines and the size of blocks."""

from __future__ import annotations

import math
from bisect import bisect
from itertools import pairwise
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffebench.analysis.read import parser
from caffebench.analysis.read.columns import LR, MetricRegistry
from caffebench.analysis.read.parser import parse_bytes

Line = tuple[str, int, float]
"""``loss`` or ``lr``, iteration, value."""


def by_the_rule(lines: list[Line]) -> list[tuple[bool, int, float]]:
    """Whether it is a learning rate's own row, iteration and learning rate, of each row of one process."""
    starts = [0]  # of the process and, where losses fall, of those that began anew; the first rate is of all before it
    told = next((at for at, (kind, _, rate) in enumerate(lines) if kind == "lr" and not math.isnan(rate)), len(lines))
    shown = [(at, iteration) for at, (kind, iteration, _) in enumerate(lines) if kind == "loss"]
    starts += [at for (_, before), (at, here) in pairwise(shown) if here < before and at > told]
    rows = []
    for place, (kind, iteration, _) in enumerate(lines):
        said = [(at, of, rate) for at, (what, of, rate) in enumerate(lines) if what == "lr" and not math.isnan(rate)]
        begin, end = starts[bisect(starts, place) - 1], [*starts, len(lines)][bisect(starts, place)]
        ahead, behind = (
            [one for one in said if place <= one[0] < end],
            [one for one in said if begin <= one[0] <= place],
        )
        others = [[of for what, of, _ in some if what == "loss"] for some in (lines[:place], lines[place + 1 :])]
        if kind == "lr" and iteration in (*others[0][-1:], *others[1][:1]):
            continue
        own = ahead[0][2] if ahead and ahead[0][1] == iteration else None
        before = [rate for at, _, rate in said if at < begin]
        known = [rate for _, _, rate in (*behind[-1:], *ahead[:1])] + before[-1:] + [math.nan]
        rows.append((kind == "lr", iteration, own if own is not None else known[0]))
    return rows


def text_of(lines: list[Line], pid: int = 8382) -> str:
    stamp = f"I0406 04:34:53.454311 {pid:5} solver.cpp:237] "
    return "".join(f"{stamp}Iteration {iteration}, {kind} = {value:g}\n" for kind, iteration, value in lines)


def as_read(lines: list[Line], block: int) -> list[tuple[bool, int, float]]:
    text = text_of(lines)
    with mock.patch.multiple(parser, _BLOCK=block, _spare=[]):
        rows = parse_bytes([text.encode()], MetricRegistry(), 1).rows
    return list(zip((rows.kind == LR).tolist(), rows.iteration.tolist(), rows.lr.tolist(), strict=True))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["loss", "lr"]),
            st.integers(0, 3).map(lambda k: 20 * k),
            st.sampled_from([0.1, 0.01, math.nan]),
        ),
        max_size=25,
    ),
    st.sampled_from([256, 1 << 21]),
)
def test_any_order_of_lines(lines: list[Line], block: int) -> None:
    assert repr(as_read(lines, block)) == repr(by_the_rule(lines))  # NaN is not equal to itself


@pytest.mark.parametrize(
    ("lines", "rates"),
    [
        pytest.param([("loss", 0, 2.0), ("lr", 0, 0.1), ("loss", 20, 1.0), ("lr", 20, 0.01)], [0.1, 0.01], id="Caffe"),
        pytest.param([("lr", 0, 0.1), ("loss", 0, 2.0), ("lr", 20, 0.01), ("loss", 20, 1.0)], [0.1, 0.01], id="before"),
        pytest.param([("loss", 0, 2.0), ("loss", 20, 1.0), ("lr", 40, 0.1)], [0.1, 0.1, 0.1], id="said late and alone"),
    ],
)
def test_orders_that_logs_have(lines: list[Line], rates: list[float]) -> None:
    assert [rate for _, _, rate in as_read(lines, 1 << 21)] == rates


RATES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["loss", "lr"]), st.sampled_from([0.1, 0.01])), min_size=2, max_size=30
)


@given(RATES, st.sampled_from([256, 1 << 21]))
def test_two_processes_do_not_take_each_others(said: list[tuple[int, str, float]], block: int) -> None:
    """Losses of both as if each were alone in its log, where it says a rate at all."""
    at = [0, 1000]
    lines: list[tuple[int, Line]] = []
    for process, kind, value in said:
        at[process] += 20 * (kind == "loss")
        lines.append((process, (kind, at[process], value)))
    text = "".join(text_of([line], 100 + process) for process, line in lines)
    with mock.patch.multiple(parser, _BLOCK=block, _spare=[]):
        rows = parse_bytes([text.encode()], MetricRegistry(), 1).rows
    for process in (0, 1):
        own = [line for of, line in lines if of == process]
        if any(kind == "lr" for kind, _, _ in own):
            right = [(iteration, rate) for is_rate, iteration, rate in by_the_rule(own) if not is_rate]
            mine = rows[(rows.pid == 100 + process) & (rows.kind != LR)]
            assert list(zip(mine.iteration.tolist(), mine.lr.tolist(), strict=True)) == right


def test_a_resume_does_not_have_the_rate_that_was_lost() -> None:
    """After a step at 60 the run crashed; it was resumed from 40, and tests before it shows its rate."""
    first = text_of([("loss", 40, 1.0), ("lr", 40, 0.1), ("loss", 60, 1.0), ("lr", 60, 0.01)], 100)
    test = "I0406 05:34:53.454311   {} solver.cpp:1] Iteration 50, Testing net (#0)\n"
    test += "I0406 05:34:53.454311   {} solver.cpp:1]     Test net output #0: accuracy = 0.5\n"
    for pid in (100, 200):
        again = test.format(pid, pid) + text_of([("loss", 55, 1.0), ("lr", 55, 0.1)], pid)
        rows = parse_bytes([(first + again).encode()], MetricRegistry(), 1).rows
        assert rows.lr.tolist() == [0.1, 0.01, 0.1, 0.1]
