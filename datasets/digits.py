"""The digits that scikit-learn carries: 1,797 real scans of 8 x 8 pixels, ten classes, no network needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffebench.common.errors import CaffebenchError
from caffebench.datasets.arrays import LmdbResult, Part, make_from_arrays

__all__ = ["load_digits", "make_digits"]

_TEST_IMAGES = 360  # a fifth
_SEED = 0


def load_digits() -> dict[str, Part]:
    """The scans as images of shape (N, 1, 8, 8), pixels 0 to 255, and their labels, for ``train`` and ``test``.

    The split is stratified: each class has its share in both. Raises ``CaffebenchError`` without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise CaffebenchError("the digits come with scikit-learn: pip install caffebench[data]") from error
    data = load()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]  # the scans have levels 0 to 16
    labels = data.target.astype(np.uint8)
    parts = train_test_split(images, labels, test_size=_TEST_IMAGES, stratify=labels, random_state=_SEED)
    return {"train": (parts[0], parts[2]), "test": (parts[1], parts[3])}


def make_digits(out: Path, *, force: bool = False) -> list[LmdbResult]:
    """Write ``out/train_lmdb`` (1,437 records) and ``out/test_lmdb`` (360), the same ones every time.

    What is there already is left alone, or with ``force`` replaced. Raises ``InputError`` where something else
    is in the way.
    """
    return make_from_arrays(out, {"kind": "digits", "classes": 10, "channels": "gray"}, load_digits(), force=force)
