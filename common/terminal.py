"""Tables, long lines and progress bars that fit the terminal, and are plain whole lines without one.

Names are never cut or broken: a terminal that is too narrow for a table is shown fewer of its columns. Colours are
those of progress bars; red is for errors alone.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from caffebench.common.messages import is_quiet

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Column", "progress_bars", "table", "terminal_width", "wrapped"]

_NARROW = 12
"""Columns of a terminal that a text which can be wrapped is given at least."""


def terminal_width() -> int | None:
    """The columns of the terminal that stdout is, None where it is none: a pipe and a file have no width."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(line: str, indent: str = "    ") -> str:
    """``line`` with line breaks between words where it is too long for the terminal; words are never broken."""
    width = terminal_width()
    if width is None or len(line) <= width:
        return line
    start = line[: len(line) - len(line.lstrip())]
    shown = textwrap.wrap(line, width, subsequent_indent=start + indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(shown)


class Column(NamedTuple):
    """One column of a table."""

    title: str
    text: bool = False
    """Whether its cells begin at its left side, as text does; numbers end at the right."""
    wraps: bool = False
    """Whether its cells may be wrapped between words."""
    rank: int = 0
    """Which go where the terminal is too narrow: first the highest; those with 0 stay."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """``rows`` of a cell a column under their titles, with the columns that the terminal has room for.

    A last line names those it has no room for. Where it has none for the columns that always stay, each row becomes a
    few lines, the first cell at the beginning.
    """
    width = terminal_width()
    needs = [max(map(_columns, (column.title, *cells))) for column, *cells in zip(columns, *rows, strict=True)]
    least = list(needs)
    for at, column in enumerate(columns):
        if column.wraps:
            words = [word for cell in (column.title, *(row[at] for row in rows)) for word in cell.split()]
            least[at] = min(needs[at], max(_NARROW, *map(_columns, words)))
    shown = list(range(len(columns)))
    while width is not None and sum(least[at] for at in shown) + 2 * (len(shown) - 1) > width:
        last = max(shown, key=lambda at: columns[at].rank)
        if columns[last].rank == 0:
            return "\n".join(_as_lines(columns, row, width) for row in rows)
        shown.remove(last)
    if width is not None:
        over = sum(needs[at] for at in shown) + 2 * (len(shown) - 1) - width
        for at in (at for at in shown if over > 0 and columns[at].wraps):
            less = min(over, needs[at] - least[at])
            needs[at], over = needs[at] - less, over - less
    lines = []
    for row in ([column.title for column in columns], *rows):
        cells = [_broken(row[at], needs[at]) if columns[at].wraps else [row[at]] for at in shown]
        for parts in zip_longest(*cells, fillvalue=""):
            padded = (
                part + " " * (needs[at] - _columns(part)) if columns[at].text else part.rjust(needs[at])
                for at, part in zip(shown, parts, strict=True)
            )
            lines.append("  ".join(padded).rstrip())
    left_out = [column.title for at, column in enumerate(columns) if at not in shown]
    return "\n".join(lines) + ("\n" + wrapped(f"no room here for: {', '.join(left_out)}") if left_out else "")


def _columns(text: str) -> int:
    """The columns of a terminal that ``text`` takes: two for a letter of Chinese."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _broken(text: str, width: int) -> list[str]:
    """``text`` in lines of so many columns, each as many words as there is room for."""
    if _columns(text) <= width:
        return [text]
    lines: list[str] = []
    for word in text.split():
        if lines and _columns(lines[-1]) + 1 + _columns(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _as_lines(columns: Sequence[Column], row: Sequence[str], width: int) -> str:
    told = ", ".join(f"{column.title} {cell}" for column, cell in zip(columns[1:], row[1:], strict=True) if cell)
    rest = textwrap.wrap(told, width - 2, break_long_words=False, break_on_hyphens=False)
    return "\n".join([row[0], *(f"  {line}" for line in rest)])


@contextmanager
def progress_bars() -> Iterator[Callable[..., None]]:
    """A bar for each name that ``update(name, done, total, unit="", note="")`` is called with, on stderr's terminal.

    ``total`` is None where it is not known. With a ``unit`` ("images") the bar says how many there are, and how many a
    second; without one, how many per cent. Nothing is shown where stderr is no terminal, nor with ``-q``.
    """
    if is_quiet() or not sys.stderr.isatty():
        yield lambda *_, **__: None
        return
    from rich.console import Console  # a quarter of the time that a small log takes
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        # Rich's own bar is red until it is full; this one takes what room the rest leaves.
        BarColumn(bar_width=None, complete_style="cyan", finished_style="green", pulse_style="cyan"),
        TextColumn("{task.fields[state]}", markup=False, style="default"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as progress:
        yield _updating(progress)


def _updating(progress: Progress) -> Callable[..., None]:
    tasks: dict[str, Any] = {}

    def update(name: str, done: float, total: float | None, unit: str = "", note: str = "") -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(name, total=total, state="")
        speed = next(task.speed for task in progress.tasks if task.id == tasks[name])
        state = [f"{done / total:.0%}" if total else ""]
        if unit:
            state = [f"{done:,.0f}/{total or 0:,.0f} {unit}", f"{speed:,.0f}/s" if speed else "", note]
        progress.update(tasks[name], completed=done, total=total, state="  ".join(filter(None, state)))

    return update
