"""What runs are called, and which runs a command asks for: a file each, or one for each file and seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffebench.common.errors import InputError

__all__ = ["RunRequest", "parse_seeds", "request_runs"]

MANY_SEEDS = 1000


@dataclass(frozen=True)
class RunRequest:
    """A run that is asked for."""

    prototxt: Path
    run: str
    """Its name, and so that of its files."""
    seed: int | None = None
    """The seed that the command names; None where the file decides."""


def request_runs(
    prototxt: Sequence[Path], *, name: str | None = None, seed: int | None = None, seeds: str | None = None
) -> list[RunRequest]:
    """The runs that ``--name``, ``--seed`` and ``--seeds`` make of the files. Raises ``InputError``.

    A run is called like its file, or ``name``, in which ``{stem}`` and ``{folder}`` stand for parts of the path.
    """
    if seed is not None and seeds is not None:
        raise InputError("--seed and --seeds exclude each other: --seeds 3 trains each file with the seeds 1, 2 and 3")
    wanted: list[int | None] = [seed] if seeds is None else list(parse_seeds(seeds))
    requests: dict[str, RunRequest] = {}
    for path in prototxt:
        for one in wanted:
            run = _run_name(path, name) + ("" if seeds is None else f"_seed{one}")
            if run in requests:
                before = requests[run].prototxt
                raise InputError(
                    f"{before} and {path} are both the run {run}, and would write the same files: "
                    + ("give each run once" if before == path else "name them with --name '{folder}_{stem}'")
                )
            requests[run] = RunRequest(path, run, one)
    return list(requests.values())


def _run_name(path: Path, name: str | None) -> str:
    if name is None:
        return path.stem
    run = name.replace("{stem}", path.stem).replace("{folder}", path.resolve().parent.name)
    if "{" in run or "}" in run:
        raise InputError(f"--name {name}: the only parts that can be filled in are {{stem}} and {{folder}}")
    if not re.fullmatch(r"(?!\.)[^/\x00-\x1f\x7f]{1,200}", run):
        raise InputError(f"--name {name!r}: a name is that of files, so without / and not beginning with a dot")
    return run


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds of ``--seeds``: "3" is 1, 2 and 3; "5,7" is 5 and 7. Raises ``InputError``."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()  # "7," is the seed 7 alone
    if not all(part.isdecimal() and int(part) < 2**31 for part in parts):
        raise InputError(f"--seeds {text}: give a number of seeds (3 is 1, 2 and 3), or seeds with commas (5,7)")
    numbers = tuple(int(part) for part in parts)
    if "," not in text:
        if not 0 < numbers[0] <= MANY_SEEDS:
            raise InputError(f"--seeds {text}: give a number of seeds from 1 to {MANY_SEEDS}")
        return tuple(range(1, numbers[0] + 1))
    if len(set(numbers)) < len(numbers):
        raise InputError(f"--seeds {text} names a seed twice")
    return numbers
