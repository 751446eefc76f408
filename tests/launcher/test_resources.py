"""What a run's process is told of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.run import resources
from caffebench.launcher.run.resources import SPIN, child_environment
from caffebench.launcher.solver.identity import Identity

PLAN = Plan("run", "run.prototxt", "", 100, Identity("", "", "", "", {}), layers="fast", threads=2)


@pytest.fixture(autouse=True)
def _no_wishes_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def busy() -> Iterator[None]:
    """A machine whose processors all compute."""
    children = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    time.sleep(0.5)
    yield
    for child in children:
        child.kill()
        child.wait()


@pytest.mark.usefixtures("busy")
def test_threads_sleep_where_others_compute() -> None:
    environment = child_environment(PLAN)
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "GOMP_SPINCOUNT" not in environment


def test_threads_wait_awake_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the machine is idle is made up: other tests run on it."""
    monkeypatch.setattr(resources, "_idle", lambda _cores: 1.9)
    assert child_environment(PLAN)["GOMP_SPINCOUNT"] == str(SPIN)
    assert "GOMP_SPINCOUNT" not in child_environment(replace(PLAN, threads=3))
    assert "GOMP_SPINCOUNT" not in child_environment(replace(PLAN, threads=1))
    assert "GOMP_SPINCOUNT" not in child_environment(replace(PLAN, header={"loader": {"workers": 2}}))
    assert "GOMP_SPINCOUNT" not in child_environment(replace(PLAN, layers="caffe"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert "GOMP_SPINCOUNT" not in child_environment(PLAN)


@pytest.mark.usefixtures("busy")
def test_how_many_processors_are_idle() -> None:
    cores = os.sched_getaffinity(0)
    assert 0 <= resources._idle(cores) < 0.5 * len(cores)
