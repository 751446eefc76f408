"""merge-logs against Caffe's own parse_log.py, whole commands side by side, on the shapes that logs have.

    python benchmarks/bench_analysis.py                  # every shape
    python benchmarks/bench_analysis.py mixed sessions   # some

The shapes are built from the published logs in ``../shared``, but for those that are said to be made up:

    small      the least of them alone, wall clock: wanted under 0.25 s
    each       each alone: wanted never slower than parse_log.py by more than 0.1 s
    folder     20 copies of each under other names (parse_log.py: a call each): 20 times as fast
    resumed    one log 30 times in one file: 20 times as fast
    mixed      those of the same outputs 30 times in one file (parse_log.py stops where they change): 20 times as fast
    sessions   all of them 30 times in one file against 15 times: at most 2.2 times as long
    smooth     one log of 1 GB, made up: 25 times as fast, at most 800 MB
    anew       1,000 sessions in one file that each begin anew, made up: under 3 s
    many       20,000 small files in a folder, made up: under 10 s

Ratios are of wall clock times; on a busy machine those of the CPU seconds mean more. parse_log.py is taken from the
source package of Caffe that install-caffe builds, and made fit for Python 3 in a temporary folder.
"""

from __future__ import annotations

import math
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from caffebench.engine.build import source_package

BIN = Path(sys.executable).parent
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
"""Users have their modules compiled once, not in each call."""
LOGS = Path(__file__).resolve().parents[2] / "shared" / "caffenet-benchmark" / "logs"
HEADER = """\
I0406 04:34:53.454311  8382 caffe.cpp:184] Using GPUs 0
I0406 04:34:53.601418  8382 solver.cpp:48] Initializing solver from parameters: 
test_iter: 1000
test_interval: 1000
base_lr: 0.01
display: 20
max_iter: 100000000
lr_policy: "step"
snapshot: 5000
snapshot_prefix: "snapshots/bs512"
net_param {
  layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { batch_size: 512 } }
  layer { name: "fc8" type: "InnerProduct" bottom: "data" top: "fc8" inner_product_param { num_output: 1000 } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc8" bottom: "label" top: "loss" }
}
I0406 04:34:54.814540  8382 caffe.cpp:212] Starting Optimization
I0406 04:34:54.814566  8382 solver.cpp:288] Solving CaffeNet
"""  # noqa: W291 - as Caffe prints it


class Took(NamedTuple):
    """What commands took: seconds, and MB of the largest process."""

    wall: float
    cpu: float
    memory: int

    def __str__(self) -> str:
        """For the report."""
        return f"{self.wall:7.2f} s wall, {self.cpu:7.2f} s CPU, {self.memory:5d} MB"


def synthesize(path: Path, size: int, seed: int = 1) -> None:
    """A log of ``size`` bytes: a display every 20 iterations, a test every 1,000, a snapshot every 5,000."""
    rng = random.Random(seed)
    now, iteration, written = datetime(2016, 4, 6, 4, 34, 55), 0, 0
    with path.open("w") as file:
        written += file.write(HEADER)
        while written < size:
            lines = []
            for _ in range(5000):
                glog = f"I{now:%m%d %H:%M:%S.%f}  8382"
                loss = f"{2.4 + 4 * math.exp(-iteration / 1e6) + rng.random() / 3:.6g}"
                weighted = f"loss = {loss} (* 1 = {loss} loss)"
                if iteration % 1000 == 0:
                    lines.append(f"{glog} solver.cpp:341] Iteration {iteration}, Testing net (#0)")
                    lines.append(f"{glog} solver.cpp:409]     Test net output #0: accuracy = {rng.random() / 2:.6g}")
                    lines.append(f"{glog} solver.cpp:409]     Test net output #1: {weighted}")
                    if iteration % 5000 == 0:
                        name = f"snapshots/bs512_iter_{iteration}.caffemodel"
                        lines.append(f"{glog} solver.cpp:459] Snapshotting to binary proto file {name}")
                lines.append(f"{glog} solver.cpp:237] Iteration {iteration}, loss = {loss}")
                lines.append(f"{glog} solver.cpp:253]     Train net output #0: {weighted}")
                lines.append(f"{glog} sgd_solver.cpp:106] Iteration {iteration}, lr = 0.01")
                iteration += 20
                now += timedelta(seconds=5.8)
                if len(lines) > 13 * (size - written) / 1000 + 100:
                    break
            written += file.write("\n".join(lines) + "\n")


