"""Which learning rate a row has, by the rule in plain words, whatever the order of lines and the size of blocks."""

from __future__ import annotations

import math
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
    """Whether it is a learning rate's own row, iteration and learning rate, of each row."""
    rows = []
    for place, (kind, iteration, _) in enumerate(lines):
        said = [(at, of, rate) for at, (what, of, rate) in enumerate(lines) if what == "lr" and not math.isnan(rate)]
        ahead, behind = [one for one in said if one[0] >= place], [one for one in said if one[0] <= place]
        others = [[of for what, of, _ in some if what == "loss"] for some in (lines[:place], lines[place + 1 :])]
        if kind == "lr" and iteration in (*others[0][-1:], *others[1][:1]):
            continue
        own = ahead[0][2] if ahead and ahead[0][1] == iteration else None
        known = [own] if own is not None else [behind[-1][2]] if behind else [ahead[0][2]] if ahead else [math.nan]
        rows.append((kind == "lr", iteration, known[0]))
    return rows


def as_read(lines: list[Line], block: int) -> list[tuple[bool, int, float]]:
    stamp = "I0406 04:34:53.454311  8382 solver.cpp:237] "
    text = "".join(f"{stamp}Iteration {iteration}, {kind} = {value:g}\n" for kind, iteration, value in lines)
    with mock.patch.object(parser, "_BLOCK", block):
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
