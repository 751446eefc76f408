"""What ``merge-logs`` is to write into its folder, and writing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from caffebench.analysis.output.drawing.view import Limits, View, usual_x
from caffebench.analysis.runs.model import Run

__all__ = ["OutputOptions", "Written"]


class Written(NamedTuple):
    """What was written, and what the user should know about it."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]
    table: str = ""
    """The results table in Markdown, where it was asked for."""
    runs: tuple[Run, ...] = ()
    """The runs as they were written: with the published figures that were asked for."""


class OutputOptions(NamedTuple):
    """What is to be written, as the options of ``merge-logs`` say it."""

    out: Path
    plot: bool = False
    view: View = View()
    """Of the plots; the report begins with the same ``x``."""
    formats: Sequence[str] = ("png",)
    ylims: Mapping[str, Limits] = MappingProxyType({})
    """Limits of the second axis of single plots, by their names."""
    table: bool = False
    style: str = "rounded"
    """How the table's figures are shown: ``results_table.STYLES``."""
    html: bool = False
    export: Sequence[str] = ()
    each: bool = False
    """Show single runs where there are groups of seeds."""
    published: Path | None = None
    reload: float | None = None
    """Seconds after which an open report looks for news."""

    def write(self, runs: Sequence[Run]) -> Written:
        """Write all that is asked for of ``runs`` into ``out``, which is made if missing.

        Raises ``InputError`` where an extra that is needed is not installed or ``published`` is no such table,
        ``OSError`` where a file cannot be written.
        """
        from caffebench.analysis.output import csv_files
        from caffebench.common.files import write_whole

        notes: list[str] = []
        table = ""
        if self.published is not None:
            from caffebench.analysis.output.table.published import with_published

            runs, unused = with_published(self.published, runs)
            notes += unused
        written = [self.out / "curves.csv", self.out / "summary.csv"]
        csv_files.write_curves(runs, written[0])
        csv_files.write_summary(runs, written[1])
        if len(runs) > 1:
            from caffebench.analysis.runs.groups import group_runs

            groups = group_runs(runs)
            if len(groups) < len(runs):
                written.append(self.out / "groups.csv")
                csv_files.write_groups(groups, written[-1])
                why = "taken for seeds of one training, as their solver, nets and weights are the same"
                notes += [f"{one.names}: {why} (--each shows each)" for one in groups if one.is_doubtful]
        if self.table:
            from caffebench.analysis.output.table import formats
            from caffebench.analysis.output.table.results_table import table_rows

            rows = table_rows(runs, self.style, each=self.each)
            table = formats.as_markdown(rows)
            made = {"md": formats.as_markdown, "tex": formats.as_latex, "csv": formats.as_csv}
            for kind, write in made.items():
                write_whole(self.out / f"table.{kind}", write(rows))
                written.append(self.out / f"table.{kind}")
        if self.plot:
            from caffebench.analysis.output.plots import save_plots

            written += save_plots(
                runs,
                self.out / "plots",
                self.view,
                formats=self.formats,
                ylims=self.ylims,
                each=self.each,
                left_out=notes.append,
            )
        if self.html:
            from caffebench.analysis.output.report import write_report

            x = self.view.x or usual_x(runs)
            write_report(runs, self.out / "report.html", x=x, reload=self.reload, each=self.each)
            written.append(self.out / "report.html")
        # The CSV files are there already.
        if others := [one for one in self.export if one != "csv"]:
            from caffebench.analysis.output.export import export

            written += export(runs, self.out, others)
        if old := _of_earlier_calls(self.out):
            notes.append(f"of an earlier call, not renewed by this one: {', '.join(map(str, old))}")
        return Written(tuple(written), tuple(notes), table, tuple(runs))


def _of_earlier_calls(folder: Path) -> list[Path]:
    """Files of the kinds that calls write which are older than this call's first file."""
    kinds = ["groups.csv", "report.html", "table.md", "table.tex", "table.csv"]
    kinds += [f"{table}.{form}" for table in ("curves", "summary") for form in ("parquet", "json")]
    kinds += [f"plots/*.{form}" for form in ("png", "svg", "pdf")] + ["tensorboard/**/events.out.tfevents.caffebench"]
    first = (folder / "curves.csv").stat().st_mtime_ns
    return [one for kind in kinds for one in sorted(folder.glob(kind)) if one.stat().st_mtime_ns < first]
