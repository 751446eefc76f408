"""Whole runs, on real Caffe, through the command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from caffebench.analysis import read_runs
from caffebench.engine.blas import blas_environment
from caffebench.engine.locate import caffe_tool
from caffebench.launcher.state.record import read_record, write_record


def events(log: str, name: str) -> list[dict[str, Any]]:
    """Our own lines of one kind in a log."""
    return [json.loads(text) for text in re.findall(rf"caffebench: {name} (\{{.*\}})$", log, re.MULTILINE)]


def iterations(log: str) -> list[int]:
    """Iterations of the displayed losses."""
    return [int(n) for n in re.findall(r"Iteration (\d+) \(.*loss = ", log)]


def test_a_run_from_start_to_end(bench: Any) -> None:
    error = bench.run(bench.solver(init="lsuv"))
    assert "small: done at iteration 400, accuracy 0." in error
    log = bench.log()
    assert events(log, "run")[0]["header"] == {"variant": "small", "init": "lsuv", "profile": "digits"}
    layers = {event["layer"]: event for event in events(log, "init")}
    assert abs(layers["conv1"]["variance_after"] - 1) < 0.05
    assert events(log, "end") == [{"status": "done", "iteration": 400, "reason": ""}]
    assert iterations(log) == list(range(0, 400, 20))
    assert float(re.findall(r"accuracy = (\S+)", log)[-1]) > 0.9
    names = {path.name for path in (bench.folder / "snapshots").glob("small*")}
    assert names == {f"small_iter_{n}.{e}" for n in (100, 200, 300, 400) for e in ("caffemodel", "solverstate", "json")}
    assert "it was finished before" in bench.run("small.prototxt")
    assert not bench.log(2)


def test_the_log_says_what_caffe_train_says(bench: Any) -> None:
    """Line for line, but for the times, the paths of snapshots and our own lines."""
    solver = bench.solver(mirror="false")
    text = (bench.folder / solver).read_text().replace('type: "Dropout"', 'type: "ReLU"')
    (bench.folder / solver).write_text(re.sub(r"dropout_param \{.*?\}", "", text))
    bench.run(solver, "--layers", "caffe")
    (bench.folder / "snapshots" / "plain").mkdir()
    command = [caffe_tool(), "train", "-solver", solver]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLOG_")}
    environment["OPENBLAS_NUM_THREADS"] = "1"  # as the bench has it: two threads add up in another order
    environment |= blas_environment()  # other kernels, too
    plain = subprocess.run(command, cwd=bench.folder, env=environment, capture_output=True, text=True, check=True)

    def said(log: str) -> list[str]:
        training = log[log.index("] Starting Optimization") :]
        lines = [line.partition("] ")[2] for line in training.splitlines()]
        return [
            re.sub(r"\(.*? iters\)|snapshots\S*", "", line)
            for line in lines
            if not line.startswith(("caffebench:", "Restarting data", "Waiting for data"))
        ]

    # Without dropout and mirroring nothing is drawn after the start, so that even the figures must agree.
    assert said(bench.log()) == said(plain.stderr)


def test_a_net_that_glog_cuts_hides_no_setting(bench: Any) -> None:
    solver = bench.solver(max_iter=40)
    text = (bench.folder / solver).read_text()
    long = "".join(
        f'layer {{ name: "{"silent" * 30}{n}" type: "Silence" bottom: "label" include {{ stage: "never" }} }}\n'
        for n in range(200)
    )
    text = text.replace("net_param {\n", f"net_param {{\n{long}", 1).replace("max_iter", "iter_size: 3\nmax_iter", 1)
    (bench.folder / solver).write_text(text)
    bench.run(solver)
    log = bench.log()
    assert "iter_size: 3" not in log.replace("\\niter_size: 3", ""), "glog cut it"
    (run,) = read_runs([bench.folder / "logs"])
    assert (run.config.iter_size, run.config.batch_size, run.train_size) == (3, 3 * 32, 1437)
    assert run.epochs == pytest.approx(40 * 96 / 1437, abs=1e-6)
    assert not run.notes


def test_epochs_are_of_the_data_that_are_there(bench: Any) -> None:
    solver = bench.solver(max_iter=40)
    path = bench.folder / solver
    path.write_text(
        path.read_text().replace("# caffebench: init", "# caffebench: train_size: 60000\n# caffebench: init", 1)
    )
    assert "made for 60,000 training images and the LMDB has 1,437" in bench.run(solver)
    (run,) = read_runs([bench.folder / "logs"])
    assert run.train_size == 1437
    assert run.epochs == pytest.approx(40 * 32 / 1437, abs=1e-6)
    (told,) = read_runs([bench.folder / "logs"], train_size=1000)
    assert told.epochs == pytest.approx(40 * 32 / 1000), "what the user says counts"


def test_killed_in_the_middle_and_resumed(bench: Any, alive: Callable[[int], bool]) -> None:
    solver = bench.solver(max_iter=4000, snapshot=500)
    launcher = bench.start(solver)
    bench.wait_for(r"Iteration 12\d0 ")
    pid = bench.worker()
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    end = time.monotonic() + 5
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(pid), "the launcher left its child behind"
    bench.run(solver)
    resume = events(bench.log(2), "resume")[0]
    assert resume["iteration"] % 500 == 0
    assert resume["iteration"] >= 1000
    assert resume["not_restored"] == []
    first = [n for n in iterations(bench.log(1)) if n < resume["iteration"]]
    assert first + iterations(bench.log(2)) == list(range(0, 4000, 20))


def test_a_dead_child_is_noticed_and_started_again(bench: Any) -> None:
    launcher = bench.start(bench.solver(max_iter=4000, snapshot=500), "--retries", 1)
    bench.wait_for(r"Iteration 7\d0 ")
    os.kill(bench.worker(), signal.SIGSEGV)
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, error
    assert "Caffe was ended by SIGSEGV; retry 1 of 1 in 2 s" in error
    assert events(bench.log(1), "end")[0]["status"] == "crashed"
    assert events(bench.log(2), "resume")[0]["iteration"] == 500


def test_a_run_goes_on_when_nobody_can_hear_of_it_any_more(bench: Any) -> None:
    """The terminal is closed, or what the command was piped into has ended: no reason to end a run, or not to retry."""
    launcher = bench.start(bench.solver(max_iter=2000), "--retries", 1)
    bench.wait_for("Iteration 120 ")
    launcher.stderr.close()
    os.kill(bench.worker(), signal.SIGSEGV)
    launcher.stderr = None
    launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    assert [events(bench.log(session), "end")[0]["status"] for session in (1, 2)] == ["crashed", "done"]


def test_ctrl_c_and_term_stop_with_a_snapshot(bench: Any) -> None:
    solver = bench.solver(max_iter=8000, snapshot=0, test_interval=1000)
    stopped_at = None
    for session, request in ((1, signal.SIGINT), (2, signal.SIGTERM)):
        launcher = bench.start(solver)
        bench.wait_for(rf"Iteration {session}\d00 ", session)
        launcher.send_signal(request)
        _, error = launcher.communicate(timeout=30)
        assert launcher.returncode == 3, error
        end = events(bench.log(session), "end")[0]
        assert end["status"] == "stopped"
        assert (bench.folder / f"snapshots/small_iter_{end['iteration']}.solverstate").is_file()
        if session == 2:
            assert events(bench.log(2), "resume")[0]["iteration"] == stopped_at
        stopped_at = end["iteration"]
    bench.run(solver, "--max-iter", stopped_at + 50)


def test_stopped_in_the_middle_of_a_test(bench: Any) -> None:
    """Caffe's tests can take an hour; this one would take minutes."""
    solver = bench.solver(snapshot=0, extra="test_initialization: false\n")
    path = bench.folder / solver
    path.write_text(path.read_text().replace("test_iter: 7\n", "test_iter: 9000000\n"))
    launcher = bench.start(solver)
    bench.wait_for(r"Iteration 100, Testing net \(#0\)")
    launcher.send_signal(signal.SIGTERM)
    _, error = launcher.communicate(timeout=30)
    assert launcher.returncode == 3, error
    assert "small: stopped at iteration 100, asked to stop" in error
    path.write_text(path.read_text().replace("test_iter: 9000000\n", "test_iter: 7\n"))
    bench.run(solver)
    assert "Iteration 100, Testing net" in bench.log(2), "the test that was cut off is done again"


