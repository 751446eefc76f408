"""Published figures from a CSV file, given to the runs that they are of."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from caffebench.analysis.runs.model import Run
from caffebench.common.errors import InputError

__all__ = ["with_published"]

_SETTING = re.compile(r"(?:bs|lr|drop)\d")


def _words(name: str) -> set[str]:
    """Parts of a name, numbers without their dots: ``bs512_lr0.02`` and ``..._bs512_lr002`` have the same."""
    return {word.replace(".", "") for word in re.split(r"[^a-z0-9.]+", name.lower()) if word}


def with_published(path: Path, runs: Iterable[Run]) -> list[Run]:
    """The runs with the published figures of a CSV file with the columns ``variant,label,accuracy,logloss,comment``.

    A run is the variant of its name; failing that, the one all of whose words (``bs512``, ``lr0.02``) are in the
    run's name or folder, if the run's name states no other batch size or learning rate. What a run's own header says
    is not replaced. Raises ``InputError`` where the file is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    missing = {"variant", "accuracy", "logloss"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(
            f"{path} has no column {' and no column '.join(sorted(missing))}: give variant,accuracy,logloss"
        )
    return [_with_row(run, _variant(run, rows)) for run in runs]


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
        if row["variant"] in (run.name, run.header.get("variant")):
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
