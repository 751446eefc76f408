"""Real logs, damaged byte by byte: no exception, no row that is not in the input, intact lines always recovered.

A line counts as intact where its bytes are unchanged and so is the line that says its iteration. ``-m soak`` runs
10,000 cases, and the plain suite a few.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from polars.testing import assert_frame_equal

from caffebench.analysis.read import parser as parser_module
from caffebench.analysis.read.columns import MetricRegistry
from caffebench.analysis.read.files import RunFiles
from caffebench.analysis.read.parser import parse_bytes
from caffebench.analysis.runs.model import Run
from caffebench.analysis.runs.reading import make_runs

Damage = Callable[[random.Random, bytes], bytes]


def truncate(rng: random.Random, log: bytes) -> bytes:
    low, high = sorted(rng.choices(range(len(log)), k=2))
    return log[low:high]


def splice(rng: random.Random, log: bytes) -> bytes:
    low, high = sorted(rng.choices(range(len(log)), k=2))
    return log[:low] + log[high:]


def duplicate(rng: random.Random, log: bytes) -> bytes:
    low = rng.randrange(len(log))
    high = min(len(log), low + rng.randrange(1, 5000))
    place = rng.randrange(len(log))
    return log[:place] + log[low:high] + log[place:]


def interleave(rng: random.Random, log: bytes) -> bytes:
    lines = log.splitlines(keepends=True)
    half = len(lines) // 2
    first, second = lines[:half], lines[half:]
    mixed = []
    while first or second:
        source = first if first and (not second or rng.random() < 0.5) else second
        take = rng.randrange(1, 40)
        mixed += source[:take]
        del source[:take]
    return b"".join(mixed)


def flip(rng: random.Random, log: bytes) -> bytes:
    data = bytearray(log)
    for _ in range(rng.randrange(1, 200)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def junk(rng: random.Random, log: bytes) -> bytes:
    place = rng.randrange(len(log))
    return log[:place] + rng.randbytes(rng.randrange(1, 3000)) + log[place:]


DAMAGES: list[Damage] = [truncate, splice, duplicate, interleave, flip, junk]
PREFIX = rb"^I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.cpp:\d+\] "
# What follows must not look like the rest of the number.
SHOWN = re.compile(PREFIX + rb"Iteration (\d+), loss = (-?\d+(?:\.\d+)?)\n(?![\d.eE#])", re.MULTILINE)
VALUES = re.compile(rb" = ([-+]?(?:\d+(?:[.,]\d*)?(?:e[-+]?\d+)?|nan|inf))(?![\w.#])")


def check(log: bytes) -> None:
    metrics = MetricRegistry()
    rows = parse_bytes([log], metrics).rows
    loss = [k for k, code in enumerate(rows.metric) if metrics[code].name == "loss" and metrics[code].index == -1]
    got = Counter((int(rows.iteration[k]), float(rows.value[k])) for k in loss)
    wanted = Counter(
        (int(one[1]), float(one[2])) for one in SHOWN.finditer(log) if b"\r" not in one[0] and b"\x1b" not in one[0]
    )
    assert not wanted - got, "an intact train line is missing"
    said = {float(one.replace(b",", b".")) for one in VALUES.findall(log)}
    assert {value for value in rows.value.tolist() if value == value} <= said, "a value that is not in the log"
    iterations = {int(one) for one in re.findall(rb"Iteration (\d+)", log)}
    assert set(rows.iteration.tolist()) <= iterations, "an iteration that is not in the log"
    check_runs(log)


def check_runs(log: bytes) -> None:
    """What holds of the runs of any bytes."""
    whole, blocks = made(log, 1 << 22), made(log, 1 << 22, workers=2)
    for run, other in zip(whole, blocks, strict=True):
        curve = run.curve("loss", "train")
        assert curve["iteration"].is_unique().all()
        assert (curve["seconds"].drop_nulls().diff().drop_nulls() >= 0).all()
        assert run.lost_iterations >= 0
        assert len(run.stitched) == run.curves.height
        assert_frame_equal(run.curves, other.curves)
        assert run.sessions == other.sessions
        assert repr(run.stitched.scores) == repr(other.stitched.scores)  # NaN is not equal to itself
    assert sum(one.bad_lines for one in made(log, 8192)) <= sum(one.bad_lines for one in whole) + 20


def made(log: bytes, block: int, workers: int = 1) -> list[Run]:
    """The runs of a log that is read in blocks of some size."""
    with mock.patch.multiple(parser_module, _BLOCK=block, _spare=[]):
        metrics = MetricRegistry()
        found = parse_bytes([log[at : at + 4096] for at in range(0, len(log), 4096)], metrics, workers)
        return make_runs(RunFiles("fuzz", (Path("fuzz.log"),)), [found], metrics)


def corpus(shared: Path) -> list[bytes]:
    """Pieces of the real logs of some 200 KB: a whole short one, and the surroundings of headers and resumes."""
    logs = shared / "caffenet-benchmark" / "logs"
    texts = [path.read_bytes() for path in sorted(logs.rglob("*.log"))]
    pieces = [text[:200_000] for text in texts]
    for text in texts:
        for found in list(re.finditer(rb"Resuming from", text))[:2]:
            pieces.append(text[max(0, found.start() - 150_000) : found.start() + 100_000])
    return pieces


def forms() -> list[bytes]:
    """Logs of forks, other platforms and other times: each form of a line that is read."""
    return [path.read_bytes() for path in sorted((Path(__file__).parent / "cases").rglob("*")) if path.is_file()]


def fuzz(logs: list[bytes], check: Callable[[bytes], None], cases: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(cases):
        log = rng.choice(logs)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            log = rng.choice(DAMAGES)(rng, log) or b"\n"
        try:
            check(log)
        except Exception as error:
            kept = Path(f"fuzz-{seed}-{number}.log")
            kept.write_bytes(log)
            raise AssertionError(f"case {number} of seed {seed}, kept as {kept}: {error!r}") from error


@pytest.mark.slow
def test_damaged_logs(shared: Path) -> None:
    fuzz(corpus(shared), check, 60, seed=1)


@pytest.mark.slow
def test_damaged_logs_of_every_form() -> None:
    fuzz(forms(), check_runs, 150, seed=3)


@pytest.mark.soak
def test_ten_thousand_damaged_logs(shared: Path) -> None:
    fuzz(corpus(shared), check, 10_000, seed=2)


@pytest.mark.soak
def test_ten_thousand_damaged_logs_of_every_form() -> None:
    fuzz(forms(), check_runs, 10_000, seed=4)