def short_run(number: int, rng: random.Random) -> str:
    """The log of a run of 200 iterations, some 60 lines: each has its own seed, prefix, process and day."""
    now = datetime(2016, 1 + number % 12, 1 + number % 28, number % 24, number % 60)
    rate, size = rng.choice([0.005, 0.01, 0.02]), rng.choice([64, 128, 256])
    solver = f'display: 20\nmax_iter: 200\nsnapshot_prefix: "snapshots/run{number}"\nrandom_seed: {number}'
    solver = HEADER.partition("parameters: ")[2].partition("I0406")[0].partition("display")[0] + solver
    net = HEADER[HEADER.index("net_param") : HEADER.index("I0406 04:34:54.8")].replace(
        "batch_size: 512", f"batch_size: {size}"
    )
    said: list[tuple[float, str]] = [(0, "caffe.cpp:184] Using GPUs 0")]
    said.append(
        (
            0.1,
            f"solver.cpp:48] Initializing solver from parameters: {solver.replace('0.01', str(rate))}\n{net.rstrip()}",
        )
    )
    said += [(1, "caffe.cpp:212] Starting Optimization"), (0, "solver.cpp:288] Solving CaffeNet")]
    for iteration in range(0, 201, 20):
        loss = f"{0.4 + 2 * math.exp(-iteration / 60) + rng.random() / 5:.6g}"
        weighted = f"loss = {loss} (* 1 = {loss} loss)"
        if iteration % 100 == 0:
            said.append((0.1, f"solver.cpp:341] Iteration {iteration}, Testing net (#0)"))
            said.append((1, f"solver.cpp:409]     Test net output #0: accuracy = {rng.random():.6g}"))
            said.append((0, f"solver.cpp:409]     Test net output #1: {weighted}"))
        if iteration < 200:
            said.append((3, f"solver.cpp:237] Iteration {iteration}, loss = {loss}"))
            said.append((0, f"solver.cpp:253]     Train net output #0: {weighted}"))
            said.append((0, f"sgd_solver.cpp:106] Iteration {iteration}, lr = {rate}"))
    said.append((1, f"solver.cpp:459] Snapshotting to binary proto file snapshots/run{number}_iter_200.caffemodel"))
    said += [(0, "solver.cpp:326] Optimization Done."), (0, "caffe.cpp:215] Optimization Done.")]
    text = ""
    for seconds, line in said:
        now += timedelta(seconds=seconds + 0.001)
        text += f"I{now:%m%d %H:%M:%S.%f} {3000 + number:5d} {line}\n"
    return text


def run(*command: str | Path) -> Took:
    """A whole command, its children's CPU seconds and memory with it; memory is at least what this process has."""
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        child = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=said, env=ENVIRONMENT)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        assert child.returncode == 0, said.read().decode()
    return Took(wall, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)


