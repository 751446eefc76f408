"""After a resume everything is where it was: weights identical to the bit to an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from typing import Any

import pytest

from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.state.paths import RunPaths
from caffebench.launcher.state.snapshots import newest_whole

LONG = {"max_iter": 6000, "snapshot": 250, "test_interval": 200, "init": "lsuv"}


def final_state(bench: Any, iteration: int, folder: str = "snapshots") -> tuple[bytes, bytes]:
    """Weights and solver state; the path inside the state aside."""
    path = bench.folder / folder / f"small_iter_{iteration}.solverstate"
    state = caffe_pb2().SolverState.FromString(path.read_bytes())
    state.ClearField("learned_net")
    return bench.weights(iteration, snapshots=folder), state.SerializeToString(deterministic=True)


def resume_until_done(bench: Any, kills: int, rng: random.Random) -> None:
    """Train with ``kills`` SIGKILLs, half of them to the launcher and half to its child."""
    done = 0
    for session in range(1, kills + 2):
        launcher = bench.start("small.prototxt", "--retries", 0)
        if session > kills:
            _, error = launcher.communicate(timeout=120)
            assert launcher.returncode == 0, error
            return
        # anywhere in the part of the run that this session is due to kill it in
        done = max(done, LONG["max_iter"] * (session - 1) // (kills + 1))
        target = done + rng.randrange(1, LONG["max_iter"] // (kills + 1))
        bench.wait_for(rf"Iteration {target // 20 * 20} ", session)
        if rng.random() < 0.5:
            launcher.send_signal(signal.SIGKILL)
        else:
            os.kill(bench.worker(session), signal.SIGKILL)
        launcher.communicate(timeout=30)


def check_kills(bench: Any, kills: int, seed: int) -> None:
    solver = bench.solver(**LONG)
    bench.run(solver, "--snapshots", "whole", "--logs", "whole")
    resume_until_done(bench, kills, random.Random(seed))
    sessions = len(list((bench.folder / "logs").glob("small.*.log")))
    assert sessions == kills + 1
    assert final_state(bench, LONG["max_iter"]) == final_state(bench, LONG["max_iter"], "whole")


def test_weights_are_the_same_to_the_bit_after_kills(bench: Any) -> None:
    check_kills(bench, 5, seed=1)


@pytest.mark.soak
def test_weights_are_the_same_to_the_bit_after_many_kills(bench: Any) -> None:
    check_kills(bench, 50, seed=2)


def test_and_after_a_stop_anywhere(bench: Any) -> None:
    solver = bench.solver(**{**LONG, "max_iter": 3000, "snapshot": 0})
    bench.run(solver, "--snapshots", "whole", "--logs", "whole")
    launcher = bench.start(solver)
    bench.wait_for("Iteration 1320 ")
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=30)
    bench.run(solver)
    assert final_state(bench, 3000) == final_state(bench, 3000, "whole")


def test_plain_caffe_does_not(bench: Any) -> None:
    """The reason for all this: with ``--resume caffe`` the data starts over, and the weights differ."""
    bench.run(bench.solver(**{**LONG, "max_iter": 1500}), "--snapshots", "whole", "--logs", "whole")
    bench.run(bench.solver(**{**LONG, "max_iter": 750}))
    bench.run(bench.solver(**{**LONG, "max_iter": 1500}), "--resume", "caffe")
    assert '"not_restored": ["training records (data layers start at record 0)"' in bench.log(2)
    assert final_state(bench, 1500) != final_state(bench, 1500, "whole")


def test_order_alone(bench: Any) -> None:
    """``--resume order`` continues within one pass over the data, and says what it could not restore."""
    bench.run(bench.solver(**{**LONG, "max_iter": 750}))
    bench.run(bench.solver(**{**LONG, "max_iter": 800}), "--resume", "order")
    # 751 batches of 32 records, one of them for LSUV, out of 1,437: 1,040 into the pass, or 32 batches and 16 records
    assert "random crops and mirrors are drawn anew, 16 records come once more" in bench.log(2)


def test_moved_snapshots_can_still_be_resumed(bench: Any) -> None:
    solver = bench.solver(max_iter=200)
    bench.run(solver)
    (bench.folder / "snapshots").rename(bench.folder / "moved")
    bench.run(bench.solver(max_iter=300), "--snapshots", "moved")
    bench.run(bench.solver(max_iter=300), "--snapshots", "whole", "--logs", "whole")
    assert final_state(bench, 300, "moved") == final_state(bench, 300, "whole")


def test_an_edited_prototxt_is_noticed(bench: Any) -> None:
    bench.run(bench.solver(max_iter=100))
    error = bench.run(bench.solver(max_iter=200, base_lr=0.02))
    assert "small: its settings were changed since iteration 100: base_lr: 0.01 -> 0.02; max_iter: 100 -> 200;" in error
    assert '"changed": ["base_lr: 0.01 -> 0.02", "max_iter: 100 -> 200"]' in bench.log(2)


def test_whole_snapshots_are_told_without_a_record_too(bench: Any) -> None:
    """As of plain Caffe: whatever is cut off or of something else, the one before is found."""
    bench.run(bench.solver(max_iter=200))
    paths = RunPaths("small", bench.folder / "logs", bench.folder / "snapshots")
    paths.snapshot(200).record.unlink()
    for path in (paths.snapshot(200).state, paths.snapshot(200).model):
        content = path.read_bytes()
        cuts = {f"cut at {at}": content[:at] for at in (0, 1, 9, len(content) // 2, len(content) - 1)}
        # glued: a foreign file of the right length
        for how, broken in {**cuts, "foreign": b"PK\x03\x04" * 99, "zeros": bytes(len(content))}.items():
            path.write_bytes(broken)
            said: list[str] = []
            assert newest_whole(paths, said.append) == 100, how
            assert path.name in said[0], how
            assert "taking the one before" in said[0]
        path.write_bytes(content)
        assert newest_whole(paths, said.append) == 200
    paths.snapshot(200).model.write_bytes(b"")
    assert "training from iteration 100" in bench.run(bench.solver(max_iter=220))


def test_weights_where_a_solver_state_belongs(bench: Any) -> None:
    bench.run(bench.solver(max_iter=200))
    state = bench.folder / "snapshots/small_iter_200.solverstate"
    state.write_bytes(bench.weights(200))
    (bench.folder / "snapshots/small_iter_200.json").unlink()
    error = bench.run(bench.solver(max_iter=220))
    assert "small_iter_200.solverstate holds weights (a .caffemodel), not a solver state" in error


def test_blobs_without_axes_are_whole(bench: Any) -> None:
    """One number for a whole layer: Caffe writes no shape for it, of which its files are none the less whole."""
    path = bench.folder / bench.solver(max_iter=60, snapshot=20)
    layers = """
  layer { name: "prelu" type: "PReLU" bottom: "fc1" top: "fc1" prelu_param { channel_shared: true } }
  layer { name: "scalar" type: "Scale" bottom: "fc1" top: "fc1" scale_param { num_axes: 0 bias_term: true } }
  layer { name: "bias" type: "Bias" bottom: "fc1" top: "fc1" bias_param { num_axes: 0 } }
