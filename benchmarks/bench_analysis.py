"""merge-logs against Caffe's own parse_log.py, whole commands on one log, taken in turns; and many small logs.

    python benchmarks/bench_analysis.py [megabytes]

One log of that size (1,000) with the lines of Caffe 1.0: wanted at least 25 times parse_log.py on 2 cores, and less
than 1 GB of memory. A tenth of it: time is to grow no faster than size. 1,000 runs of 1 MB: wanted under 10 s.
parse_log.py is taken from the source package of Caffe that install-caffe builds, and made fit for Python 3 in a
temporary folder. On a busy machine the CPU seconds mean more than the wall clock.
"""

from __future__ import annotations

import math
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from caffebench.engine.build import source_package

BIN = Path(sys.executable).parent
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
    """What a command took: seconds, and MB of its largest process."""

    wall: float
    cpu: float
    memory: int

    def __str__(self) -> str:
        """For the report."""
        return f"{self.wall:7.2f} s wall, {self.cpu:7.2f} s CPU, {self.memory:5d} MB at most in one process"


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


def run(*command: str | Path) -> Took:
    """A whole command, its children's CPU seconds and memory with it."""
    code = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
    code += "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    code += "print(used.ru_utime + used.ru_stime, used.ru_maxrss // 1024); sys.exit(done.returncode)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True)
    wall = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    cpu, memory = done.stdout.split()
    return Took(wall, float(cpu), int(memory))


def parse_log(folder: Path) -> Path:
    """Caffe's parse_log.py and what it imports, fit for Python 3."""
    with tarfile.open(source_package(folder, print)) as package:
        for member in package.getmembers():
            if re.search(r"/tools/extra/(?:parse_log|extract_seconds)\.py$", member.name):
                package.extract(member, folder)
                text = (folder / member.name).read_text()
                (folder / Path(member.name).name).write_text(re.sub(r"print '(.*)' % (\w+)", r"print('\1' % \2)", text))
    return folder / "parse_log.py"


def main() -> None:
    """Run the three measurements."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        theirs = parse_log(folder)
        big, tenth = folder / "big.log", folder / "tenth.log"
        synthesize(big, megabytes * 10**6)
        synthesize(tenth, megabytes * 10**5)
        print(f"{megabytes} MB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        # Each into a folder of its own: to replace a file of a gigabyte takes the time to free the old one.
        small = min(run(BIN / "merge-logs", tenth, "--out", folder / f"small{turn}") for turn in range(2))
        ours = run(BIN / "merge-logs", big, "--out", folder / "first")
        caffe = run(sys.executable, theirs, big, folder)
        ours = min(ours, run(BIN / "merge-logs", big, "--out", folder / "second"))
        assert (folder / "big.log.train").stat().st_size > big.stat().st_size / 20, "parse_log.py did not read the log"
        print(f"parse_log.py        {caffe}")
        print(
            f"merge-logs          {ours}: {caffe.wall / ours.wall:.1f} times as fast (CPU {caffe.cpu / ours.cpu:.1f})"
        )
        print(f"merge-logs, a tenth {small}: ten times the log takes {ours.wall / small.wall:.1f} times as long")
        big.unlink()
        many = folder / "many"
        many.mkdir()
        text = folder / "one.log"
        synthesize(text, 10**6)
        for number in range(1000):
            (many / f"run{number}.log").write_bytes(text.read_bytes())
        print(f"1,000 runs of 1 MB  {run(BIN / 'merge-logs', many, '--out', folder / 'many_out')}")


if __name__ == "__main__":
    main()