def stop_early(bench: Any, delay: float, request: signal.Signals = signal.SIGINT, run: str = "small") -> None:
    """Stop a run that would not end by itself, ``delay`` seconds after its log is there, and resume it."""
    solver = bench.solver(run, max_iter=1000000, snapshot=0, test_interval=500, init="lsuv")
    launcher = bench.start(solver)
    while not (bench.folder / f"logs/{run}.001.log").exists():
        time.sleep(0.001)
    time.sleep(delay)
    launcher.send_signal(request)
    _, error = launcher.communicate(timeout=30)
    assert launcher.returncode == 3, error
    stopped = re.search(rf"{run}: stopped at iteration (\d+), asked to stop(, nothing was trained)?", error)
    assert stopped is not None, error
    at = int(stopped[1])
    (end,) = events(bench.log(run=run), "end")
    assert (end["status"], end["iteration"]) == ("stopped", at)
    assert (at == 0) == (stopped[2] is not None) == (not list((bench.folder / "snapshots").glob(f"{run}_*")))
    where = f"from iteration {at}" if at else "from the start"
    assert f"training {where}" in bench.run(solver, "--max-iter", at + 20)


@pytest.mark.parametrize("delay", [0, 0.001, 0.002, 0.005, 0.1, 0.2, 0.3])
def test_stopped_before_it_has_begun_or_just_after(bench: Any, delay: float) -> None:
    """While the child starts, while it builds the net and opens the data, in its first iterations."""
    stop_early(bench, delay)


