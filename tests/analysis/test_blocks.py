"""A log gives the same run in one block as in many, whole or as it grows."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from caffebench.analysis import read_runs
from caffebench.analysis.read import parser as scanning
from caffebench.analysis.read.columns import MetricRegistry
from caffebench.analysis.read.files import RunFiles
from caffebench.analysis.read.parser import LogParser, parse_bytes
from caffebench.analysis.runs.model import Run
from caffebench.analysis.runs.reading import make_runs

SOLVER = 'max_iter: 9000\nnet_param { layer { name: "d" type: "Data" top: "data" data_param { batch_size: 32 } } }'
PHASES = (
    '{"phases": [{"until": 300, "batch_size": 16}, {"until": 900, "batch_size": 32, "iter_size": 2}],'
    ' "train_size": 5000}'
)
STARTS = [
    datetime(2015, 12, 31, 23, 30),
    datetime(2016, 2, 28, 23, 30),
    datetime(2015, 2, 28, 23),
    datetime(2016, 4, 6),
]
ODD = ["nan", "-nan", "inf", "87.3365", "1e-05", "-0", "1e400", "4.9e-324"]
KINDS = ["years", "times", "rates", "nan_rates", "rates_first", "gpus", "outputs", "two_nets", "snapshots"]
KINDS += ["phases", "pace", "momentum", "odd", "colour", "returns"]


def log_of(rng: random.Random, has: frozenset[str]) -> bytes:
    """What several processes may write, each of them resuming the one before from anywhere."""
    lines: list[str] = []
    now, pid, first, snapshots = rng.choice(STARTS) + timedelta(seconds=rng.randrange(3000)), 7, 0, [0]

    def announce(message: str, thread: int = 0) -> None:
        stamp = f"{now:%Y%m%d}" if "years" in has else f"{now:%m%d}"
        line = f"I{stamp} {now:%H:%M:%S.%f} {pid + thread:5d} solver.cpp:237] {message}" if "times" in has else message
        line = f"\x1b[32m{line}\x1b[0m" if "colour" in has and rng.random() < 0.02 else line
        lines.append(line + "\r" * ("returns" in has))

    for number in range(rng.randrange(1, 4)):
        if "phases" in has:
            announce(f'caffebench: run {{"run": "x", "header": {PHASES}}}')
        announce("Initializing solver from parameters: ")
        lines += SOLVER.splitlines()
        announce(f"Resuming from net_iter_{first}.solverstate" if number else "Using GPUs 0, 1")
        announce("Starting Optimization")
        for iteration in range(first, first + rng.choice([60, 700]) + 1):
            now += timedelta(seconds=rng.choice([0.1, 7]))
            if iteration % 70 == 0 and "snapshots" in has:
                snapshots.append(iteration)
                announce(f"Snapshotting to binary proto file net_iter_{iteration}.caffemodel")
            for net in range(1 + ("two_nets" in has)) if iteration % 50 == 0 else ():
                announce(f"Iteration {iteration}, Testing net (#{net})")
                for index, name in enumerate(["v", "v", "accuracy"] if "outputs" in has else ["accuracy"]):
                    announce(f"    Test net output #{index}: {name} = {rng.random():.5g}")
            if iteration % 5 == 0:
                loss = rng.choice(ODD) if "odd" in has and rng.random() < 0.02 else f"{7 / (1 + iteration / 200):.6g}"
                rate = "nan" if "nan_rates" in has else f"{0.1 / (1 + iteration // 300):g}"
                rate += ", m = 0.9, wd = 0.0005, gs = 1" if "momentum" in has else ""
                shown = [(f"Iteration {iteration}{' (2.5 iter/s, 2s/5 iters)' * ('pace' in has)}, loss = {loss}", 0)]
                shown += [
                    (f"    Train net output #{k}: v = {rng.random():.4g}", 0) for k in range(2 * ("outputs" in has))
                ]
                rates = [(f"Iteration {iteration}, lr = {rate}", thread) for thread in range(1 + ("gpus" in has))]
                rates *= "rates" in has
                for message, thread in rates + shown if "rates_first" in has else shown + rates:
                    announce(message, thread)
        first = rng.choice([*snapshots, iteration, max(0, iteration - rng.randrange(200))])
        pid += rng.choice([0, 10])
        now += timedelta(seconds=rng.choice([1, 40_000]))
    return "".join(f"{line}\n" for line in lines).encode()


def run_of(log: bytes, block: int) -> Run:
    """The one run of a log that is read in blocks."""
    (run,) = runs_of(log, block)
    return run


def runs_of(log: bytes, block: int, *, rng: random.Random | None = None, workers: int = 1) -> list[Run]:
    """The runs of a log that is read in blocks; with ``rng``, in pieces, and looked at while it grows."""
    with mock.patch.multiple(scanning, _BLOCK=block, _spare=[]):
        metrics, at = MetricRegistry(), 0
        scanner = LogParser(metrics, workers)
        while at < len(log):
            step = rng.randrange(1, 5000) if rng else len(log)
            scanner.feed(log[at : at + step])
            at += step
            if rng and rng.random() < 0.1:
                scanner.result()
        return make_runs(RunFiles("net", (Path("net.log"),)), [scanner.result()], metrics, 5000)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9), has=st.frozensets(st.sampled_from(KINDS)), damage=st.integers(0, 20))
def test_blocks_make_no_difference(seed: int, has: frozenset[str], damage: int) -> None:
    rng = random.Random(seed)
    log = bytearray(log_of(rng, has | {"times"} if rng.random() < 0.9 else has))
    whole = run_of(log, 1 << 22)
    blocks = run_of(log, 16384)
    assert_frame_equal(blocks.curves, whole.curves)
    for _ in range(damage):
        log[rng.randrange(len(log))] ^= 1 << rng.randrange(8)
    # Of a damaged log there may be several: a bit can make another training of one that begins anew.
    at_once, pieces = runs_of(log, 8192), runs_of(log, 8192, rng=rng)
    for grown, once in (
        *zip(pieces, at_once, strict=True),
        *zip(runs_of(log, 8192, rng=rng, workers=2), at_once, strict=True),
    ):
        assert_frame_equal(grown.curves, once.curves)
        assert grown.sessions == once.sessions
        assert (grown.status, grown.reason, grown.bad_lines) == (once.status, once.reason, once.bad_lines)
        assert repr(grown.stitched.scores) == repr(once.stitched.scores)
        assert repr((grown.seconds, grown.epochs)) == repr((once.seconds, once.epochs))


def test_a_learning_rate_before_its_train_line_is_no_row_of_its_own_where_a_block_ends() -> None:
    log = log_of(random.Random(2), frozenset({"times", "rates", "rates_first", "gpus"}))
    run = run_of(log, 8192)
    assert [name for name, _ in run.stitched.named("train")] == ["loss"]
    assert run.curve("loss", "train")["lr"].null_count() == 0


def test_a_test_is_not_parted_where_much_is_said_between_two_train_lines() -> None:
    prefix = "I0411 08:54:06.202049 10647 solver.cpp:237] "
    chatter = f"{prefix}    [Forward] Layer conv1, top blob conv1 data: 0.0645037\n" * 40
    tests = [
        f"{prefix}Iteration {k}, Testing net (#0)\n"
        + "".join(f"{prefix}    Test net output #{one}: v = 0.{one + 1}\n" for one in range(20))
        for k in range(100)
    ]
    log = f"{prefix}Iteration 0, loss = 1\n" + "".join(one + chatter for one in tests)
    run = run_of(log.encode(), 8192)
    assert run.bad_lines == 0
    assert len(run.stitched) == 1 + 100 * 20


PREFIX = b"I0411 08:54:06.202049 10647 solver.cpp:237] "


@pytest.mark.parametrize(
    "log",
    [
        b"Train net output #0: loss = 7.68 (* 1 = 7.68 loss)\\n" * 8000,
        b"Iteration 5 of 10; " * 20_000,
        b'caffebench: a {"' * 20_000,
        b"Initializing net from parameters: \n" * 20_000,
        b"Iteration 5, loss = 1" + b" " * 400_000 + b"x",
        PREFIX * 8000,
    ],
    ids=["outputs", "iterations", "events", "nets", "blanks", "prefixes"],
)
def test_long_lines_of_other_programs_take_no_more_time_than_others(log: bytes) -> None:
    """Where a pattern goes back and forth in a line, each of these takes minutes or more."""
    code = (
        "import sys\n"
        "from caffebench.analysis.read.parser import parse_bytes\n"
        "from caffebench.analysis.read.columns import MetricRegistry\n"
        "parse_bytes([sys.stdin.buffer.read()], MetricRegistry(), 1)"
    )
    subprocess.run([sys.executable, "-c", code], input=log, check=True, timeout=60)


def test_a_line_that_is_longer_than_blocks_is_passed_over() -> None:
    with mock.patch.multiple(scanning, _BLOCK=4096, _spare=[]):
        line = PREFIX + b"Iteration 5, loss = 1."
        found = parse_bytes(
            [line + b"5" * 16 * 4096 + b"\n" + PREFIX + b"Iteration 10, loss = 2\n"], MetricRegistry(), 1
        )
        assert found.rows.iteration.tolist() == [10]


@pytest.mark.slow
def test_hundreds_of_resumes_are_stitched_in_one_go(make_session: Callable[..., str]) -> None:
    """Every session rolls back the one before; looking at all before it again each time took 40 s here."""
    start = datetime(2016, 1, 1)
    texts = [
        make_session(k * 100, k * 100 + 200, pid=100 + k, resume=k > 0, at=start + timedelta(hours=k))
        for k in range(500)
    ]
    run = run_of("".join(texts).encode(), 1 << 16)
    assert (len(run.sessions), run.lost_iterations, run.iteration) == (500, 499 * 100, 50_100)
    assert run.curve("loss", "train")["iteration"].to_list() == list(range(0, 50_101, 20))


@pytest.mark.parametrize("layers", [100, 1000])
def test_a_configuration_is_of_one_block_however_small_they_are(
    make_session: Callable[..., str], write: Callable[..., Path], layers: int
) -> None:
    wiring = "".join(f"I0406 04:34:54.000000   100 net.cpp:150] l{number} <- data\n" for number in range(layers))
    net = "".join(f'layer {{ name: "l{number}" type: "Silence" bottom: "data" }}\n' for number in range(layers))
    said = f"I0406 04:34:53.000000   100 net.cpp:58] Initializing net from parameters: \n{net}"
    done = "I0406 04:34:54.500000   100 net.cpp:270] Network initialization done.\n"
    text = make_session(0, 500).replace('  layer { name: "ip"', f'  {net.rstrip()}\n  layer {{ name: "ip"')
    text = text.replace("I0406 04:34:55", f"{said}{wiring}{done}I0406 04:34:55", 1) * 3
    whole = parse_bytes([text.encode()], MetricRegistry(), 1, len(text))
    for size in (1 << 14, 50_000, 100_000):
        parted = parse_bytes([text.encode()], MetricRegistry(), 1, size)
        assert [(one.kind, one.text, one.content) for one in parted.events if one.kind != "head"] == [
            (one.kind, one.text, one.content) for one in whole.events
        ]
    packed = read_runs([write("packed.log.gz", gzip.compress(text.encode()))])
    plain = read_runs([write("plain.log", text)])
    assert [one.config for one in packed] == [one.config for one in plain]
    assert not any(one.config.cut for one in packed)
