"""What merge-logs answers for every real log at hand, held against what it answered before.

``answers/first.txt`` keeps the first answers, ``answers/changed.yaml`` those that are meant to differ since, each with
its reason. Rows of ``curves.csv`` are kept as digests, one of each column of a series. By hand:

    python tests/analysis/test_answers.py              # what differs, as a diff
    python tests/analysis/test_answers.py accept "the reason" INPUT...    # put today's answers among the changed ones
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from caffebench.analysis.cli import main
from caffebench.analysis.output import csv_files

ROOT = Path(__file__).resolve().parents[2]
FIRST, CHANGED = Path(__file__).parent / "answers/first.txt", Path(__file__).parent / "answers/changed.yaml"
PLACES = {
    "published": ROOT / "../shared/caffenet-benchmark/logs",
    "cases": ROOT / "../shared/cases/logs",
    "own": ROOT / "logs/studies/bn_dropout",
}
# The answers tell nothing of what runs are called and compared with.
SUMMARY = [
    name
    for name in csv_files.SUMMARY
    if name not in ("sweep", "variant", "seed", "published_accuracy", "published_logloss")
]
DIGESTED = ("iteration", "value", "seconds", "epoch", "session", "lr")


def inputs() -> Iterator[tuple[str, Path]]:
    """Every published log, every case (a file, or a folder of files that belong together), and logs of our own."""
    for path in sorted(PLACES["published"].rglob("*.log")):
        yield f"published/{path.relative_to(PLACES['published'])}", path
    for path in sorted(PLACES["cases"].iterdir()) if PLACES["cases"].is_dir() else ():
        yield f"cases/{path.name}", path
    yield "own", PLACES["own"]


def answer(path: Path) -> str:
    """What ``merge-logs PATH --sessions`` says and writes, as text without the rows themselves."""
    out, errors = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "250")
        code: Any = 0
        with redirect_stdout(out), redirect_stderr(errors):
            try:
                main.main([str(path), "--sessions", "--out", folder])
            except SystemExit as stop:
                code = stop.code
        lines = [f"exit code {code}"] if code else []
        lines += errors.getvalue().replace(str(path.parent), "...").splitlines()
        if Path(folder, "summary.csv").exists():
            lines += _written(Path(folder), out.getvalue())
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())


def _written(folder: Path, said: str) -> Iterator[str]:
    with (folder / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    runs = {run: list(mine) for run, mine in groupby(rows, lambda row: row["run"])}
    with (folder / "summary.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            yield " ".join(f"{name}={row[name]}" for name in SUMMARY if row[name])
            mine = runs.get(row["run"], [])
            order = _digest(",".join((*_series(one), one["iteration"])) for one in mine)
            yield f"  {len(mine)} rows, order {order}"
            for key, group in groupby(sorted(mine, key=_series), _series):
                (phase, net, metric), some = key, list(group)
                sums = (f"{column} {_digest(one[column] for one in some)}" for column in DIGESTED)
                where = f"{some[0]['iteration']}..{some[-1]['iteration']}"
                yield f"  {phase}{net} {metric}: {len(some)} rows {where}: {', '.join(sums)}"
            blocks = said.split("\n\n")
            story = next((one for one in blocks if one.startswith(f"{row['run']}: ")), "")
            yield from (f"  {line}" for line in story.splitlines() if not line.startswith(str(folder)))


def _series(row: dict[str, str]) -> tuple[str, str, str]:
    return row["phase"], row["net"], row["metric"]


def _digest(cells: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()[:6]


def first_answers() -> dict[str, str]:
    """The answers kept in ``first.txt``, by input."""
    parts = re.split("^== ", FIRST.read_text(), flags=re.M)[1:]
    return {name: text for name, _, text in (one.partition("\n") for one in parts)}


def changes() -> dict[str, dict[str, str]]:
    """Reason -> input -> the answer that is right now."""
    return (yaml.safe_load(CHANGED.read_text()) if CHANGED.exists() else None) or {}


def expected() -> dict[str, str]:
    """The right answers."""
    return first_answers() | {name: text for some in changes().values() for name, text in some.items()}


def difference(name: str, path: Path) -> str:
    """A diff from the right answer to today's; empty where they are the same."""
    kept, now = expected().get(name, "").splitlines(), answer(path).splitlines()
    return "\n".join(difflib.unified_diff(kept, now, f"{name}, kept", f"{name}, today", lineterm="", n=1))


@pytest.mark.parametrize("name", first_answers())
def test_the_answer_is_the_one_that_is_kept(name: str, request: pytest.FixtureRequest) -> None:
    if name != "own":
        request.getfixturevalue("shared")  # skips, with the reason, where the logs are not at hand
    assert not (found := difference(name, dict(inputs())[name])), f"\n{found}"


def test_every_kept_answer_has_its_log_and_every_change_changes_something(shared: Path) -> None:
    first, names = first_answers(), {name for name, _ in inputs()}
    assert set(first) == names, "an input without a kept answer, or the other way round"
    for reason, some in changes().items():
        assert len(reason) > 20, f"no reason: {reason!r}"
        for name, text in some.items():
            assert text != first[name], f"{name} is listed as changed and is not"


def _accept(reason: str, names: list[str]) -> None:
    kept = {why: {name: text for name, text in some.items() if name not in names} for why, some in changes().items()}
    paths, first = dict(inputs()), first_answers()
    for name in names:
        if (text := answer(paths[name])) != first[name]:
            kept.setdefault(reason, {})[name] = text
    yaml.add_representer(str, _as_block, yaml.SafeDumper)
    written = yaml.safe_dump({why: some for why, some in kept.items() if some}, width=10**6, sort_keys=False)
    CHANGED.write_text(written if any(kept.values()) else "")


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["first"]:
            FIRST.write_text("".join(f"== {name}\n{answer(path)}" for name, path in inputs()))
        case ["accept", reason, *names]:
            _accept(reason, names)
        case names:
            differing = [
                found for name, path in inputs() if not names or name in names if (found := difference(name, path))
            ]
            print(*differing, sep="\n", end="\n" * bool(differing))
            sys.exit(bool(differing))
