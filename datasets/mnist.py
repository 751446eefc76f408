"""MNIST, and sets published like it (Fashion-MNIST), in the idx format of http://yann.lecun.com/exdb/mnist/."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from caffebench.common.errors import InputError
from caffebench.datasets.arrays import LmdbResult, Part, make_from_arrays
from caffebench.datasets.datum import Image

__all__ = ["load_mnist", "make_mnist", "read_idx"]

_LARGEST = 1 << 30  # bytes of one file; MNIST has 47 MB
_PREFIX = {"train": "train", "test": "t10k"}


def make_mnist(src: Path, out: Path, *, force: bool = False) -> list[LmdbResult]:
    """Write ``out/train_lmdb`` and ``out/test_lmdb`` from the four idx files in ``src``, in the order of the files.

    Raises ``InputError`` where a file is missing, damaged or no idx, or something else is in the way.
    """
    parts = load_mnist(src)
    classes = int(max(labels.max() for _, labels in parts.values())) + 1
    return make_from_arrays(out, {"kind": "mnist", "classes": classes, "channels": "gray"}, parts, force=force)


def load_mnist(src: Path) -> dict[str, Part]:
    """Images of shape (N, 1, 28, 28), pixels 0 to 255, and their labels, for ``train`` and ``test``.

    Raises ``InputError`` where a file is missing, damaged or no idx.
    """
    parts = {}
    for part, prefix in _PREFIX.items():
        paths = {what: _find(src, f"{prefix}-{what}") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")}
        images, labels = (read_idx(path, ndim) for path, ndim in zip(paths.values(), (3, 1), strict=True))
        if len(images) != len(labels):
            names = " and ".join(path.name for path in paths.values())
            raise InputError(f"{names} in {src} do not belong together: {len(images)} images, {len(labels)} labels")
        parts[part] = (images[:, np.newaxis], labels)
    return parts


def read_idx(path: Path, ndim: int) -> Image:
    """The array of an idx file, gzipped or not.

    Raises ``InputError`` unless it is whole, holds unsigned bytes and has ``ndim`` dimensions.
    """
    # Two zero bytes, the type (8: unsigned byte), the number of dimensions, then each as a big-endian 32-bit integer.
    head = 4 + 4 * ndim
    try:
        with path.open("rb") as packed, gzip.GzipFile(fileobj=packed) if path.suffix == ".gz" else packed as file:
            content = file.read(head)
            shape = tuple(np.frombuffer(content[4:head], ">i4").tolist()) if len(content) == head else ()
            if content[:4] != bytes([0, 0, 8, ndim]) or len(shape) != ndim:
                raise InputError(f"{path} is no idx file of unsigned bytes with {ndim} dimension{'s'[: ndim - 1]}")
            announced = int(np.prod(shape, dtype=object))
            size = " x ".join(map(str, shape))
            if announced > _LARGEST:
                raise InputError(f"{path} is damaged: it announces {size} bytes, more than any such set has")
            body = file.read(announced + 1) if min(shape) > 0 else b""  # and no more, whatever it unpacks to
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(f"{path} is damaged or no gzip file: download it again") from None
    if min(shape) <= 0 or len(body) != announced:
        follow = "more" if len(body) > announced else len(body)
        raise InputError(f"{path} is damaged: it announces {size} bytes, and {follow} follow")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _find(src: Path, name: str) -> Path:
    """The file of that name, where the download, an unpacking tool or torchvision has put it."""
    if not src.is_dir():
        raise InputError(f"{src} is no folder: give the one with MNIST's four files, {name}.gz among them")
    spellings = [name, f"{name}.gz", name.replace("-idx", ".idx"), f"{name.replace('-idx', '.idx')}.gz"]
    for folder in (src, src / "raw", src / "MNIST" / "raw"):
        for spelling in spellings:
            if (folder / spelling).is_file():
                return folder / spelling
    raise InputError(f"{src} has no {name} or {name}.gz: give the folder with MNIST's four files")
