"""A study's training, by the ordinary commands, and what is kept of its logs."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from studying.declared import LOGS, WORK, Study
from studying.keeping import keep_logs, left_to_train

__all__ = [
    "commands",
    "full_scale",
    "generated",
    "kept",
    "machine_words",
    "machines",
    "measure_full_scale",
    "run_command",
    "time_command",
    "train",
]

TOOLS = Path(sys.executable).parent
_BUSY = ", which did other work at the same time, so that times are upper bounds"


def parts(study: Study) -> Iterator[tuple[str, str]]:
    """Whose layers compute, and the name of the folder of their logs."""
    yield study.layers, study.name
    if study.other_layers:
        yield "caffe", f"{study.name}_caffe"


def commands(study: Study, jobs: int) -> list[list[str]]:
    """The commands that train it, to be given in one folder; each goes on where it was when it was stopped."""
    made = [command.split() for command in study.data]
    only = [] if study.only == "*" else ["--only", study.only]
    made.append(["gen-prototxt", study.sweep, "--profile", study.profile, *only, "--out", f"prototxt/{study.name}"])
    files = [f"prototxt/{study.name}/*.prototxt"]
    if study.times:
        return made + [time_command(study, repeat, files) for repeat in range(1, study.seeds + 1)]
    for layers, folder in parts(study):
        made.append(train_command(folder, layers, files, str(study.seeds), jobs))
    return made


def train_command(folder: str, layers: str, files: Sequence[str], seeds: str, jobs: int) -> list[str]:
    """Train these files with these seeds."""
    return [
        *("run-caffe", *files, "--cpu", "--layers", layers, "--seeds", seeds, "--jobs", str(jobs)),
        *("--keep-snapshots", "1", "--logs", f"logs/{folder}", "--snapshots", f"snapshots/{folder}"),
    ]


def time_command(study: Study, repeat: int, files: Sequence[str]) -> list[str]:
    """Run these files one after another."""
    return [
        *("run-caffe", *files, "--cpu", "--layers", study.layers, "--name", f"{{stem}}_repeat{repeat}"),
        *("--keep-snapshots", "1", "--logs", f"logs/{study.name}", "--snapshots", f"snapshots/{study.name}"),
    ]


def generated(study: Study) -> list[Path] | None:
    """Its files, as its sweep gives them now, with their data beside them; None where a command failed."""
    WORK.mkdir(parents=True, exist_ok=True)
    *data, generate = commands(study, 1)[: len(study.data) + 1]
    there = (WORK / "data" / Path(study.profile).name / "profile.yaml").is_file()
    if any(run_command(command) for command in ([] if there else data)) or run_command(generate):
        return None
    return sorted((WORK / "prototxt" / study.name).glob("*.prototxt"))


def train(study: Study, jobs: int) -> bool:
    """Train it, or what is left of it; false where a command did not end well. A run that diverges is a result."""
    files = generated(study)
    if files is None:
        return False
    seeds = range(1, study.seeds + 1)
    whole = True
    for layers, folder in parts(study):
        kept = LOGS / folder
        for some, chosen in left_to_train(files, seeds, kept).items():
            named = [str(path.relative_to(WORK)) for path in chosen]
            # Exit code 1 is that of a run that diverged, too.
            if run_command(train_command(folder, layers, named, some, jobs)) not in (0, 1):
                whole = False
            note_machine(kept)
        keep_logs(WORK / "logs" / folder, kept)
        whole = whole and not left_to_train(files, seeds, kept)
    return whole


def run_command(command: list[str]) -> int:
    """One of our commands, in the folder of the studies."""
    print("$", *command, flush=True)
    name, *words = command
    program = [sys.executable, name] if "/" in name else [str(TOOLS / name)]
    return subprocess.run([*program, *words], cwd=WORK).returncode


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
    about = f"load average: {os.getloadavg()[0]:.1f}, its own work included, on {machine_words()}"
    (LOGS / study.name / "full_scale.txt").write_text(f"{about}\n{said}")


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


def machine_words() -> str:
    """This machine in general words."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = len(os.sched_getaffinity(0))
    name = found[1].strip() if found else platform.machine()
    return f"{cores} core{'s' if cores > 1 else ''} of a machine with the processor {name}"


def note_machine(kept: Path) -> None:
    """Keep on what machine logs in this folder were made: a line for each, for those of earlier ones are kept too."""
    kept.mkdir(parents=True, exist_ok=True)
    # Others' work shows in a load that is much more than ours.
    busy = os.getloadavg()[2] > 1.5 * len(os.sched_getaffinity(0))
    words = machine_words() + (_BUSY if busy else "")
    path = kept / "machine.txt"
    known = path.read_text("utf-8").splitlines() if path.is_file() else []
    if not any(line.startswith(words) for line in known):
        known = [line for line in known if not words.startswith(line)]  # what it did beside stays said
        path.write_text("".join(f"{line}\n" for line in [*known, words]))


def machines(study: Study) -> str:
    """On what its kept logs were made, in words."""
    files = [folder / "machine.txt" for folder in kept(study)]
    lines = [line for file in files if file.is_file() for line in file.read_text("utf-8").splitlines()]
    return "; and ".join(dict.fromkeys(lines))
