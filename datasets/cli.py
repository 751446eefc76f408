"""The command ``make-lmdb``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffebench.common.cli import command, group
from caffebench.common.errors import CaffebenchError
from caffebench.common.messages import announce, detail
from caffebench.common.terminal import progress_bars, wrapped

if TYPE_CHECKING:
    from caffebench.datasets.arrays import LmdbResult
    from caffebench.datasets.folder import Advance
    from caffebench.datasets.layout import Layout

__all__ = ["main"]

_SRC = click.argument("src", type=click.Path(path_type=Path))
_OUT = click.argument("out", type=click.Path(file_okay=False, path_type=Path))

_NAMED = 10
"""Damaged images that are named on the terminal."""


def _force(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--force", is_flag=True, help="Replace existing LMDBs.")(function)


def _report(out: Path, made: Sequence[LmdbResult]) -> None:
    from caffebench.datasets.profile import write_profile

    for one in made:
        found = one.summary
        low, high = (" x ".join(map(str, size)) for size in (found.smallest, found.largest))
        size = low if low == high else f"{low} to {high}"
        means = ", ".join(f"{mean:.2f}" for mean in found.means)
        order = found.source["channels"]
        mean = f"mean {means}" if order == "gray" else f"channel means {means} ({order})"
        already = "already complete: " if one.already else ""
        click.echo(
            wrapped(f"{one.path}: {already}{found.records} images, {found.source['classes']} classes, {size}, {mean}")
        )
        stored = sum(file.stat().st_size for file in one.path.iterdir())
        detail(f"{one.path}: {stored / 1e6:,.1f} MB; counts and means are in {one.path}/summary.json")
        if found.damaged:
            announce(f"{one.path}: left out {len(found.damaged)} damaged:")
            for line in found.damaged[:_NAMED]:
                announce(f"  {line}")
            if len(found.damaged) > _NAMED:
                announce(f"  all are in {one.path}/summary.json")
    write_profile(out, made)


@command(
    "digits",
    examples="""
    make-lmdb digits data/digits      # where the profile `digits` expects it
    """,
)
@_OUT
@_force
def digits(out: Path, force: bool) -> None:
    """Scikit-learn's digits: real scans of 8 x 8 pixels.

    Needs no network. Writes OUT/train_lmdb (1437 images of ten classes) and OUT/test_lmdb (360).
    """
    from caffebench.datasets.digits import make_digits

    _report(out, make_digits(out, force=force))


@command(
    "cifar10",
    examples="""
    make-lmdb cifar10 cifar-10-python.tar.gz data/cifar10
    make-lmdb cifar10 cifar-10-batches-bin data/cifar10     # the binary version, unpacked
    """,
)
@_SRC
@_OUT
@_force
def cifar10(src: Path, out: Path, force: bool) -> None:
    """CIFAR-10 in its Python or binary version.

    SRC is the .tar.gz or its unpacked folder. Writes OUT/train_lmdb, OUT/test_lmdb and OUT/labels.txt.
    The channels stay in RGB order, as in Caffe's own converter.
    """
    from caffebench.datasets.cifar10 import make_cifar10

    _report(out, make_cifar10(src, out, force=force))


@command(
    "mnist",
    examples="""
    make-lmdb mnist downloads data/mnist      # a folder with train-images-idx3-ubyte.gz and the other three
    """,
)
@_SRC
@_OUT
@_force
def mnist(src: Path, out: Path, force: bool) -> None:
    """MNIST, or another data set in its format.

    SRC is the folder of its four idx files, gzipped or not. Writes OUT/train_lmdb and OUT/test_lmdb.
    """
    from caffebench.datasets.mnist import make_mnist

    _report(out, make_mnist(src, out, force=force))


@command(
    "fashion-mnist",
    examples="""
    make-lmdb fashion-mnist data/fashion      # where the profile `fashion` expects it
    """,
)
@_OUT
@_force
def fashion_mnist(out: Path, force: bool) -> None:
    """Fashion-MNIST from Debian's package dataset-fashion-mnist.

    As root, the package is installed if it is missing.

    Writes OUT/train_lmdb (60000 images of 28 x 28, ten classes) and OUT/test_lmdb (10000).
    """
    from caffebench.datasets.fashion import make_fashion

    _report(out, make_fashion(out, force=force, announce=announce))


def _image_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.option(
            "--small-side", type=click.IntRange(min=1), help="Resize the smaller side to N pixels, keeping the ratio."
        ),
        click.option(
            "--test-share",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="Share of each class for the test set, if there is none.  [default: 0.1]",
        ),
        click.option("--gray", is_flag=True, help="One channel instead of three."),
        click.option(
            "--encoded", is_flag=True, help="Store JPEG or PNG, not pixels; only a Caffe with OpenCV reads that."
        ),
        click.option(
            "--quality",
            type=click.IntRange(1, 100),
            default=95,
            show_default=True,
            help="JPEG quality with --encoded, of images that cannot stay the files that they are.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            default=0,
            show_default=True,
            help="Random seed of split and order.",
        ),
        click.option("--jobs", type=click.IntRange(min=1), help="Parallel decoders.  [default: one per core]"),
        _force,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command(
    "folder",
    examples="""
    make-lmdb folder ILSVRC2012 data/imagenet128 --small-side 128
    make-lmdb folder flowers data/flowers --small-side 128 --test-share 0.2
    """,
)
@_SRC
@_OUT
@_image_options
def folder(src: Path, out: Path, test_share: float | None, seed: int, **options: Any) -> None:
    """Images in one folder per class.

    SRC holds the class folders, or train and val (or test) with class folders in each. Images that lie in val
    itself take their labels from SRC/val.txt, Caffe's list of `file label`. What is no image by its name (or, without
    an ending, by its content) is left out, which is said. Writes OUT/train_lmdb, OUT/test_lmdb and OUT/labels.txt.
    Channels are in BGR order, as in Caffe's convert_imageset. If stopped, the same command resumes.
    """
    _require_pillow()
    from caffebench.datasets.layout import read_layout

    _make(out, lambda: read_layout(src, test_share=test_share, seed=seed), seed, **options)


@command(
    "list",
    examples="""
    make-lmdb list train.txt data/birds --root images --small-side 128
    make-lmdb list train.txt data/birds --root images --test-list val.txt
    """,
)
@click.argument("listed", metavar="LIST", type=click.Path(path_type=Path))
@_OUT
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Folder that the paths are relative to.")
@click.option("--test-list", type=click.Path(path_type=Path), help="List of the test set.")
@_image_options
def list_(
    listed: Path, out: Path, root: Path, test_list: Path | None, test_share: float | None, seed: int, **options: Any
) -> None:
    """Images from a list of `path label` lines.

    The list is in the format of Caffe's ImageData layer and convert_imageset; labels count from 0.

    Writes OUT/train_lmdb and OUT/test_lmdb, shuffled with --seed, channels in BGR order.
    """
    _require_pillow()
    from caffebench.datasets.layout import read_list

    _make(out, lambda: read_list(listed, root, test_list=test_list, test_share=test_share, seed=seed), seed, **options)


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError as error:
        raise CaffebenchError(f"images are read with {error.name}: pip install caffebench[data]") from error


def _make(
    out: Path,
    layout: Callable[[], Layout],
    seed: int,
    *,
    small_side: int | None,
    gray: bool,
    encoded: bool,
    quality: int,
    jobs: int | None,
    force: bool,
) -> None:
    from caffebench.datasets.folder import make_images
    from caffebench.datasets.images import ImageOptions

    if encoded:
        announce("note: encoded images are read only by a Caffe with OpenCV: install-caffe --opencv builds one")
    options = ImageOptions(small_side, gray, encoded, quality)
    found = layout()
    for line in found.left_out:
        announce(line)
    with progress_bars() as update:

        def report(at: Advance) -> None:
            update(at.path.name, at.done, at.total, "images", f"{at.damaged} damaged" if at.damaged else "")

        made = make_images(found, out, options, seed=seed, jobs=jobs, force=force, report=report)
    _report(out, made)


main = group(
    "make-lmdb",
    [digits, fashion_mnist, cifar10, mnist, folder, list_],
    summary="Make the train and test LMDBs that Caffe's Data layer reads, and print counts and channel means.",
    examples="""
    make-lmdb digits data/digits
    make-lmdb fashion-mnist data/fashion
    make-lmdb cifar10 cifar-10-python.tar.gz data/cifar10
    make-lmdb mnist downloads data/mnist
    make-lmdb folder ILSVRC2012 data/imagenet128 --small-side 128
    """,
)
