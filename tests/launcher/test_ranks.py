"""One run on two GPUs, with no GPU: real Caffe on the CPU, and a stand-in for what it lacks there.

The command, its processes, Caffe's solvers, data layers and snapshots are real. Not real are the two cards and NCCL,
which ``two_gpus/`` stands in for; what NCCL itself does on cards is not seen here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffebench.engine.features import caffe_has_nccl
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.plan.planning import same_images
from caffebench.launcher.solver.solverfile import read_solver

STAND_IN = Path(__file__).parent / "two_gpus"
GPUS = ("--gpu", "0,1")


@pytest.fixture(scope="session")
def nccl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "g++"))), None)
    if compiler is None:
        pytest.skip("the stand-in for NCCL has to be compiled, and there is no C compiler")
    folder = tmp_path_factory.mktemp("nccl")
    command = [compiler, "-shared", "-fPIC", "-o", folder / "libnccl.so.2", STAND_IN / "nccl.c"]
    subprocess.run(list(map(str, command)), check=True)
    return folder


@pytest.fixture
def two(bench: Any, nccl_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bench, on a machine with two cards; no process of it may be left."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    if not caffe_has_nccl():  # else the ids are those of the real one
        monkeypatch.setenv("LD_LIBRARY_PATH", str(nccl_folder))
    yield bench
    deadline = time.monotonic() + 10
    while (left := processes(bench)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, "processes are left behind"


def processes(bench: Any, module: str = "caffebench.launcher") -> dict[int, int]:
    """The processes of ``module`` in the bench's folder, each with its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().decode()
            if module in command and (path / "cwd").readlink() == bench.folder:
                found[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def guard_and_rank(bench: Any) -> tuple[int, int]:
    """The processes of rank 1: its guard, which rank 0 has started, and the guard's child, which trains."""
    ranks = processes(bench, "caffebench.launcher.run.ranks")
    ((rank, guard),) = [(pid, parent) for pid, parent in ranks.items() if parent in ranks]
    return guard, rank


def plain(bench: Any, name: str = "small", header: str = "", **values: object) -> Path:
    """A net whose gradient is the mean of those of its records: no BatchNorm, and nothing random."""
    solver: Path = bench.solver(name, mirror="false", **values)
    path = bench.folder / solver
    text = re.sub(r'^  layer \{ name: "(bn1|scale1|drop)".*\n', "", path.read_text(), flags=re.MULTILINE)
    path.write_text(header + text)
    return solver


def weights(bench: Any, iteration: int, folder: str) -> dict[str, list[np.ndarray[Any, Any]]]:
    net = caffe_pb2().NetParameter.FromString(bench.weights(iteration, snapshots=folder))
    return {layer.name: [np.asarray(blob.data) for blob in layer.blobs] for layer in net.layer if layer.blobs}


def largest_difference(bench: Any, iteration: int, first: str, second: str) -> float:
    """Of any weight, in parts of the largest one of its blob."""
    one, two = weights(bench, iteration, first), weights(bench, iteration, second)
    assert one.keys() == two.keys()
    return max(
        float(np.abs(a - b).max() / np.abs(a).max()) for name in one for a, b in zip(one[name], two[name], strict=True)
    )


@pytest.mark.parametrize(
    "extra", ["", "layer_wise_reduce: false\n", "iter_size: 2\n"], ids=["layers", "whole", "parts"]
)
def test_two_with_a_batch_each_are_one_with_twice_the_batch(two: Any, extra: str) -> None:
    """So each record is read by one of them, and the gradient is the mean over both."""
    values = {"max_iter": 200, "extra": extra}
    error = two.run(plain(two, batch=16, **values), *GPUS)
    assert "2 GPUs train together: the batch size in the file is that of each GPU" in error
    assert "every iteration takes 2 times as many images; divide batch_size by 2 to train as on one" in error
    assert "Using GPUs 0, 1" in two.log()
    size = 2 if "iter_size" in extra else 1
    assert f"A batch of {16 * size} on each of 2 GPUs: {32 * size} records an iteration" in two.log()
    two.run(plain(two, batch=32, **values), "--cpu", "--snapshots", "one", "--logs", "one")
    two.run(plain(two, batch=16, **values), "--cpu", "--snapshots", "half", "--logs", "half")
    assert largest_difference(two, 200, "snapshots", "one") < 1e-4
    assert largest_difference(two, 200, "snapshots", "half") > 0.01, "the measure cannot tell"


def test_schedule_and_data_loading_workers_are_those_of_all_ranks(two: Any) -> None:
    header = (
        "# caffebench: lr_schedule: {policy: cosine, warmup: 20, min_lr: 0.0001}\n# caffebench: loader: {workers: 2}\n"
    )
    two.run(plain(two, header=header, batch=16, max_iter=200, lr_policy="fixed"), *GPUS)
    one = plain(two, header=header, batch=32, max_iter=200, lr_policy="fixed")
    two.run(one, "--cpu", "--snapshots", "one", "--logs", "one")
    assert largest_difference(two, 200, "snapshots", "one") < 1e-4


def test_two_runs_have_a_card_each(two: Any) -> None:
    two.run(*(two.solver(name, max_iter=100) for name in ("a", "b")), *GPUS, "--jobs", 2)
    logs = two.log(run="a") + two.log(run="b")
    assert sorted(re.findall(r"Using GPUs (.*)", logs)) == ["0", "1"]
    assert "records an iteration" not in logs


def test_phases_start_the_ranks_anew(two: Any) -> None:
    def header(*batches: int) -> str:
        first, second = batches
        return f"# caffebench: phases: [{{until: 100, batch_size: {first}}}, {{until: 200, batch_size: {second}}}]\n"

    two.run(plain(two, header=header(16, 32), max_iter=200), *GPUS)
    assert re.findall(r"A batch of (\d+) on each", two.log()) == ["16", "32"]
    two.run(plain(two, header=header(32, 64), max_iter=200), "--cpu", "--snapshots", "one", "--logs", "one")
    assert largest_difference(two, 200, "snapshots", "one") < 1e-4


@pytest.mark.parametrize("request_", [signal.SIGINT, signal.SIGTERM])
def test_all_stop_with_one_snapshot_and_go_on(two: Any, request_: signal.Signals) -> None:
    """At any iteration; the records of both continue where they were, so that the weights are those without a stop."""
    solver = plain(two, max_iter=2000, snapshot=0, test_interval=500, init="lsuv")
    launcher = two.start(solver, *GPUS)
    two.wait_for(r"Iteration 520 ")
    assert len(processes(two, "caffebench.launcher.run.ranks")) == 2
    launcher.send_signal(request_)
    _, error = launcher.communicate(timeout=30)
    assert launcher.returncode == 3, error
    stopped = re.search(r"small: stopped at iteration (\d+), asked to stop", error)
    assert stopped is not None, error
    states = [path.name for path in (two.folder / "snapshots").glob("*.solverstate")]
    assert states == [f"small_iter_{stopped[1]}.solverstate"]
    assert f"training from iteration {stopped[1]}" in two.run(solver, *GPUS)
    assert '"not_restored": ["random streams (seeded anew)"]' in two.log(2), "nothing is drawn here"
    two.run(solver, *GPUS, "--snapshots", "whole", "--logs", "whole")
    assert two.weights(2000) == two.weights(2000, snapshots="whole")


def test_killed_and_resumed_to_the_bit(two: Any) -> None:
    """Dropout, mirroring, BatchNorm: the records of both ranks and what each draws continue where they were."""
    solver = two.solver(max_iter=1500, snapshot=250, init="lsuv")
    two.run(solver, *GPUS, "--snapshots", "whole", "--logs", "whole")
    launcher = two.start(solver, *GPUS)
    two.wait_for("Iteration 860 ")
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    two.run(solver, *GPUS)
    assert '"not_restored": []' in two.log(2)
    assert two.weights(1500) == two.weights(1500, snapshots="whole")


@pytest.mark.parametrize(
    ("which", "told"),
    [(1, "GPU 1 was ended by SIGKILL"), (0, "another GPU ended")],
    ids=["rank", "guard"],
)
def test_when_one_dies_all_are_started_again(two: Any, alive: Callable[[int], bool], which: int, told: str) -> None:
    launcher = two.start(two.solver(max_iter=3000, snapshot=250), *GPUS, "--retries", 1)
    two.wait_for("Iteration 620 ")
    others = [two.worker(), *processes(two, "caffebench.launcher.run.ranks")]
    assert len(others) == 3
    os.kill(guard_and_rank(two)[which], signal.SIGKILL)
    two.wait_for("caffebench: resume", 2)
    assert not any(map(alive, others))
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, error
    assert f"small: Caffe's process on {told}; retry 1 of 1 in 2 s" in error
    resumed = int(re.findall(r'caffebench: resume .*"iteration": (\d+)', two.log(2))[0])
    assert resumed in range(500, 3000, 250)


def test_a_signal_to_all_processes_is_rank_0s_affair(two: Any) -> None:
    """As a cluster sends it to all of a job."""
    launcher = two.start(two.solver(max_iter=100000, snapshot=0, test_interval=10000), *GPUS)
    two.wait_for("Iteration 100 ")
    for pid in [*processes(two, "caffebench.launcher.run.ranks"), two.worker(), launcher.pid]:
        os.kill(pid, signal.SIGTERM)
    _, error = launcher.communicate(timeout=30)
    assert launcher.returncode == 3, error
    assert len(list((two.folder / "snapshots").glob("small_iter_*.solverstate"))) == 1


def test_a_signal_is_not_too_early_for_any_of_them(two: Any) -> None:
    """It leaves the ranks alone from the moment that they are there, though Python takes a while to start."""
    launcher = two.start(two.solver(max_iter=40), *GPUS, "--retries", 0)
    while not (young := processes(two, "caffebench.launcher.run.ranks")):
        assert launcher.poll() is None
    for pid in young:
        os.kill(pid, signal.SIGTERM)
    _, error = launcher.communicate(timeout=30)
    assert launcher.returncode == 0, error


@pytest.mark.parametrize(("order", "same"), [("", True), ("shuffle: true", False), ("rand_skip: 30", False)])
def test_image_files_that_go_to_both_are_told_of(two: Any, order: str, same: bool) -> None:
    """Of a Caffe with OpenCV, which alone has this layer."""
    path = two.folder / two.solver(max_iter=1)
    layer = f'type: "ImageData" image_data_param {{ source: "list" batch_size: 8 {order} }}'
    path.write_text(re.sub(r'type: "Data"(.*?)data_param {.*?}', rf"{layer}\1", path.read_text(), count=1, flags=re.S))
    said = same_images(read_solver(path), 2)
    assert [" (ImageData without shuffle) gives all 2 GPUs the same images, so that they" in one for one in said] == (
        [True] if same else []
    )


def test_what_both_find_wrong_is_said_once(two: Any) -> None:
    two.run(two.solver(max_iter=40), *GPUS)
    error = two.run(two.solver(width=16, max_iter=80), *GPUS, code=2)
    assert "small_iter_40.caffemodel is of another network" in error
    assert error.count("another network") == 1


def test_what_is_to_be_measured_on_two_cards(two: Any) -> None:
    """The part of ``scripts/gpu-acceptance`` for several cards, which a machine with one leaves out."""
    script = Path(__file__).parents[2] / "scripts" / "gpu-acceptance"
    command = [sys.executable, script, "--devices", "cpu,cpu", "--only", "cards", "--folder", two.folder]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in done.stdout.splitlines() if line.startswith("| cards")]
    assert [row[1] for row in rows] == [
        "GPUs 0,1, weights against one with twice the batch",
        "killed and resumed",
        "final weights against no kill",
    ]
    assert [row[4] for row in rows] == ["ok"] * 3
    assert "Using GPUs 0, 1" in (two.folder / "cards/logs/shared.001.log").read_text()
    assert "Using GPUs 0, 1" in (two.folder / "cards-killed/logs/bs64.002.log").read_text()
