"""CIFAR-10 in both forms of https://www.cs.toronto.edu/~kriz/cifar.html: the python and the binary version."""

from __future__ import annotations

import gzip
import io
import lzma
import pickle
import pickletools
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from caffebench.common.errors import InputError
from caffebench.common.files import write_whole
from caffebench.datasets.arrays import LmdbResult, Part, make_from_arrays
from caffebench.datasets.bounded import BoundedStream, read_regular
from caffebench.datasets.datum import Image

__all__ = ["load_cifar10", "make_cifar10"]

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
_NAMES = {name + suffix for batches in _BATCHES.values() for name in batches for suffix in ("", ".bin")}
_PIXELS = 3 * 32 * 32

_LARGEST = 64 << 20  # the published batches have 31 MB
_LARGEST_ARCHIVE = 512 << 20
_MOST_MEMBERS = 100
_WRONG_KINDS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a link"}

_Files = dict[str, Callable[[], bytes]]


def make_cifar10(src: Path, out: Path, *, force: bool = False) -> list[LmdbResult]:
    """Write ``out/train_lmdb``, ``out/test_lmdb`` and ``out/labels.txt`` from CIFAR-10 in ``src``.

    Order of the records and of the channels (RGB) are those of the files, as in Caffe's ``convert_cifar_data``.
    Raises ``InputError`` where a file is missing, damaged or of another format, or something else is in the way.
    """
    about = {"kind": "cifar10", "classes": len(_CLASSES), "channels": "RGB"}
    made = make_from_arrays(out, about, load_cifar10(src), force=force)
    write_whole(out / "labels.txt", "".join(f"{name}\n" for name in _CLASSES))
    return made


def load_cifar10(src: Path) -> dict[str, Part]:
    """Images of shape (N, 3, 32, 32), RGB, pixels 0 to 255, and their labels, for ``train`` and ``test``.

    ``src`` is the ``.tar.gz``, its folder, or a folder with one of these in it, of either version. Raises
    ``InputError`` where a file is missing, damaged or of another format.
    """
    try:
        files = _files(src)
        suffix, read = (".bin", _read_binary) if "data_batch_1.bin" in files else ("", _read_python)
        parts = {}
        for part, batches in _BATCHES.items():
            missing = [name + suffix for name in batches if name + suffix not in files]
            if missing:
                raise InputError(
                    f"{src} lacks {', '.join(missing)}: give cifar-10-python.tar.gz, cifar-10-binary.tar.gz or the "
                    "folder that one of them unpacks to"
                )
            read_batches = [read(files[name + suffix](), f"{name}{suffix} in {src}") for name in batches]
            images, labels = (np.concatenate(arrays) for arrays in zip(*read_batches, strict=True))
            parts[part] = (images.reshape(-1, 3, 32, 32), labels)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, RecursionError):
        raise InputError(f"{src} is damaged or no tar archive: download it again") from None
    return parts


def _files(src: Path) -> _Files:
    """Every batch of the data set by its name, still to be read."""
    if src.is_file():
        return _members(src)
    if not src.is_dir():
        what = "is neither a file nor a folder" if src.exists() else "is not there"
        raise InputError(f"{src} {what}: give cifar-10-python.tar.gz or the folder that it unpacks to")
    folders = [src, *sorted(src.glob("cifar-10-batches-*"))]
    paths = (path for folder in folders for path in folder.iterdir() if path.is_file())
    found: _Files = {path.name: partial(read_regular, path, _LARGEST) for path in paths if path.name in _NAMES}
    archives = sorted(src.glob("cifar-10-*.tar.gz"))
    return _members(archives[0]) if archives and not any(name.startswith("data_batch_1") for name in found) else found


def _members(archive: Path) -> _Files:
    """The batches in an archive; nothing is unpacked to the disk. What the published ones have not is refused."""
    found: _Files = {}
    with archive.open("rb") as packed:
        stream = BoundedStream(packed, str(archive), _LARGEST_ARCHIVE)
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            for number, member in enumerate(tar):
                name = PurePosixPath(member.name).name
                what = _WRONG_KINDS.get(member.type)
                if not what and not (member.isreg() or member.isdir()):
                    what = "a device, a pipe or the like"
                if not what and (member.name.startswith("/") or ".." in PurePosixPath(member.name).parts):
                    what = "a path that leaves its folder"
                if not what and (name in found or number > _MOST_MEMBERS):
                    what = "more files than the published one, or one twice"
                if not what and member.size > _LARGEST:
                    what = f"a file of {member.size:,} bytes"
                if what:
                    raise InputError(f"{archive} is not CIFAR-10 as published: {member.name!r} is {what}")
                content = tar.extractfile(member) if name in _NAMES and member.isreg() else None
                if content is not None:
                    found[name] = io.BytesIO(content.read()).getvalue
    return found


def _read_binary(content: bytes, name: str) -> tuple[Image, Image]:
    """Images of shape (N, 3072) and labels. A record is a byte for the label and 3,072 for the pixels."""
    if not content or len(content) % (1 + _PIXELS):
        raise InputError(f"{name} is damaged: {len(content)} bytes are no multiple of {1 + _PIXELS}")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return records[:, 1:], _checked(records[:, 0], name)


def _read_python(content: bytes, name: str) -> tuple[Image, Image]:
    """Images of shape (N, 3072) and labels, from a pickled mapping."""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "LONG_BINPUT" and (argument or 0) > len(
                content
            ):  # the unpickler would make room for as many
                raise ValueError("a memo beyond the file")
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        images, given = batch[b"data"], batch[b"labels"]
        # Nested lists that hold each other many times over would grow without end as an array.
        if not isinstance(images, np.ndarray) or not all(type(label) is int for label in given):
            raise TypeError("no batch")
        labels = np.asarray(given)
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise InputError(f"{name} is no batch of CIFAR-10's python version, or damaged") from error
    if images.dtype != np.uint8 or images.shape != (len(labels), _PIXELS) or not len(labels):
        raise InputError(f"{name} is no batch of CIFAR-10: {images.dtype} {images.shape}, {len(labels)} labels")
    return images, _checked(labels, name)


def _checked(labels: Any, name: str) -> Image:
    if labels.min() < 0 or labels.max() >= len(_CLASSES):
        raise InputError(f"{name} is no batch of CIFAR-10, or damaged: label {labels.max()}, where 9 is the highest")
    return labels.astype(np.uint8)  # type: ignore[no-any-return]


class _Unpickler(pickle.Unpickler):
    """Builds NumPy arrays and nothing else: a pickle can otherwise run any program."""

    _allowed = ("_reconstruct", "ndarray", "dtype", "encode")

    def find_class(self, module: str, name: str) -> Any:
        if name in self._allowed and module.partition(".")[0] in ("numpy", "_codecs"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise InputError(f"a batch of CIFAR-10 would not call {module}.{name}: this file is something else")
