"""The command ``make-lmdb``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffebench.common.cli import command, group

if TYPE_CHECKING:
    from caffebench.datasets.made import Made

__all__ = ["main"]

_OUT = click.argument("out", type=click.Path(file_okay=False, path_type=Path))


def _force(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--force", is_flag=True, help="Replace LMDBs that are already there.")(function)


def _tell(made: Iterable[Made]) -> None:
    for one in made:
        found = one.summary
        low, high = (" x ".join(map(str, size)) for size in (found.smallest, found.largest))
        size = low if low == high else f"{low} to {high}"
        means = ", ".join(f"{mean:.2f}" for mean in found.means)
        order = found.source["channels"]
        mean = f"mean {means}" if order == "gray" else f"channel means {means} ({order})"
        already = "already complete: " if one.already else ""
        click.echo(f"{one.path}: {already}{found.records} images, {found.source['classes']} classes, {size}, {mean}")


@command(
    "digits",
    examples="""
    make-lmdb digits data/digits      # where the profile `digits` looks for its data
    """,
)
@_OUT
@_force
def digits(out: Path, force: bool) -> None:
    """The digits that scikit-learn carries: real scans, 8 x 8, ten classes, no network.

    Writes OUT/train_lmdb (1437 images) and OUT/test_lmdb (360).
    """
    from caffebench.datasets.digits import make_digits

    _tell(make_digits(out, force=force))


main = group(
    "make-lmdb",
    [digits],
    summary="Make the train and test LMDBs that Caffe's Data layer reads, and print counts and channel means.",
    examples="""
    make-lmdb digits data/digits
    """,
)
