"""Many runs with one command."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from caffebench.launcher.plan.outcome import Outcome, exit_code
from caffebench.launcher.run.resources import Share, share_out
from caffebench.launcher.run.stopping import ONE_REQUEST


def test_two_at_a_time_and_one_that_fails(bench: Any) -> None:
    names = [bench.solver(name, max_iter=600) for name in ("a", "b", "c")]
    broken = bench.solver("broken", max_iter=600)
    text = (bench.folder / broken).read_text().replace("kernel_size: 3", "kernel_size: 30")
    (bench.folder / broken).write_text(text)
    error = bench.run(names[0], broken, *names[1:], "--jobs", 2, code=1)
    assert "broken: crashed" in error
    for name in ("a", "b", "c"):
        assert f"{name}: done at iteration 600" in error

    # Which runs are going on, from what the command says of their starts and ends.
    going, most = set[str](), 0
    for run, word in re.findall(r"^(\w+): (training from|done|crashed)", error, re.MULTILINE):
        going = going | {run} if word == "training from" else going - {run}
        most = max(most, len(going))
    assert most == 2


def test_stopped_together_and_finished_later(bench: Any) -> None:
    names = [bench.solver(name, max_iter=8000, snapshot=0, test_interval=1000) for name in ("a", "b", "c")]
    launcher = bench.start(*names, "--jobs", 2)
    for run in ("a", "b"):
        bench.wait_for("Iteration 1000 ", run=run)
    launcher.send_signal(signal.SIGINT)
    _, error = launcher.communicate(timeout=30)
    assert launcher.returncode == 3, error
    assert "SIGINT: stopping with a snapshot" in error
    assert "c: stopped at iteration 0, not started" in error
    for run in ("a", "b"):
        assert len(list((bench.folder / "snapshots").glob(f"{run}_iter_*.solverstate"))) == 1
    assert not bench.log(run="c")
    bench.run(*names, "--jobs", 3)
    assert not bench.log(3, run="a")
    assert "caffebench: resume" in bench.log(2, run="a")
    error = bench.run(*names)
    assert error.count("it was finished before") == 3


def test_one_time_limit_for_all(bench: Any) -> None:
    names = [bench.solver(name, max_iter=1000000, test_interval=100000, snapshot=0) for name in ("a", "b")]
    error = bench.run(*names, "--time-limit", "3s", code=3)
    assert re.search(r"a: stopped at iteration [1-9]\d*, the time limit is reached", error)
    assert "b: stopped at iteration 0, not started, the time limit is reached" in error


def test_a_second_ctrl_c_does_not_wait(bench: Any) -> None:
    """The child is frozen, as if in a test of hours, so that it cannot obey the first."""
    launcher = bench.start(bench.solver(max_iter=100000))
    bench.wait_for("Iteration 20 ")
    os.kill(bench.worker(), signal.SIGSTOP)
    launcher.send_signal(signal.SIGINT)
    bench.hear(launcher, "once more ends it at once")
    time.sleep(ONE_REQUEST)  # a signal before that is of the same request
    assert launcher.poll() is None
    launcher.send_signal(signal.SIGINT)
    _, error = launcher.communicate(timeout=10)
    assert launcher.returncode == 1
    assert "killed on request, without a snapshot" in error


def test_signals_close_together_are_one_request(bench: Any) -> None:
    """A logout sends two kinds, and a script that run-caffe is called from may pass on what it has got itself."""
    launcher = bench.start(bench.solver(max_iter=100000, snapshot=0, test_interval=10000))
    bench.wait_for("Iteration 20 ")
    os.kill(bench.worker(), signal.SIGSTOP)  # an iteration that takes its time
    for request in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        launcher.send_signal(request)
    error = bench.hear(launcher, "once more ends it at once")
    os.kill(bench.worker(), signal.SIGCONT)
    error += launcher.communicate(timeout=30)[1]
    assert launcher.returncode == 3, error
    assert error.count("stopping with a snapshot; once more ends it at once") == 1
    assert len(list((bench.folder / "snapshots").glob("small_iter_*.solverstate"))) == 1


def test_a_terminal_gets_a_live_table(bench: Any) -> None:
    names = [bench.solver(name, max_iter=3000) for name in ("first", "second")]
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [Path(sys.executable).parent / "run-caffe", *names, "--jobs", "2"],
        cwd=bench.folder,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "OPENBLAS_NUM_THREADS": "1"},
    )
    os.close(slave)
    bench.children.append(child)
    screen = b""
    while child.poll() is None:
        if select.select([master], [], [], 0.1)[0]:
            try:
                screen += os.read(master, 65536)
            except OSError:
                break
    assert child.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.decode())
    assert re.search(r"first\s+training\s+\S+\s+\d+/3000\s+[\d.e-]+\s+0\.\d{4}\s+[\d.]+\s+\d+ s", text), text
    assert re.search(r"second\s+done\s+\S+\s+3000/3000", text), text


def test_shares() -> None:
    assert share_out(1, (0, 1), 8) == [Share((0, 1), None)]
    assert share_out(2, (0, 1, 2), 8) == [Share((0,), 4), Share((1,), 4)]
    assert share_out(3, (), 2) == [Share((), 1)] * 3


def test_exit_codes() -> None:
    def code(*statuses: Any) -> int:
        return exit_code([Outcome("x", status, 0, "") for status in statuses])

    assert code("done", "done") == 0
    assert code("done", "stopped") == 3
    assert code("stopped", "crashed", "refused") == 1
    assert code("stopped", "refused") == 2
    assert code("not_converged", "done") == 1
