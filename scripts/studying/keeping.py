"""The logs that are kept of finished runs: in them is what a study found, so those runs are not trained again."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from caffebench.generator.compare import compare
from caffebench.generator.meaning import load_prototxt
from caffebench.launcher.solver.identity import identify
from caffebench.launcher.solver.solverfile import read_solver

__all__ = ["is_kept", "keep_logs", "left_to_train", "thinned"]

_BUILDING = re.compile(rb" (?:layer_factory\.hpp|net\.cpp):\d+\] (?!Initializing net)")
"""Lines in which Caffe tells how it builds a net: that net stands in the log before them."""
_SOLVER = re.compile(r"Initializing solver from parameters: \n((?:(?![IWE]\d{4}).*\n)*)")
"""What was trained, as Caffe prints it."""
COMMANDS = ("solver: solver_mode ", "solver: random_seed ")
"""What a command decides and not the file."""


def left_to_train(files: Sequence[Path], seeds: Iterable[int], kept: Path) -> dict[str, list[Path]]:
    """Which files have which seeds still to be trained: files by the seeds as `--seeds` takes them.

    A run is not to be trained again if its kept log came to an end and is of the file as it is now.
    """
    wanted = list(seeds)
    left: dict[str, list[Path]] = {}
    for path in files:
        missing = [seed for seed in wanted if not is_kept(path, f"{path.stem}_seed{seed}", kept)]
        if missing:
            left.setdefault("".join(f"{seed}," for seed in missing), []).append(path)
    return left


def is_kept(path: Path, run: str, kept: Path) -> bool:
    """Whether the kept log of a run ended and is of this very file's net and solver."""
    sessions = sorted(kept.glob(f"{run}.*.log.gz"))
    if not sessions:
        return False
    text = gzip.decompress(sessions[-1].read_bytes()).decode("utf-8", "replace")
    if ended(text) == "":
        return False
    said = re.search(r"caffebench: run (\{.*)", text)
    return said is not None and same_training(path, json.loads(said[1]), text)


def ended(text: str) -> str:
    """``done`` or ``not_converged``; nothing where the session was stopped, crashed, or goes on."""
    found = re.findall(r'caffebench: end \{"status": "(\w+)"', text)
    return found[-1] if found and found[-1] in ("done", "not_converged") else ""


def same_training(path: Path, said: Mapping[str, Any], text: str) -> bool:
    """Whether the log is of what the file says now: to the byte, or in meaning (`gen-prototxt --compare`)."""
    file = read_solver(path)
    now, before = identify(file, init=file.header.get("init", "none")), said["identity"]
    if before["file"] != now.file and not _same_in_meaning(path, text):
        return False
    return bool(before["options"] == now.options)


def _same_in_meaning(path: Path, text: str) -> bool:
    printed = _SOLVER.search(text)
    if printed is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder) / path.name
        trained.write_text(printed[1])
        found = [str(one) for one in compare(load_prototxt(trained), load_prototxt(path))]
    return all(one.startswith(COMMANDS) for one in found)


def keep_logs(whole: Path, kept: Path) -> None:
    """Copy the logs of a folder, compressed, without Caffe's building of nets and where on this machine they were.

    A run that goes on, or is to go on, is not copied.
    """
    kept.mkdir(parents=True, exist_ok=True)
    for newest in sorted(whole.glob("*.log")):
        run, _, _ = newest.name.rsplit(".", 2)
        sessions = sorted(whole.glob(f"{run}.*.log"))
        if newest != sessions[-1] or not ended(newest.read_text("utf-8", "replace")):
            continue
        for path in kept.glob(f"{run}.*.log.gz"):
            path.unlink()  # of an earlier file, maybe in more sessions
        for path in sessions:
            # No time and no name in the file: equal logs give equal files.
            text = thinned(path.read_bytes()).replace(f"{whole.resolve().parent.parent}/".encode(), b"")
            (kept / f"{path.name}.gz").write_bytes(gzip.compress(text, 9, mtime=0))


def thinned(text: bytes) -> bytes:
    """The log without the lines in which Caffe builds its nets."""
    return b"".join(line for line in text.splitlines(keepends=True) if not _BUILDING.search(line))
