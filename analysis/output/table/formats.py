"""The results table as Markdown, LaTeX and CSV; text of strangers is escaped for each."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

from caffebench.analysis.output.table.results_table import CHANCE, TableRow
from caffebench.common.printable import csv_text, printable

__all__ = ["as_csv", "as_latex", "as_markdown"]


def _cells(table: Sequence[TableRow], bold: str, escape: Callable[[str], str]) -> list[list[str]]:
    def text(one: str) -> str:
        return escape(" ".join(printable(one).split()))

    def figure(one: str, std: str, counted: tuple[int, int], best: bool) -> str:
        if counted[0] > 1 and counted[1]:
            one = escape(f"{one} ± {std} ({counted[1]})" if std else f"{one} ({counted[1]})")
        return bold.format(one) if best else one

    def beside(published: str, difference: str) -> str:
        return f"{text(published)} ({difference})" if difference else text(published)

    published = any(line.published_accuracy or line.published_loss for line in table)
    rows = [["Name", "Accuracy", "LogLoss", *(["Published accuracy", "Published LogLoss"] * published), "Comments"]]
    for line in table:
        name = re.sub(r"\bdefault\b", lambda found: bold.format(found[0]), text(line.name))
        row = [
            name,
            figure(line.accuracy, line.accuracy_std, (line.runs, line.accuracy_runs), line.best_accuracy),
            figure(line.loss, line.loss_std, (line.runs, line.loss_runs), line.best_loss),
        ]
        if published:
            row.append(beside(line.published_accuracy, line.accuracy_difference))
            row.append(beside(line.published_loss, line.loss_difference))
        rows.append([*row, text(line.comment)])
    return rows


_MARKDOWN = re.compile(r"[\\|<>*`\[\]~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
}


def _for_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\g<0>", text)


def _for_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def as_markdown(table: Sequence[TableRow]) -> str:
    """A Markdown table: Name | Accuracy | LogLoss | Comments, published figures and differences before the comments.

    Those two columns are there where any line of ``table`` has such a figure.
    """
    head, *rows = _cells(table, "**{}**", _for_markdown)
    rule = [":---", *["---:"] * (len(head) - 2), ":---"]
    below = "".join(f"\n{_for_markdown(note)}\n" for note in _notes(table))
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows)) + below


def _notes(table: Sequence[TableRow]) -> list[str]:
    """What is said below the table."""
    if all(line.runs == 1 for line in table):
        return []
    return [
        "Mean ± standard deviation over seeds (number of runs that converged). Bold: the best, and what Welch's t-test"
        f" does not tell from it (one-sided p > {CHANCE:g})."
    ]


def as_latex(table: Sequence[TableRow]) -> str:
    """The same as a ``tabular``, with the rules of the package booktabs."""
    head, *rows = _cells(table, r"\textbf{{{}}}", _for_latex)
    columns = "l" + "r" * (len(head) - 2) + "l"
    # In braces, as LaTeX takes both for options of the \\ before.
    body = "".join(re.sub(r"^[\[*]", r"{\g<0>}", " & ".join(row)) + " \\\\\n" for row in rows)
    top = f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(head)} \\\\\n\\midrule\n"
    below = "".join(f"% {note}\n" for note in _notes(table))
    return f"{top}{body}\\bottomrule\n\\end{{tabular}}\n{below}"


def as_csv(table: Sequence[TableRow]) -> str:
    """The same as CSV: a column for each figure, as text, empty where there is none; nothing is set in bold.

    Columns: ``name``, ``accuracy``, ``logloss``, ``published_accuracy``, ``accuracy_difference``,
    ``published_logloss``, ``logloss_difference``, ``comments``, ``runs`` (their number), ``accuracy_std``,
    ``logloss_std``.
    """
    buffer = io.StringIO()
    names = [
        "name",
        "accuracy",
        "logloss",
        "published_accuracy",
        "accuracy_difference",
        "published_logloss",
        "logloss_difference",
        "comments",
        "runs",
        "accuracy_std",
        "logloss_std",
    ]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for line in table:
        ours = [line.name, line.accuracy, line.loss]
        theirs = [line.published_accuracy, line.accuracy_difference, line.published_loss, line.loss_difference]
        cells = [*ours, *theirs, line.comment, str(line.runs), line.accuracy_std, line.loss_std]
        writer.writerow(["" if cell == "-" else csv_text(cell) for cell in cells])
    return buffer.getvalue()
