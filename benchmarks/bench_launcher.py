"""run-caffe against plain ``caffe train``, whole commands on the digits sweep, taken in turns.

    python benchmarks/bench_launcher.py [tax] [jobs]

``tax``: one variant on one BLAS thread, iterations/s of training (as the log's times tell), seconds and CPU seconds of
the whole command; wanted at least 0.98 of plain Caffe's iterations/s. On a busy machine only the CPU seconds mean much.
``jobs``: all variants, ``caffe train`` one after another, with all the BLAS threads that it likes, against one
``run-caffe --jobs``; wanted at least 1.8 times the throughput on 2 cores. Both sides train the same files without LSUV,
with Caffe's own layers and the same kernels of OpenBLAS: what is measured is the launcher.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from caffebench.datasets.digits import make_digits
from caffebench.engine.blas import blas_environment
from caffebench.engine.locate import caffe_tool

BIN = Path(sys.executable).parent
CORES = len(os.sched_getaffinity(0))
TAX_ROUNDS, TAX_SECONDS = 5, 10
JOBS_ROUNDS = 3
LIKE_CAFFE = ("--cpu", "--layers", "caffe", "--init", "none")


class Seconds(NamedTuple):
    """What a command took."""

    wall: float
    cpu: float


def run(command: Sequence[object], folder: Path, log: Path | None = None, threads: int | None = None) -> Seconds:
    """Run a command to its end: the seconds that it took, and the CPU seconds of it and its children."""
    start = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= blas_environment()
    if threads is not None:
        environment["OPENBLAS_NUM_THREADS"] = str(threads)
    with (log or Path(os.devnull)).open("wb") as file:
        child = subprocess.Popen([*map(str, command)], cwd=folder, env=environment, stdout=file, stderr=file)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {child.returncode}, see {folder}")
    return Seconds(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)


def training_speed(log: Path) -> float:
    """Iterations per second between the first line of training and the last."""
    text = log.read_text()

    def when(line: str) -> datetime:
        match = re.search(rf"^I(\d+ \S+) .*{line}", text, re.MULTILINE)
        assert match, f"{log} has no line {line}"
        return datetime.strptime(match[1], "%Y%m%d %H:%M:%S.%f")

    iterations = max(int(n) for n in re.findall(r"Iteration (\d+)", text))
    return iterations / (when("Optimization Done") - when("Starting Optimization")).total_seconds()


def prepare(folder: Path) -> list[Path]:
    """The digits data and the batch_size sweep on it."""
    make_digits(folder / "data" / "digits")
    run([BIN / "gen-prototxt", "batch_size", "--profile", "digits"], folder)
    (folder / "snapshots").mkdir()
    return sorted((folder / "prototxt").glob("*.prototxt"))


def clean(folder: Path) -> None:
    """Forget the runs, keep the data."""
    for name in ("logs", "snapshots"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "snapshots").mkdir()


def tax(folder: Path, files: list[Path]) -> None:
    """One run: how much slower than plain Caffe."""
    default = next(path for path in files if "# caffebench: default: true" in path.read_text())
    file = folder / "tax.prototxt"
    text = default.read_text()
    max_iter = int(re.findall(r"^max_iter: (\d+)", text, re.MULTILINE)[0])
    plain_log, our_log = folder / "plain.log", folder / "logs" / "tax.001.log"
    file.write_text(text)
    first = run([caffe_tool(), "train", "-solver", file], folder, plain_log, threads=1).cpu
    # long enough that the start of either command is a small part of it
    longer = re.sub(r"^max_iter: \d+", f"max_iter: {round(max_iter * TAX_SECONDS / first)}", text, flags=re.MULTILINE)
    file.write_text(longer)
    sides: dict[str, Callable[[], Seconds]] = {
        "caffe train": lambda: run([caffe_tool(), "train", "-solver", file], folder, plain_log, threads=1),
        "run-caffe": lambda: run([BIN / "run-caffe", file, *LIKE_CAFFE], folder, threads=1),
    }
    seconds: dict[str, list[Seconds]] = {name: [] for name in sides}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(TAX_ROUNDS):
        for name in sorted(sides, reverse=bool(number % 2)):  # who begins takes turns
            clean(folder)
            seconds[name].append(sides[name]())
            speeds[name].append(training_speed(plain_log if name == "caffe train" else our_log))
    for name in sides:
        wall, cpu = (median(column) for column in zip(*seconds[name], strict=True))
        print(f"{name:12} {median(speeds[name]):8.1f} it/s in training, {wall:6.2f} s and {cpu:6.2f} CPU s in all")
    speed = median(a / b for a, b in zip(speeds["run-caffe"], speeds["caffe train"], strict=True))
    pairs = list(zip(seconds["run-caffe"], seconds["caffe train"], strict=True))
    whole, cpu = (median(plain[i] / ours[i] for ours, plain in pairs) for i in (0, 1))
    print(
        f"run-caffe / caffe train, {default.stem}: {speed:.3f} of the iterations/s (wanted 0.98); "
        f"whole commands: {whole:.3f} by the clock, {cpu:.3f} by CPU seconds"
    )


def jobs(folder: Path, files: list[Path]) -> None:
    """The sweep: how much more gets done."""
    ratios = []
    for number in range(JOBS_ROUNDS):
        times = {}
        for side in ("one after another", "together")[:: -1 if number % 2 else 1]:
            clean(folder)
            if side == "together":
                times[side] = run([BIN / "run-caffe", *files, *LIKE_CAFFE, "--jobs", CORES], folder)
            else:
                each = [run([caffe_tool(), "train", "-solver", file], folder) for file in files]
                times[side] = Seconds(sum(one.wall for one in each), sum(one.cpu for one in each))
        ratios.append(times["one after another"].wall / times["together"].wall)
        shown = (f"{side} {took.wall:.1f} s, {took.cpu:.1f} CPU s" for side, took in sorted(times.items()))
        print(f"{len(files)} runs: {'; '.join(shown)}", flush=True)
    print(f"run-caffe --jobs {CORES} / caffe train one after another: {median(ratios):.2f} times (wanted 1.8)")


def main() -> None:
    """Run the parts that were named, or all."""
    parts = {"tax": tax, "jobs": jobs}
    with tempfile.TemporaryDirectory() as name:
        files = prepare(Path(name))
        for part in sys.argv[1:] or parts:
            parts[part](Path(name), files)


if __name__ == "__main__":
    main()
