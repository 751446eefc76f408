"""Nothing in a log can hurt: any bytes in, no exception out, and intact lines are recovered."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffebench.analysis.read.columns import MetricRegistry
from caffebench.analysis.read.files import RunFiles
from caffebench.analysis.read.parser import parse_bytes
from caffebench.analysis.runs.reading import read_source

FRAGMENTS = st.sampled_from(
    [
        b"I0406 04:34:53.454056  8382 solver.cpp:237] ",
        b"I20261121 03:50:02.245851 10633 solver.cpp:347] ",
        b"Iteration 20, loss = 7.68",
        b"Iteration 99999999999999999999, loss = nan",
        b"Iteration 1000, Testing net (#0)",
        b"    Test net output #0: accuracy = 0.41944",
        b"    Train net output #0: loss = -nan (* 1 = -nan loss)",
        b"Initializing solver from parameters: ",
        b"Resuming from x_iter_12.solverstate",
        b'caffebench: end {"status": "done"}',
        b'caffebench: run {"header": {"classes": "x", "phases": [1]}}',
        b'caffebench: run {"header": {}, "train_size": 1%s, "phases": [[9, 1%s]], "solver": 5}'
        % (b"0" * 400, b"0" * 400),
        b'caffebench: run {"header": {}, "identity": {"options": {"init": [1]}}, "solver": "}{ iter_size: -4"}',
        b'net_param { layer { type: "SoftmaxWithLoss" loss_weight: "x" loss_weight: 1 bottom: "a" loss_param: 3 } }',
        b"net.cpp:1] with loss weight 1.2.3",
        b"max_iter: 1e400\nnet_param { layer { type: 3 top: 4 data_param { batch_size: -1 } } }",
        b"\n",
        b"\r",
        b"\x1b[0m",
        b"\x00",
    ]
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.lists(st.one_of(st.binary(max_size=40), FRAGMENTS), max_size=40).map(b"".join))
def test_any_bytes_are_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise.log"
    path.write_bytes(data)
    read_source(RunFiles("noise", (path,)))


def lines_of(log: bytes) -> list[tuple[int, float, float, str]]:
    """Iteration, value, learning rate and name of every row."""
    metrics = MetricRegistry()
    rows = parse_bytes([log], metrics).rows
    names = [metrics[code].name for code in rows.metric]
    return list(zip(rows.iteration.tolist(), rows.value.tolist(), rows.lr.tolist(), names, strict=True))


# Behind a value, what looks like the rest of a number is taken for that; at the start two bytes may say UTF-16.
JUNK = st.binary(max_size=60).filter(lambda junk: not re.match(rb"[\d.#]|[eE][-+]?\d|\xfe\xff|\xff\xfe", junk))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(noise=st.lists(st.tuples(st.integers(0, 200), JUNK), max_size=8))
def test_intact_lines_around_noise_are_all_recovered(
    make_session: Callable[..., str], noise: list[tuple[int, bytes]]
) -> None:
    lines = make_session(0, 200).encode().split(b"\n")
    clean = lines_of(b"\n".join(lines))
    assert len(clean) == 28  # 11 displays of a loss and an output, 3 tests of two outputs
    for place, junk in sorted(noise, reverse=True):
        lines.insert(place % len(lines), junk)
    assert lines_of(b"\n".join(lines)) == clean
