"""Killing a run again and again, wherever it is, and comparing what it comes to with a run that nobody killed."""

from __future__ import annotations

import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from soaking.kinds import Kind

__all__ = ["PLACES", "Trial", "run_trial"]

PLACES = ("start", "LSUV", "fast-forward", "training", "test", "snapshot")
"""Where a kill can hit: while the net is built, ..., while a snapshot is written and checked."""
ITERATIONS, SNAPSHOT = 1000, 150
RUN_CAFFE = Path(sys.executable).parent / "run-caffe"


@dataclass
class Trial:
    """What became of one kind of run."""

    kind: Kind
    folder: Path
    killed: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    retrained: int = 0
    """Iterations that were trained more than once."""
    wrong: list[str] = field(default_factory=list)
    """What is not as in the run that nobody killed; empty where all is."""

    @property
    def runs(self) -> list[str]:
        """Names of its runs."""
        return [f"{self.kind.name}{number}" for number in range(self.kind.runs)]


def run_trial(kind: Kind, folder: Path, kills: int, rng: random.Random) -> Trial:
    """Train ``kind`` to its end once in peace and once with ``kills`` SIGKILLs, and compare."""
    trial = Trial(kind, folder)
    for number, run in enumerate(trial.runs):
        (folder / f"{run}.prototxt").write_text(kind.text(ITERATIONS, SNAPSHOT, seed=number + 1))
    _finish(trial, "peace")
    targets = _targets(kind, kills, rng)
    for number, target in enumerate(targets):
        _session(trial, target, number / kills, rng)
    _finish(trial, "killed")
    _compare(trial)
    return trial


def _targets(kind: Kind, kills: int, rng: random.Random) -> list[str]:
    """Where each kill is to hit: LSUV is run at the very beginning only, all else all the way."""
    lsuv = any("lsuv" in line for line in kind.header)
    first = ["start", *(["LSUV", "LSUV"] if lsuv else [])][: max(kills - 1, 0)]
    rest = ["training", "snapshot", "test", "fast-forward", "snapshot", "training", "start", "fast-forward"]
    later = [rest[number % len(rest)] for number in range(kills - len(first))]
    rng.shuffle(later)
    return first + later


def _command(trial: Trial, name: str) -> list[str]:
    files = [f"{run}.prototxt" for run in trial.runs]
    jobs = ["--jobs", str(len(files))] if len(files) > 1 else []
    return [
        str(RUN_CAFFE),
        *files,
        *jobs,
        "--cpu",
        "--retries",
        "0",
        "--logs",
        f"{name}/logs",
        "--snapshots",
        f"{name}/s",
    ]


