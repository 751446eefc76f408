"""Published figures from a CSV file, given to the runs that they are of."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from caffebench.analysis.runs.model import Run
from caffebench.common.errors import InputError
from caffebench.common.printable import shortened

__all__ = ["with_published"]

_FIGURES = ("accuracy", "logloss")
_SETTING = re.compile(r"(?:bs|lr|drop)\d")


def _words(name: str) -> set[str]:
    """Parts of a name, numbers without their dots: ``bs512_lr0.02`` and ``..._bs512_lr002`` have the same."""
    return {word.replace(".", "") for word in re.split(r"[^a-z0-9.]+", name.lower()) if word}


def with_published(path: Path, runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """The runs with the published figures of a CSV file with the columns ``variant,label,accuracy,logloss,comment``.

    A run is the variant of its name; failing that, the one all of whose words (``bs512``, ``lr0.02``) are in the
    run's name or folder, if the run's name states no other batch size or learning rate. What a run's own header says
    is not replaced. Semicolons or tabs may stand between its cells, and a comma before the decimals.

    Also returns what the user should know of rows that are of no run. Raises ``InputError`` where the file is not such
    a table.
    """
    rows = _rows(path)
    runs = list(runs)
    found = [_variant(run, rows) for run in runs]
    notes = []
    if nameless := sum(not row["variant"] for row in rows):
        notes.append(f"{path}: {nameless} of {len(rows)} rows without a variant, and so of no run")
    if nameless < len(rows) and not any(found):
        theirs = shortened([row["variant"] for row in rows if row["variant"]])
        notes.append(f"{path}: no row is of any run: variants {theirs}; runs {shortened([run.name for run in runs])}")
    return [_with_row(run, row) for run, row in zip(runs, found, strict=True)], notes


def _rows(path: Path) -> list[dict[str, str]]:
    """Cells by column, without the blanks around them. Raises as ``with_published`` does."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()  # Excel's "CSV UTF-8" begins with a mark
        separator = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.DictReader(io.StringIO(text), restval="", delimiter=separator)
        cells = [{key.strip(): cell.strip() for key, cell in row.items() if key is not None} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    missing = {"variant", *_FIGURES} - {name.strip() for name in reader.fieldnames or ()}
    if text and missing:
        raise InputError(
            f"{path} has no column {' and no column '.join(sorted(missing))}: give variant,accuracy,logloss"
        )
    rows = [row for row in cells if any(row.values())]  # Excel leaves lines of separators alone
    if not rows:
        raise InputError(
            f"{path} has no rows: give a header variant,accuracy,logloss and below it a row of each variant"
        )
    return [row | {name: row[name].replace(",", ".") for name in _FIGURES} for row in rows]


def _with_row(run: Run, row: dict[str, str] | None) -> Run:
    if row is None:
        return run
    told = {
        "variant": row["variant"],
        "label": row.get("label"),
        "comment": row.get("comment"),
        "sweep": row.get("sweep"),
        "published_accuracy": row["accuracy"],
        "published_logloss": row["logloss"],
    }
    return replace(run, header={key: value for key, value in told.items() if value} | run.header)


def _variant(run: Run, rows: Sequence[dict[str, str]]) -> dict[str, str] | None:
    for row in rows:
        if row["variant"] and row["variant"] in (run.name, run.header.get("variant")):
            return row
    own = _words(run.name)
    around = own | _words(Path(run.sources[0]).parent.name)
    settings = {word for word in own if _SETTING.match(word)}
    fitting = [
        (len(words), -place)
        for place, row in enumerate(rows)
        if (words := _words(row["variant"])) <= around
        and settings == {word for word in words if _SETTING.match(word)}
        and settings
    ]
    return rows[-max(fitting)[1]] if fitting else None
