"""Fashion-MNIST (Xiao et al., arXiv:1708.07747), which Debian has as a package: no account, no download page."""

from __future__ import annotations

from pathlib import Path

from caffebench.common.errors import CaffebenchError
from caffebench.common.messages import Announce
from caffebench.datasets.arrays import LmdbResult
from caffebench.datasets.mnist import make_mnist
from caffebench.engine.system import require_system_packages

__all__ = ["make_fashion"]

_PACKAGE = "dataset-fashion-mnist"
_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def make_fashion(
    out: Path, *, force: bool = False, announce: Announce = lambda _: None, folder: Path = _FOLDER
) -> list[LmdbResult]:
    """Write ``out/train_lmdb`` (60,000 records) and ``out/test_lmdb`` (10,000) from the files of Debian's package.

    Where we are root and it is missing it is installed. Raises ``CaffebenchError`` that says what to do where it
    cannot be had, ``InputError`` where something else is in the way.
    """
    if not folder.is_dir():
        otherwise = "or fetch the four idx files of Fashion-MNIST elsewhere and: make-lmdb mnist FOLDER OUT"
        try:
            require_system_packages(announce, [_PACKAGE])
        except CaffebenchError as error:
            raise CaffebenchError(f"{error}; {otherwise}") from error
        if not folder.is_dir():
            raise CaffebenchError(f"{folder} is not there: install Debian's package {_PACKAGE}, {otherwise}")
    return make_mnist(folder, out, force=force)
