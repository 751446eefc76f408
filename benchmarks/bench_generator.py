"""What gen-prototxt costs: its --help beside ``python -c pass``, and all sweeps generated and parsed back.

    python benchmarks/bench_generator.py

Whole commands, processor time of the command and its children, the best of several rounds taken in turn.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 9
TOOL = str(Path(sys.executable).parent / "gen-prototxt")


def seconds(command: list[str]) -> float:
    """Processor time of one run of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def best(*commands: list[str], rounds: int = ROUNDS) -> list[float]:
    """The best time of each command; taken in turn, so that a busy machine is busy for all of them."""
    times = [[seconds(command) for command in commands] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]


def main() -> None:
    """Measure and print."""
    nothing, shown = best([sys.executable, "-c", "pass"], [TOOL, "--help"])
    print(f"python -c pass         {nothing * 1000:6.1f} ms")
    print(f"gen-prototxt --help    {shown * 1000:6.1f} ms   {shown / nothing:.2f} times (goal: at most 2.5)")
    with tempfile.TemporaryDirectory() as folder:
        for profile in ("imagenet128", "cifar10", "digits"):
            out = Path(folder) / profile
            (spent,) = best([TOOL, "--all", "--profile", profile, "--out", str(out)], rounds=3)
            files = len(list(out.iterdir()))
            print(f"--all, {profile:12} {spent:6.2f} s    {files} files, each parsed back (goal: at most 1.5 s)")


if __name__ == "__main__":
    main()
