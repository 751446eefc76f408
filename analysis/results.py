"""Everything that ``merge-logs`` writes into its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffebench.analysis.model import Run

__all__ = ["Wanted"]


@dataclass(frozen=True)
class Wanted:
    """What is to be written, as the options of ``merge-logs`` say it."""

    out: Path
    plot: bool = False
    x: str = "iteration"
    formats: Sequence[str] = ("png",)
    log: str = ""
    """Axes that are to be logarithmic: ``x``, ``y`` or ``xy``."""
    window: int | None = None
    resumes: bool = False
    table: bool = False
    style: str = "rounded"
    """How the table's figures are shown: ``publish.STYLES``."""
    html: bool = False
    export: Sequence[str] = ()
    published: Path | None = None
    reload: float | None = None
    """Seconds after which an open report looks for news."""

    def write(self, runs: Sequence[Run]) -> list[Path]:
        """Write it all; returns the paths. Raises ``InputError`` where an extra that is needed is not installed."""
        from caffebench.analysis import publish, tables
        from caffebench.common.files import write_whole

        if self.published is not None:
            publish.read_published(self.published, runs)
        written = [self.out / "curves.csv", self.out / "summary.csv"]
        tables.write_curves(runs, written[0])
        tables.write_summary(runs, written[1])
        if self.table:
            lines = publish.lines(runs, self.style)
            made = {"md": publish.as_markdown, "tex": publish.as_latex, "csv": publish.as_csv}
            for kind, write in made.items():
                write_whole(self.out / f"table.{kind}", write(lines))
                written.append(self.out / f"table.{kind}")
        if self.plot:
            from caffebench.analysis.plots import save_plots

            written += save_plots(
                runs,
                self.out / "plots",
                self.x,
                formats=self.formats,
                log_x="x" in self.log,
                log_y="y" in self.log,
                resumes=self.resumes,
                window=self.window,
            )
        if self.html:
            from caffebench.analysis.report import write_report

            write_report(runs, self.out / "report.html", x=self.x, reload=self.reload)
            written.append(self.out / "report.html")
        # The CSV files are there already.
        if others := [one for one in self.export if one != "csv"]:
            from caffebench.analysis.export import export

            written += export(runs, self.out, others)
        return written
