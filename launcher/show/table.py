"""The live table of runs, fit to the width of the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from caffebench.common.printable import printable
from caffebench.launcher.show.row import Row

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["FAILED", "live_table"]

MANY = 20
"""More runs than this, and only those under way get a row."""
GAP = 2
SHORTEST_NAME, SHORTEST_BAR, LONGEST_BAR = 12, 10, 100
FAILED = ("crashed", "not_converged", "refused")
"""States of runs that went wrong: the only ones that are red."""


def live_table(rows: Sequence[Row], width: int, caption: str) -> Table:
    """The runs as a table of at most ``width`` columns, with ``caption`` below.

    Name, iteration, loss, accuracy and the time left are always there; where they leave no room, the bar goes first,
    then the speed, then the state, which then stands in the place of the time left. A name that is still too long
    keeps its beginning and its end.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if len(rows) > MANY:
        counts = Counter(row.state for row in rows)
        states = ", ".join(f"{count} {_words(state)}" for state, count in counts.items())
        caption = "; ".join(filter(None, [states, caption]))
        rows = [row for row in rows if row.state in ("starting", "training")]
    cells = {name: [row.cells()[name] for row in rows] for name in Row.FIGURES}
    cells["state"] = [_words(row.state) for row in rows]
    cells["run"] = [printable(row.run) for row in rows]
    widths = {name: max(map(len, [name, *column])) for name, column in cells.items()} | {"bar": SHORTEST_BAR}
    shown = ["run", "state", "bar", *Row.FIGURES]
    for name in ("bar", "it/s", "state"):
        if _total(shown, widths) > width:
            shown.remove(name)
    if "state" not in shown:
        cells["left"] = [left or state for left, state in zip(cells["left"], cells["state"], strict=True)]
        widths["left"] = max(map(len, ["left", *cells["left"]]))
    spare = width - _total(shown, widths)
    if spare < 0:
        widths["run"] = max(widths["run"] + spare, SHORTEST_NAME)
    elif "bar" in shown:
        widths["bar"] = min(SHORTEST_BAR + spare, LONGEST_BAR)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, caption=caption or None, caption_justify="left")
    for name in shown:
        title = "" if name in ("state", "bar") else name
        justify: Literal["left", "right"] = "right" if name in Row.FIGURES else "left"
        table.add_column(title, justify=justify, no_wrap=True, min_width=min(widths[name], width))
    for place, row in enumerate(rows):
        style = "red" if row.state in FAILED else ""
        texts = {name: Text(column[place], style) for name, column in cells.items()}
        texts["run"] = Text(_shortened(cells["run"][place], widths["run"]), style)
        bar = ProgressBar(
            total=row.max_iter,
            completed=row.iteration,
            width=widths["bar"],
            complete_style="red" if row.state in FAILED else "cyan",
            finished_style="green",
        )
        table.add_row(*(bar if name == "bar" else texts[name] for name in shown))
    return table


def _total(shown: Sequence[str], widths: dict[str, int]) -> int:
    return sum(widths[name] for name in shown) + GAP * (len(shown) - 1)


def _words(state: str) -> str:
    return state.replace("_", " ")


def _shortened(name: str, width: int) -> str:
    """A name of at most ``width`` letters: names of one study tend to differ at either end."""
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"