class Bench:
    """A folder with parse_log.py in it, and what is measured there."""

    def __init__(self, folder: Path) -> None:
        """Unpack parse_log.py and what it imports, fit for Python 3."""
        self.folder = folder
        self.missed: list[str] = []
        self.logs = sorted(LOGS.rglob("*.log")) if LOGS.is_dir() else []
        with tarfile.open(source_package(folder, print)) as package:
            for member in package.getmembers():
                if re.search(r"/tools/extra/(?:parse_log|extract_seconds)\.py$", member.name):
                    package.extract(member, folder)
                    text = (folder / member.name).read_text()
                    text = re.sub(r"print '(.*)' % (\w+)", r"print('\1' % \2)", text)
                    (folder / Path(member.name).name).write_text(text)

    def ours(self, *paths: Path, turns: int = 2) -> Took:
        """The best of some turns of merge-logs, each into a new folder: replacing a large file takes time, too."""
        took = []
        for _ in range(turns):
            out = self.folder / "out"
            took.append(run(BIN / "merge-logs", *paths, "--out", out))
            shutil.rmtree(out)
        return Took(*(min(column) for column in zip(*took, strict=True)))

    def theirs(self, paths: Iterable[Path]) -> Took | None:
        """parse_log.py, a call for each path; None where it fails on one."""
        took = []
        out = self.folder / "theirs"
        for path in paths:
            out.mkdir(exist_ok=True)
            try:
                took.append(run(sys.executable, self.folder / "parse_log.py", path, out))
            except AssertionError as error:
                print(f"    parse_log.py fails on {path.name}: {str(error).strip().splitlines()[-1]}")
                return None
            written = out / f"{path.name}.train"
            least = 0 if path.stat().st_size < 10**6 else path.stat().st_size / 40
            assert not least or written.stat().st_size > least, f"parse_log.py did not read {path}"
            shutil.rmtree(out)
        return Took(sum(one.wall for one in took), sum(one.cpu for one in took), max(one.memory for one in took))

    def judge(self, what: str, holds: bool, figures: str) -> None:
        """Print one judgement, and keep what does not hold."""
        if not holds:
            self.missed.append(what)
        print(f"    {'holds' if holds else 'DOES NOT HOLD'}: {what}; {figures}")

    def faster(self, title: str, paths: list[Path], goal: float, files: list[Path] | None = None) -> Took:
        """Measure both on ``paths`` (``files``: what parse_log.py is called for), wanted ``goal`` times as fast."""
        files = files or paths
        size = sum(one.stat().st_size for one in files) / 1e6
        print(f"{title}: {size:.0f} MB in {len(files)} file(s), load {os.getloadavg()[0]:.1f}")
        first = self.ours(*paths, turns=1)
        theirs = self.theirs(files)
        second = self.ours(*paths, turns=1)
        ours = Took(*map(min, zip(first, second, strict=True)))
        print(f"    merge-logs   {ours}")
        print(f"    parse_log.py {theirs}")
        if theirs is not None:
            ratio, cpu = theirs.wall / ours.wall, theirs.cpu / ours.cpu
            self.judge(f"{title} at least {goal:g} times as fast", ratio >= goal, f"{ratio:.1f} times, CPU {cpu:.1f}")
        return ours

    # Shapes, in the order in which they are measured.

    def small(self) -> None:
        """The least log alone."""
        least = min(self.logs, key=lambda one: one.stat().st_size)
        print(f"small: {least.name}, {least.stat().st_size / 1e3:.0f} kB, load {os.getloadavg()[0]:.1f}")
        took = self.ours(least, turns=7)
        print(f"    merge-logs   {took}")
        self.judge("a small log under 0.25 s", took.wall < 0.25, f"{took.wall:.3f} s")

    def each(self) -> None:
        """Each log alone."""
        print(f"each: load {os.getloadavg()[0]:.1f}")
        worst = -math.inf
        for path in self.logs:
            ours, theirs = self.ours(path), self.theirs([path])
            print(f"    {path.name[:45]:45} merge-logs {ours.wall:5.2f} s (CPU {ours.cpu:5.2f})", end="")
            print("" if theirs is None else f"   parse_log.py {theirs.wall:5.2f} s (CPU {theirs.cpu:5.2f})")
            worst = worst if theirs is None else max(worst, ours.wall - theirs.wall)
        self.judge("no log slower by more than 0.1 s", worst <= 0.1, f"at worst {worst:+.2f} s")

    def build(self, name: str, logs: Iterable[Path], copies: int) -> Path:
        """``logs`` one after the other, all that some times, in one file."""
        path, some = self.folder / name, list(logs)
        with path.open("wb") as file:
            for _ in range(copies):
                for one in some:
                    text = one.read_bytes()
                    file.write(text if text.endswith(b"\n") else text + b"\n")
        return path

    def folder_of_copies(self) -> None:
        """20 copies of each."""
        files = []
        for number in range(20):
            for log in self.logs:
                path = self.folder / "copies" / f"{log.stem}_{number}.log"
                path.parent.mkdir(exist_ok=True)
                shutil.copyfile(log, path)
                files.append(path)
        self.faster("folder", [self.folder / "copies"], 20, files)
        shutil.rmtree(self.folder / "copies")

    def resumed(self) -> None:
        """One log 30 times."""
        path = self.build("resumed.log", [max(self.logs, key=lambda one: one.stat().st_size)], 30)
        self.faster("resumed", [path], 20)
        path.unlink()

    def mixed(self) -> None:
        """Several runs 30 times."""
        alike: dict[frozenset[bytes], list[Path]] = {}
        for log in self.logs:
            names = frozenset(re.findall(rb"net output #\d+: (\S+) =", log.read_bytes()))
            alike.setdefault(names, []).append(log)
        path = self.build("mixed.log", max(alike.values(), key=len), 30)
        self.faster("mixed", [path], 20)
        path.unlink()

    def sessions(self) -> None:
        """Twice as many sessions."""
        print(f"sessions: load {os.getloadavg()[0]:.1f}")
        half, whole = self.build("half.log", self.logs, 15), self.build("whole.log", self.logs, 30)
        for path in (half, whole):
            shutil.copyfile(path, os.devnull)  # both into the cache
        some, twice = self.ours(half), self.ours(whole)
        print(f"    15 times     {some}\n    30 times     {twice}")
        ratio, cpu = twice.wall / some.wall, twice.cpu / some.cpu
        self.judge("twice the sessions at most 2.2 times as long", ratio <= 2.2, f"{ratio:.2f} times, CPU {cpu:.2f}")
        half.unlink()
        whole.unlink()

    def smooth(self) -> None:
        """One log of 1 GB."""
        path = self.folder / "smooth.log"
        synthesize(path, 10**9)
        ours = self.faster("smooth", [path], 25)
        self.judge("1 GB in at most 800 MB of memory", ours.memory <= 800, f"{ours.memory} MB")
        path.unlink()

    def anew(self) -> None:
        """1,000 sessions that begin anew."""
        path, one = self.folder / "anew.log", self.folder / "one.log"
        synthesize(one, 10**4)
        path.write_bytes(one.read_bytes() * 1000)
        print(f"anew: 1,000 sessions, {path.stat().st_size / 1e6:.0f} MB, load {os.getloadavg()[0]:.1f}")
        took = self.ours(path, turns=1)
        print(f"    merge-logs   {took}")
        self.judge("1,000 sessions that begin anew under 3 s", took.wall < 3, f"{took.wall:.1f} s")
        path.unlink()

    def many(self) -> None:
        """20,000 small files."""
        folder, rng = self.folder / "many", random.Random(1)
        folder.mkdir()
        for number in range(20_000):
            (folder / f"run{number}.log").write_text(short_run(number, rng))
        size = sum(one.stat().st_size for one in folder.iterdir())
        print(f"many: 20,000 files of {size / 2e7:.1f} kB, load {os.getloadavg()[0]:.1f}")
        took = self.ours(folder, turns=1)
        print(f"    merge-logs   {took}")
        self.judge("20,000 small files under 10 s", took.wall < 10, f"{took.wall:.1f} s")
        shutil.rmtree(folder)


REAL = {
    "small": Bench.small,
    "each": Bench.each,
    "folder": Bench.folder_of_copies,
    "resumed": Bench.resumed,
    "mixed": Bench.mixed,
    "sessions": Bench.sessions,
}
MADE_UP = {"smooth": Bench.smooth, "anew": Bench.anew, "many": Bench.many}


def main() -> None:
    """Measure the shapes that are named, or all."""
    shapes = REAL | MADE_UP
    chosen = sys.argv[1:] or list(shapes)
    if unknown := [one for one in chosen if one not in shapes]:
        sys.exit(f"no shape is called {', '.join(unknown)}: choose from {', '.join(shapes)}")
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary))
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for name in chosen:
            if name in REAL and not bench.logs:
                print(f"{name}: skipped, the published logs are not beside this checkout ({LOGS})")
            else:
                shapes[name](bench)
    print(f"{len(bench.missed)} of the goals missed{': ' if bench.missed else ''}{'; '.join(bench.missed)}")


if __name__ == "__main__":
    main()