"""
    text = path.read_text().replace('  layer { name: "relu2" type: "ReLU" bottom: "fc1" top: "fc1" }\n', layers)
    path.write_text(text)
    bench.run("small.prototxt")
    bench.run("small.prototxt", "--max-iter", 100)
    bench.run("small.prototxt", "--max-iter", 100, "--logs", "whole", "--snapshots", "whole")
    assert final_state(bench, 100) == final_state(bench, 100, "whole")
    assert "Finetuning from" in bench.run(
        "small.prototxt", "--weights", "whole/small_iter_100.caffemodel", "--fresh"
    ) + (bench.log())


def test_keep_snapshots(bench: Any) -> None:
    bench.run(bench.solver(snapshot=50, max_iter=330), "--keep-snapshots", 2)
    left = sorted(path.name for path in (bench.folder / "snapshots").glob("small*.caffemodel"))
    assert left == ["small_iter_300.caffemodel", "small_iter_330.caffemodel"]


def test_fresh_moves_the_old_files_aside(bench: Any) -> None:
    bench.run(bench.solver(max_iter=100))
    old = bench.weights(100)
    bench.run(bench.solver(max_iter=50), "--fresh")
    assert (bench.folder / "snapshots/.replaced/small.1/small_iter_100.caffemodel").read_bytes() == old
    assert not (bench.folder / "snapshots/small_iter_100.caffemodel").exists()
    assert "training from the start" in bench.run("small.prototxt", "--fresh")
    assert (bench.folder / "logs/.replaced/small.2").is_dir()


def test_a_full_disk(bench: Any) -> None:
    """A real one: a tmpfs with room for one snapshot and a half."""
    disk = bench.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=900k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        error = bench.run(bench.solver(width=64, max_iter=400), "--snapshots", "disk", code=1)
        assert "the disk of disk is full" in error
        assert "the snapshot of iteration 100 is intact" in error
        subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
        assert "training from iteration 100" in bench.run(bench.solver(width=64, max_iter=400), "--snapshots", "disk")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
