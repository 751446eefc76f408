"""Logs to curves, plots and tables.

    from caffebench.analysis import read

    table = read("logs")                        # one long polars table, the columns of curves.csv
    tests = table.filter(phase="test", metric="accuracy")

``read`` returns the one long table: ``run, phase, net, iteration, epoch, seconds, session, lr, metric, value``.
``phase`` is ``train`` or ``test``; ``net`` is the number of the test net, null for the train net. Of the train net,
metric ``loss`` is the value of Caffe's ``Iteration N, loss = ...`` lines (averaged over ``average_loss`` iterations and
the weighted sum of all losses); outputs keep their names, but an output called ``loss`` is ``batch_loss`` there. After
a resume from iteration R, rows past R are gone; at one iteration the later session wins.

``read_runs`` returns ``Run`` objects: the same rows run by run (``run.curves``), and ``name``, ``sessions``, ``config``
(recovered from the log), ``header`` (of our generated files), ``status`` and its ``reason``, ``accuracy``, ``loss``,
``best``, ``seconds``, ``crashes``, ``lost_iterations``; ``run.curve("accuracy")`` gives one metric's rows.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from caffebench.common.extras import needs_extra

if TYPE_CHECKING:
    import polars as pl

    from caffebench.analysis.runs.model import COLUMNS, Run, Session
    from caffebench.analysis.runs.reading import read_runs

__all__ = ["COLUMNS", "Run", "Session", "read", "read_runs"]

_HOMES = {"COLUMNS": "runs.model", "Run": "runs.model", "Session": "runs.model", "read_runs": "runs.reading"}


def __getattr__(name: str) -> Any:
    """The names above, imported when first asked for: `merge-logs --help` needs none of what they need."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def read(*paths: Path | str, train_size: int | None = None) -> pl.DataFrame:
    """Read logs into one long table: a row for each value that a log gives, runs in the natural order of names.

    ``paths`` are log files, compressed or not, and folders with logs in them; ``train_size`` is the number of images of
    an epoch, if missing from the logs. The table has the columns of ``curves.csv``:

    ``run`` (text), ``phase`` (text: train or test), ``net`` (int32: number of the test net, null for the train net),
    ``iteration`` (int64), ``epoch`` (float64: passes over the training images, null if not known), ``seconds``
    (float64: of training that led to the row, null without times), ``session`` (int32, from 1), ``lr`` (float64: the
    learning rate, null if not known), ``metric`` (text), ``value`` (float64; may be NaN).

    Raises ``InputError`` where a path does not exist, no Caffe log is found, or Polars is missing.
    """
    with needs_extra("frames", "tables in Python need Polars"):
        import polars as pl

    from caffebench.analysis.runs.reading import read_runs

    return pl.concat([run.curves for run in read_runs(paths, train_size)])


class _Package(ModuleType):
    """The package; importing its room ``read/`` leaves the function of that name where it is."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "read" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
