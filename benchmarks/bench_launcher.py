"""run-caffe against plain ``caffe train``, whole commands on the digits sweep, taken in turns.

    python benchmarks/bench_launcher.py [tax] [jobs]

``tax``: one variant, iterations/s of training (as the log's times tell) and of the whole command; wanted at least 0.98
of plain Caffe's. ``jobs``: all variants, ``caffe train`` one after another against one ``run-caffe --jobs``; wanted at
least 1.8 times the throughput on 2 cores. Both sides train the same file, both without LSUV, from the same folder.
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

from caffebench.datasets.digits import make_digits
from caffebench.engine.locate import caffe_tool

BIN = Path(sys.executable).parent
CORES = len(os.sched_getaffinity(0))
TAX_ROUNDS, TAX_SECONDS = 7, 20
JOBS_ROUNDS = 3


def run(command: Sequence[object], folder: Path, log: Path | None = None) -> float:
    """Run a command to its end: the seconds that it took."""
    start = time.perf_counter()
    with (log or Path(os.devnull)).open("wb") as file:
        done = subprocess.run([*map(str, command)], cwd=folder, stdout=file, stderr=file)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}, see {folder}")
    return time.perf_counter() - start


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
    first = run([caffe_tool(), "train", "-solver", file], folder, plain_log)
    # long enough that the start of either command is a small part of it
    longer = re.sub(r"^max_iter: \d+", f"max_iter: {round(max_iter * TAX_SECONDS / first)}", text, flags=re.MULTILINE)
    file.write_text(longer)
    sides: dict[str, Callable[[], float]] = {
        "caffe train": lambda: run([caffe_tool(), "train", "-solver", file], folder, plain_log),
        "run-caffe": lambda: run([BIN / "run-caffe", file, "--cpu", "--init", "none"], folder),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(TAX_ROUNDS):
        for name in sorted(sides, reverse=bool(number % 2)):  # who begins takes turns
            clean(folder)
            seconds[name].append(sides[name]())
            speeds[name].append(training_speed(plain_log if name == "caffe train" else our_log))
    for name in sides:
        print(f"{name:12} {median(speeds[name]):8.1f} it/s in training, {median(seconds[name]):6.2f} s in all")
    speed = median(a / b for a, b in zip(speeds["run-caffe"], speeds["caffe train"], strict=True))
    whole = median(b / a for a, b in zip(seconds["run-caffe"], seconds["caffe train"], strict=True))
    print(f"run-caffe / caffe train, {default.stem}: {speed:.3f} of the iterations/s (wanted 0.98), {whole:.3f} in all")


def jobs(folder: Path, files: list[Path]) -> None:
    """The sweep: how much more gets done."""
    ratios = []
    for number in range(JOBS_ROUNDS):
        times = {}
        for side in ("one after another", "together")[:: -1 if number % 2 else 1]:
            clean(folder)
            if side == "together":
                times[side] = run([BIN / "run-caffe", *files, "--cpu", "--jobs", CORES, "--init", "none"], folder)
            else:
                times[side] = sum(run([caffe_tool(), "train", "-solver", file], folder) for file in files)
        ratios.append(times["one after another"] / times["together"])
        print(f"{len(files)} runs: {', '.join(f'{side} {seconds:.1f} s' for side, seconds in sorted(times.items()))}")
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
