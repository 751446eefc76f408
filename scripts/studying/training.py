"""A study's training, by the ordinary commands, and what is kept of its logs."""

from __future__ import annotations

import gzip
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from studying.declared import LOGS, WORK, Study

__all__ = ["commands", "full_scale", "keep_logs", "kept", "measure_full_scale", "note_machine", "train"]

TOOLS = Path(sys.executable).parent
_BUILDING = re.compile(rb" (?:layer_factory\.hpp|net\.cpp):\d+\] (?!Initializing net)")
"""Lines in which Caffe tells how it builds a net: that net stands in the log before them."""


def parts(study: Study) -> Iterator[tuple[str, str]]:
    """Whose layers compute, and the name of the folder of their logs."""
    yield study.layers, study.name
    if study.other_layers:
        yield "caffe", f"{study.name}_caffe"


def commands(study: Study, jobs: int) -> list[list[str]]:
    """The commands that train it, to be given in one folder; each goes on where it was when it was stopped."""
    made = [["make-lmdb", "fashion-mnist", "data/fashion"]]
    only = [] if study.only == "*" else ["--only", study.only]
    made.append(["gen-prototxt", study.sweep, "--profile", study.profile, *only, "--out", f"prototxt/{study.name}"])
    for layers, folder in parts(study):
        run = ["run-caffe", f"prototxt/{study.name}/*.prototxt", "--cpu", "--layers", layers]
        run += ["--seeds", str(study.seeds), "--jobs", str(jobs), "--keep-snapshots", "1"]
        made.append([*run, "--logs", f"logs/{folder}", "--snapshots", f"snapshots/{folder}"])
    return made


def train(study: Study, jobs: int) -> bool:
    """Train it, or what is left of it; false where a command did not end well. A run that diverges is a result."""
    WORK.mkdir(parents=True, exist_ok=True)
    for command in commands(study, jobs):
        if command[0] == "make-lmdb" and (WORK / command[-1] / "profile.yaml").is_file():
            continue
        words = [str(TOOLS / command[0])]
        for word in command[1:]:
            words += [str(path.relative_to(WORK)) for path in sorted(WORK.glob(word))] if "*" in word else [word]
        print("$", *command, flush=True)
        code = subprocess.run(words, cwd=WORK).returncode
        if code and not (command[0] == "run-caffe" and code == 1):
            return False
    finished = [keep_logs(WORK / "logs" / folder, LOGS / folder) for _, folder in parts(study)]
    wanted = study.seeds * len(list((WORK / "prototxt" / study.name).glob("*.prototxt")))
    return min(finished) >= wanted


def keep_logs(whole: Path, kept: Path) -> int:
    """Copy the logs of a folder, without Caffe's building of nets and compressed; returns how many runs came to an end.

    A run that goes on, or is to go on, is not copied.
    """
    kept.mkdir(parents=True, exist_ok=True)
    ended = 0
    for newest in sorted(whole.glob("*.log")):
        run, _, _ = newest.name.rsplit(".", 2)
        sessions = sorted(whole.glob(f"{run}.*.log"))
        text = newest.read_bytes()
        end = re.findall(rb'caffebench: end \{"status": "(\w+)"', text)
        if newest != sessions[-1] or not end or end[-1] not in (b"done", b"not_converged"):
            continue
        ended += 1
        for path in sessions:
            # No time and no name in the file: equal logs give equal files.
            (kept / f"{path.name}.gz").write_bytes(gzip.compress(thinned(path.read_bytes()), 9, mtime=0))
    return ended


def thinned(text: bytes) -> bytes:
    """The log without the lines in which Caffe builds its nets."""
    return b"".join(line for line in text.splitlines(keepends=True) if not _BUILDING.search(line))


def kept(study: Study) -> list[Path]:
    """The folders of its kept logs that are there."""
    return [LOGS / folder for _, folder in parts(study) if any((LOGS / folder).glob("*.log.gz"))]


def measure_full_scale(study: Study) -> None:
    """Have `run-caffe --dry-run` measure the study's file for ImageNet, and keep what it says."""
    generate = [str(TOOLS / "gen-prototxt"), study.sweep, "--only", study.full_scale, "--out", "prototxt/imagenet128"]
    subprocess.run(generate, cwd=WORK, check=True, stdout=subprocess.DEVNULL)
    file = f"prototxt/imagenet128/{study.full_scale}.prototxt"
    run = [str(TOOLS / "run-caffe"), file, "--cpu", "--layers", study.layers, "--dry-run"]
    said = subprocess.run(run, cwd=WORK, check=True, capture_output=True, text=True).stdout
    (LOGS / study.name).mkdir(parents=True, exist_ok=True)
    (LOGS / study.name / "full_scale.txt").write_text(f"load average: {os.getloadavg()[0]:.1f}\n{said}")


def full_scale(study: Study, file: str = "full_scale.txt") -> tuple[float, str] | None:
    """Seconds that its file would take at full scale, and what the first line of ``file`` says; None without.

    The first line has the load of the machine on which the CPU was measured or, in ``full_scale_card.txt``, the card.
    """
    path = LOGS / study.name / file
    if not path.is_file():
        return None
    text = path.read_text("utf-8")
    time = re.search(r"^in all (.*?) one after another", text, re.MULTILINE)
    about = re.search(r"^(?:load average|card): (.+)", text)
    if time is None or about is None:
        return None
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    seconds = sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (d|h|min|s)\b", time[1]))
    return seconds, about[1]


def note_machine() -> None:
    """Keep in general words on what machine the logs were made."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = len(os.sched_getaffinity(0))
    # Others' work shows in a load that is much more than ours.
    busy = (
        " which did other work at the same time, so that times are upper bounds"
        if os.getloadavg()[2] > 1.5 * cores
        else ""
    )
    name = found[1].strip() if found else platform.machine()
    words = f"{cores} core{'s' if cores > 1 else ''} of a machine with the processor {name},{busy}".rstrip(",")
    LOGS.mkdir(parents=True, exist_ok=True)
    (LOGS / "machine.txt").write_text(f"{words}.\n")
