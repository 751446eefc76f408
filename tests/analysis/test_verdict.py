"""Not converged: the logs that were published as n/c are, and no healthy run ever is, wherever one looks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from caffebench.analysis import read_runs
from caffebench.analysis.runs.losses import wired_losses
from caffebench.analysis.runs.model import Run

Session = Callable[..., str]
Write = Callable[..., Path]

FAILED = {
    "batch_size/tanh/caffenet128_lsuv_bs128_lr002.log",
    "solvers/bad/caffenet_lsuv_rmsprop_095_lr001.prototxt_2016-01-24-14-22_1453638140316891712.log",
}


def only(path: Path) -> Run:
    (run,) = read_runs([path])
    return run


@pytest.mark.parametrize("name", sorted(FAILED))
def test_what_was_published_as_not_converged_is(shared: Path, name: str) -> None:
    run = only(shared / "caffenet-benchmark" / "logs" / name)
    assert run.status == "not_converged"
    assert "guessing (ln 1000 = 6.91)" in run.reason


@pytest.mark.slow
def test_no_healthy_run_is_wherever_its_log_is_cut(shared: Path, tmp_path: Path) -> None:
    logs = shared / "caffenet-benchmark" / "logs"
    healthy = [path for path in logs.rglob("*.log") if str(path.relative_to(logs)) not in FAILED]
    assert len(healthy) == 8
    looked = 0
    for path in healthy:
        lines = path.read_bytes().splitlines(keepends=True)
        shown = [number for number, line in enumerate(lines) if b", loss = " in line]
        for stop in [*shown[3:200:17], *shown[200::2500]]:
            cut = tmp_path / "cut.log"
            cut.write_bytes(b"".join(lines[: stop + 1]))
            run = only(cut)
            assert run.status in {"stopped", "done"}, (path.name, run.iteration, run.reason)
            looked += 1
    assert looked > 90


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (lambda _: math.nan, "NaN"),
        (lambda iteration: 1.0 if iteration < 100 else math.inf, "infinite"),
        (lambda _: 87.3365, "dead softmax"),
        (lambda iteration: 2.302 + 0.001 * (iteration % 40 == 0), "stayed at guessing"),
        (lambda iteration: 2.3 + iteration / 100, "far above guessing"),
        (lambda iteration: 2.0 if iteration < 200 else 2.6, "above guessing"),
    ],
)
def test_every_rule_gives_its_reason(
    make_session: Session, write: Write, loss: Callable[[int], float], reason: str
) -> None:
    run = only(write("net.log", make_session(0, 1000, loss=loss, end="Optimization Done.")))
    assert run.status == "not_converged"
    assert reason in run.reason


LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }'
REGRESSION = '  layer { name: "box" type: "EuclideanLoss" bottom: "ip" bottom: "label" top: "box" }'


@pytest.mark.parametrize(
    ("loss", "compared"),
    [
        (LOSS, True),
        (LOSS.replace('"loss" }', '"loss" loss_param { normalize: true } }'), True),
        (LOSS.replace('"loss" }', '"loss" loss_param { normalize: false } }'), False),  # FCN: the sum over all pixels
        (LOSS.replace('"loss" }', '"loss" loss_param { normalization: NONE } }'), False),
        (LOSS.replace('"loss" }', '"loss" loss_param { normalization: VALID normalize: false } }'), True),
        (LOSS.replace("SoftmaxWithLoss", "HingeLoss"), False),
        (f"{LOSS}\n{REGRESSION}", False),
        (f"{REGRESSION}\n{LOSS}", False),
        (f"{LOSS}\n{REGRESSION.replace('top:', 'include { phase: TEST } top:')}", True),
        (f"{LOSS}\n{REGRESSION.replace('top:', 'loss_weight: 0 top:')}", True),
        (f"{LOSS}\n{REGRESSION.replace('EuclideanLoss', 'My').replace('top:', 'loss_weight: 2 top:')}", False),
    ],
)
def test_losses_are_compared_with_guessing_where_that_can_be_told(
    make_session: Session, write: Write, loss: str, compared: bool
) -> None:
    text = make_session(0, 1000, loss=lambda _: 50.0, end="Optimization Done.")
    assert LOSS in text
    run = only(write("net.log", text.replace(LOSS, loss)))
    assert run.config.classes == 10
    assert run.status == ("not_converged" if compared else "done")


@pytest.mark.parametrize(
    ("scores", "weights", "chance"),
    [
        ("32 21", [1.0], math.log(21)),
        ("32 21 1 1", [1.0], math.log(21)),
        ("1 21 500 500", [1.0], None),  # how FCN's loss is divided stands in the part of the net that is cut
        ("32 21", [0.3, 1.0], 1.3 * math.log(21)),
        ("32 21", [0.3, 1.0, 1.0], None),
    ],
)
def test_losses_as_caffe_wires_them(scores: str, weights: list[float], chance: float | None) -> None:
    said = ["Setting up data", "Top shape: 32 3 8 8 (1)", "Top shape: 32 (32)"]
    said = [
        "data -> data",
        "data -> label",
        *said,
        "ip <- data",
        "ip -> ip",
        "Setting up ip",
        f"Top shape: {scores} (9)",
    ]
    for number, weight in enumerate(weights):
        second = "ip" if number == 2 else "label"  # a regression
        said += [f"l{number} <- ip", f"l{number} <- {second}", f"l{number} -> l{number}", f"Setting up l{number}"]
        said += ["Top shape: (1)", f"    with loss weight {weight:g}"]
    found = wired_losses("\n".join(f"I0411 08:54:06.202049 10647 net.cpp:150] {one}" for one in said).encode())
    assert (found.classes, found.images, found.told) == (21, int(scores.split()[0]), True)
    assert found.guessing == (None if chance is None else pytest.approx(chance))


def test_a_plateau_counts_sooner_where_somebody_stopped_it(make_session: Session, write: Write) -> None:
    log = make_session(0, 600, loss=lambda _: 2.3026).replace("max_iter: 1000", "max_iter: 100000")
    assert only(write("running.log", log)).status == "stopped"
    stop = "*** SIGTERM (@0x3e800006dc4) received by PID 100 (TID 0x7efe25d2cac0) from PID 28100; stack trace: ***\n"
    run = only(write("stopped.log", log, stop))
    assert (run.status, "then it was stopped" in run.reason) == ("not_converged", True)


LATE = {
    "learns late": ([2.31, 2.30, 2.30, 1.2, 0.5], "stopped", ""),
    "ends at guessing": ([2.3, 1.0, *[0.1] * 8, *[2.3026] * 7], "not_converged", "collapsed to guessing"),
    "ends dead": ([2.3, 1.0, *[0.1] * 7, *[87.3365] * 8], "not_converged", "a dead softmax"),
    "one spike at its end": ([2.3, 1.0, *[0.1] * 7, 2.6], "stopped", ""),
}


@pytest.mark.parametrize(("losses", "status", "reason"), LATE.values(), ids=LATE)
def test_of_few_displays_the_end_counts(
    make_session: Session, write: Write, losses: list[float], status: str, reason: str
) -> None:
    head = make_session(0, 0).partition("I0406 04:34:55.5")[0]
    lines = (
        f"I0406 04:{35 + at:02}:00.000000   100 solver.cpp:237] Iteration {1000 * at}, loss = {loss:g}\n"
        for at, loss in enumerate(losses)
    )
    run = only(write("net.log", head, *lines))
    assert run.status == status
    assert reason in run.reason
