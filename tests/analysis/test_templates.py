"""The fast way gives what the patterns give, to the bit."""

from __future__ import annotations

import math
import re
import struct
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caffebench.analysis.read.columns import MetricRegistry
from caffebench.analysis.read.lines import FORMATS, WORDS, LineFormat
from caffebench.analysis.read.parser import parse_bytes
from caffebench.analysis.read.templates import LineTemplates


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack("d", value)


NUMBERS = st.one_of(
    st.floats().map(lambda value: f"{value:.6g}"),
    st.floats().map(repr),
    st.integers(-(10**18), 10**18).map(str),
    st.sampled_from(["-nan", "nan", "inf", "-inf", "1e-05", "87.3365", "0.000141963", "-0", "1.17549e-38", "3.4e+38"]),
)


PREFIX = "I0411 08:54:06.202049 10647 solver.cpp:237] "


def losses(texts: list[bytes]) -> dict[int, float]:
    """The losses of a log whose first line teaches the shape of all others, by iteration."""
    lines = [b"Iteration 0, loss = 1", *(b"Iteration %d, loss = %s" % (k, text) for k, text in enumerate(texts, 1))]
    rows = parse_bytes([b"".join(PREFIX.encode() + line + b"\n" for line in lines)], MetricRegistry()).rows
    return dict(zip(rows.iteration.tolist(), rows.value.tolist(), strict=True))


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(texts=st.lists(NUMBERS, min_size=1, max_size=20))
@example(texts=["123456789012345678", "0.123456789012345678", "1e22", "1e-22", "9007199254740993", "1e23", "1e400"])
def test_numbers_are_those_of_float(texts: list[str]) -> None:
    found = losses([text.encode() for text in texts])
    wanted = [1.0, *(float(text) for text in texts)]
    assert [bits(found[k]) for k in range(len(wanted))] == [bits(value) for value in wanted]


@settings(max_examples=300, deadline=None)
@given(text=st.binary(max_size=30).filter(lambda text: not re.search(rb"[\x00-\x1f]|Iteration", text)))
@example(text=b"1.5x")
@example(text=b"12e")
@example(text=b"1e-")
@example(text=b"1.2.3")
@example(text=b"-")
@example(text=b"nano")
@example(text=b"0;")
def test_what_is_no_number_is_not_taken_for_one(text: bytes) -> None:
    found = losses([text])
    if 1 in found:
        number = re.split(rb"[\s,;|(\[{]", text.strip())[0]  # what a format lets stand behind a value is no part of it
        assert bits(found[1]) == bits(float(number))


LINES = [
    "I0411 08:54:06.202049 10647 solver.cpp:237] Iteration {i}, loss = {v}",
    "I20261121 03:50:02.245851 10633 solver.cpp:239] Iteration {i} (0.83 iter/s, 9.59s/8 iters), loss = {v}",
    "I0411 08:54:06.202049 10647 solver.cpp:241] Iteration {i} (2.25 iter/s, 21.292s/48 iter), loss = {v}",
    "I0411 08:54:06.202049 10647 solver.cpp:241] Iteration {i} (3.8928 s), loss = {v}",
    "I0411 08:54:06.202049 10647 sgd_solver.cpp:106] Iteration {i}, lr = {v}",
    "I0411 08:54:06.202049 10647 sgd_solver.cpp:106] Iteration {i}, lr = {v}, m = 0.9, wd = 0.0005, gs = 1",
    "I0411 08:54:06.202049 10647 sgd_solver.cpp:106] Iteration {i} (241.076/s), lr = {v}",
    "I0411 08:54:06.202049 10647 solver.cpp:253]     Train net output #0: loss1/loss1 = {v} (* 0.3 = 0.5 loss)",
    "I0411 08:54:06.202049 10647 solver.cpp:341] Iteration {i}, Testing net (#0)",
    "I0411 08:54:06.202049 10647 solver.cpp:341] Iteration {i}, Testing net (#1)",
    "I0411 08:54:06.202049 10647 solver.cpp:409]     Test net output #0: loss/top-5 = {v}",
    "I0411 08:54:06.202049 10647 solver.cpp:409]     Test net output #1: loss = {v} (* 1 = {v} loss)",
    "[0] I0411 08:54:06.202049 10647 solver.cpp:237] Iteration {i}, loss = {v}",
    "I1399 28:54:06.202049 10647 solver.cpp:237] Iteration {i}, loss = {v}",
    "I0411 08:54:06.202049 10647 multistep.cpp:9] MultiStep Status: Iteration {i}, step = 1",
    "I0411 08:54:06.202049 10647 solver.cpp:237] Iteration {i}, loss = {v}x",
    "I0411 08:54:06.202049 10647 solver.cpp:237] Iteration {i}, lo",
    "",
]
LINE = st.builds(lambda form, i, v: form.format(i=i, v=v), st.sampled_from(LINES), st.integers(0, 10**12), NUMBERS)


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(LINE, max_size=30))
def test_both_ways_through_a_log_agree(lines: list[str]) -> None:
    log = "".join(f"{line}\n" for line in lines).encode()

    def read() -> list[tuple[object, ...]]:
        metrics = MetricRegistry()
        rows = parse_bytes([log], metrics).rows
        names = [metrics[code] for code in rows.metric]
        values = [bits(value) for value in rows.value.tolist()]
        rates = [bits(value) for value in rows.lr.tolist()]
        columns = (rows.byte_offset, rows.time, rows.iteration, rows.pid, rows.net, rows.kind)
        return list(zip(names, values, rates, *(one.tolist() for one in columns), strict=True))

    fast = read()
    with mock.patch.object(LineTemplates, "learn", return_value=False):
        assert read() == fast


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.kind)
def test_every_format_reads_its_example(form: LineFormat) -> None:
    line = form.example.encode()
    assert form.kind == "average" or any(word in b"] " + line for word in WORDS), "the search for words passes it over"
    assert any(word in line for word in form.words)
    assert next(one for one in FORMATS if one.shell <= form.shell and one.pattern.search(line)) is form