def _start(trial: Trial, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(trial, name),
        cwd=trial.folder,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _finish(trial: Trial, name: str) -> None:
    child = _start(trial, name)
    _, error = child.communicate(timeout=600)
    if child.returncode != 0:
        trial.wrong.append(f"exit code {child.returncode}: {error.strip().splitlines()[-1]}")


def _session(trial: Trial, target: str, progress: float, rng: random.Random) -> None:
    """One session, killed at ``target``; ``progress`` of the kills have been before."""
    folder = trial.folder / "killed"
    last = f"_iter_{ITERATIONS}.solverstate"
    run = rng.choice([one for one in trial.runs if not (folder / "s" / f"{one}{last}").exists()] or trial.runs)
    before = len(list((folder / "logs").glob(f"{run}.*.log")))
    launcher = _start(trial, "killed")
    log = folder / "logs" / f"{run}.{before + 1:03}.log"
    goal = int(ITERATIONS * min(progress + rng.random() / 12, 0.97))
    reached = _signs(target, log, folder / "s", run, goal)
    while launcher.poll() is None and not reached():
        time.sleep(0.001)
    time.sleep(rng.random() * {"start": 0.4, "LSUV": 0.01, "fast-forward": 0.02, "test": 0.02}.get(target, 0.004))
    pid = re.search(r'"pid": (\d+)', _text(log))
    killed = launcher.poll() is None
    if killed:
        if pid is None or rng.random() < 0.5:
            launcher.send_signal(signal.SIGKILL)
        else:
            os.kill(int(pid[1]), signal.SIGKILL)
            if len(trial.runs) > 1:  # the others would be trained to their end
                launcher.send_signal(signal.SIGKILL)
    _, error = launcher.communicate(timeout=600)
    if launcher.returncode not in (-signal.SIGKILL, 1, 0) or "Traceback" in error:
        trial.wrong.append(f"exit code {launcher.returncode}: {error.strip().splitlines()[-1]}")
    if killed:
        trial.killed[_place(log, folder / "s", run)] += 1


def _signs(target: str, log: Path, snapshots: Path, run: str, goal: int) -> Callable[[], bool]:
    """Tells whether the place to kill at is reached, or the training has come so far without it."""

    def far() -> bool:
        return max((int(n) for n in re.findall(r"Iteration (\d+)", _text(log))), default=0) >= goal + 2 * SNAPSHOT

    def writing() -> bool:
        names = os.listdir(snapshots / ".partial") if (snapshots / ".partial").is_dir() else []
        return any(name.startswith(f"{run}_iter_") for name in names)

    def after(pattern: str) -> bool:
        return any(int(n) >= goal for n in re.findall(pattern, _text(log)))

    signs = {
        "start": log.exists,
        "LSUV": lambda: "caffebench: init " in _text(log),
        "fast-forward": lambda: "Resuming from" in _text(log),
        "training": lambda: after(r"Iteration (\d+) \("),
        "test": lambda: after(r"Iteration (\d+), Testing net"),
        "snapshot": lambda: log.exists() and writing(),
    }
    return lambda: signs[target]() or far()


def _text(log: Path) -> str:
    return log.read_text(errors="replace") if log.is_file() else ""


def _place(log: Path, snapshots: Path, run: str) -> str:
    """Where a kill has hit, by what it left behind."""
    if any(path.name.startswith(f"{run}_iter_") for path in (snapshots / ".partial").glob("*")):
        return "snapshot"
    text = _text(log)
    if "Starting Optimization" not in text:
        if "caffebench: init " in text:
            return "LSUV"
        return "fast-forward" if "Resuming from" in text else "start"
    lines = [line for line in text.splitlines() if "caffebench: end" not in line]
    return "test" if re.search(r"Testing net|Test net output", lines[-1]) else "training"


LOSS = re.compile(r"Iteration (\d+) \(.*?, loss = (\S+)")
SCORE = re.compile(r"Iteration (\d+), Testing net|Test net output #(\d+): (\S+ = \S+)")


def _curve(folder: Path, run: str) -> dict[str, str]:
    """Every displayed figure of a run, that of the last session that has it."""
    figures: dict[str, str] = {}
    for log in sorted((folder / "logs").glob(f"{run}.*.log")):
        text = _text(log)
        figures.update({f"loss at {number}": value for number, value in LOSS.findall(text)})
        at = ""
        for iteration, output, value in SCORE.findall(text):
            at = iteration or at
            if output:
                figures[f"test at {at}, {value.split(' = ')[0]}"] = value
    return figures


def _same(key: str, one: str, two: str) -> bool:
    """Figures of tests are the same to the digit; of displayed losses the last one may differ.

    Caffe adds up what the loss changes by, in single precision (``Solver::UpdateSmoothedLoss``), and begins anew with
    each session.
    """
    return one == two or (key.startswith("loss") and math.isclose(float(one), float(two), rel_tol=2e-5, abs_tol=2e-5))


def _compare(trial: Trial) -> None:
    peace, killed = trial.folder / "peace", trial.folder / "killed"
    for run in trial.runs:
        logs = sorted((killed / "logs").glob(f"{run}.*.log"))
        trial.sessions += len(logs)
        starts = [re.search(r'caffebench: resume \{"iteration": (\d+)', _text(log)) for log in logs]
        ends = [max([int(n) for n, _ in LOSS.findall(_text(log))], default=0) for log in logs]
        trial.retrained += sum(
            max(0, end - (int(start[1]) if start else 0)) for end, start in zip(ends[:-1], starts[1:], strict=True)
        )
        name = f"{run}_iter_{ITERATIONS}.caffemodel"
        if (peace / "s" / name).read_bytes() != (killed / "s" / name).read_bytes():
            trial.wrong.append(f"{name} is another file")
        one, two = _curve(peace, run), _curve(killed, run)
        if different := [key for key in one if key not in two or not _same(key, one[key], two[key])]:
            first = f"the {different[0]}: {one[different[0]]} and {two.get(different[0])}"
            trial.wrong.append(f"{run}: {len(different)} of {len(one)} figures differ, first {first}")
        if left := list((killed / "s/.partial").glob(f"{run}_*")):
            trial.wrong.append(f"{left[0].name} was left behind")