@pytest.mark.soak
def test_stopped_at_any_time_near_the_start(bench: Any) -> None:
    for step in range(100):
        stop_early(bench, step / 50, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[step % 3], f"run{step}")


def test_stopped_when_it_is_ending(bench: Any) -> None:
    """Either comes first, and the exit code says which: a signal changes nothing that has been said."""
    for delay in (0, 10, 20, 30, 40, 60, 80, 100, 200):
        run = f"run{delay}"
        launcher = bench.start(bench.solver(run))
        bench.wait_for("Iteration 380 ", run=run)
        time.sleep(delay / 1000)
        launcher.send_signal(signal.SIGINT)
        _, error = launcher.communicate(timeout=30)
        (end,) = events(bench.log(run=run), "end")
        assert (launcher.returncode, end["status"]) in ((0, "done"), (3, "stopped")), error
        assert f"{run}: {end['status']} at iteration {end['iteration']}" in error


def test_a_long_way_to_the_first_iteration_can_be_stopped(bench: Any) -> None:
    """Running the data forward can take hours; nothing is lost when that is left off, on request or in time."""
    solver = bench.solver(max_iter=100)
    bench.run(solver)
    path = bench.folder / "snapshots/small_iter_100.json"
    record = read_record(path)
    assert record is not None
    write_record(path, replace(record, train_batches=10**9))
    launcher = bench.start(bench.solver(max_iter=200), "--resume", "exact")
    bench.wait_for("Resuming from", 2)
    time.sleep(0.3)
    launcher.send_signal(signal.SIGINT)
    _, error = launcher.communicate(timeout=30)
    assert launcher.returncode == 3, error
    assert "small: stopped at iteration 100, asked to stop, nothing was trained" in error
    begun = time.monotonic()
    error = bench.run(bench.solver(max_iter=200), "--resume", "exact", "--time-limit", "4s", code=3)
    assert "small: stopped at iteration 100, the time limit is reached, nothing was trained" in error
    assert "Starting Optimization" not in bench.log(3)
    assert time.monotonic() - begun < 30, "what is left would take minutes"


def test_a_solver_that_names_its_net_in_a_file(bench: Any) -> None:
    """With a net in the layout before 2014's end, and with one of today."""
    text = (bench.folder / bench.solver(max_iter=40)).read_text()
    net, solver = text[: text.index("test_iter")], text[text.index("test_iter") :]
    net = net[net.index('  name: "small"') : net.rindex("}")]
    (bench.folder / "nets").mkdir()
    (bench.folder / "nets/net.prototxt").write_text(net)
    (bench.folder / "small.prototxt").write_text('net: "nets/net.prototxt"\n' + solver)
    bench.run("small.prototxt")
    assert "Creating training net specified in net_param." in bench.log()
    old = """
        layers { name: "data" type: DATA top: "data" top: "label"
                 data_param { source: "data/digits/train_lmdb" backend: LMDB batch_size: 32 } }
        layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "fc" inner_product_param { num_output: 10 } }
        layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" }
    """
    (bench.folder / "nets/old.prototxt").write_text(old)
    (bench.folder / "old.prototxt").write_text('net: "nets/old.prototxt"\n' + solver)
    bench.run("old.prototxt")
    assert "Creating training net specified in net_param." in bench.log(run="old")


def test_a_failed_check_is_a_message(bench: Any) -> None:
    solver = bench.solver()
    text = (bench.folder / solver).read_text().replace("kernel_size: 3", "kernel_size: 30")
    (bench.folder / solver).write_text(text)
    error = bench.run(solver, code=1)
    assert error.count("\n") == 3
    assert re.search(r"small: crashed at iteration 0, Caffe gave up: \S+\.cpp Check failed: .*", error)
    assert events(bench.log(), "end")[0]["status"] == "crashed"
    assert not bench.log(2), "what fails while the net is built fails every time: no retry"


def test_caffe_train_takes_the_same_file(bench: Any) -> None:
    (bench.folder / "snapshots").mkdir()
    solver = bench.solver()
    subprocess.run([caffe_tool(), "train", "-solver", solver], cwd=bench.folder, capture_output=True, check=True)
    assert (bench.folder / "snapshots/small_iter_400.caffemodel").is_file()
    # and what caffe train left can be trained on
    assert "from iteration 400" in bench.run(solver, "--max-iter", 450)
