"""The pictures of a study: those of `merge-logs --plot` that its page shows, made small."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from caffebench.analysis.output.plots import save_plots
from studying.declared import PAGES, Study
from studying.page import PLOTS, read_arms

__all__ = ["save_pictures"]


def save_pictures(study: Study) -> list[Path]:
    """Draw the kept logs of a study; nothing where there are none."""
    runs = [run for arm in read_arms(study) for run in arm.group.runs]
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for path in save_plots(runs, Path(folder)) if runs else ():
            if path.stem in PLOTS:
                made.append(PAGES / "images" / f"{study.name}_{path.stem}.png")
                made[-1].parent.mkdir(exist_ok=True)
                Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(made[-1], optimize=True)
    return made
