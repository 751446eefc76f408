"""Which images a folder or a list holds: classes, train and test part, order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffebench.common.errors import InputError
from caffebench.datasets.bounded import read_regular
from caffebench.datasets.images import EXTENSIONS

__all__ = ["Entry", "Layout", "read_layout", "read_list"]

Entry = tuple[str, int]
"""Path of an image below its root, and label."""

_LARGEST_LIST = 1 << 30
_MOST_CLASSES = 1_000_000
_TEST_NAMES = ("val", "test", "validation")


@dataclass(frozen=True)
class Layout:
    """The images of a folder or a list."""

    kind: str
    """``folder`` or ``list``."""
    classes: tuple[str, ...]
    """Names, of a list just the numbers; the place is the label."""
    parts: Mapping[str, tuple[Entry, ...]]
    """``train`` and ``test``, in the order in which they are to be stored; paths are below ``root``."""
    root: Path

    def digest(self, part: str) -> str:
        """Of names, labels, sizes and order: the same images give the same digest wherever they lie."""
        digest = hashlib.sha256()
        for path, label in self.parts[part]:
            file = self.root / path
            size = file.stat().st_size if file.is_file() else -1  # a dangling link is found out when it is read
            digest.update(os.fsencode(f"{path}\0{label}\0{size}\n"))
        return digest.hexdigest()


def read_layout(src: Path, *, test_share: float | None = None, seed: int = 0) -> Layout:
    """The images below ``src``, one folder a class, shuffled with ``seed``.

    With ``src/train`` and ``src/val`` (or ``test``) these are the two parts; a part of ImageNet's form, images
    without class folders, has its labels in Caffe's list beside it, ``src/val.txt``, lines of ``file label``.
    Otherwise the share ``test_share`` (a tenth by default) of each class becomes the test part. Labels are
    given in the order of the class names. Raises ``InputError`` for a folder that is none of this.
    """
    if not src.is_dir():
        raise InputError(f"{src} is no folder: give one with a folder of images for each class")
    test_folder = next((src / name for name in _TEST_NAMES if (src / name).is_dir()), None)
    seen: dict[tuple[int, int], str] = {}
    if test_folder is None or not (src / "train").is_dir():
        classes = _classes(src)
        train, test = _split(_by_class(src, src, classes, seen), 0.1 if test_share is None else test_share, seed)
    else:
        if test_share is not None:
            raise InputError(f"{src} has its own test part, {test_folder.name}: leave --test-share out")
        classes = _classes(src / "train")
        train, test = (
            [entry for entries in _by_class(src, folder, classes, seen) for entry in entries]
            for folder in (src / "train", test_folder)
        )
    return _layout("folder", classes, train, test, src, seed)


def read_list(
    listed: Path, root: Path, *, test_list: Path | None = None, test_share: float | None = None, seed: int = 0
) -> Layout:
    """The images that a list names, Caffe's: lines of ``path label``, paths below ``root``, labels from 0 on.

    ``test_list`` has those of the test part; without it the share ``test_share`` (a tenth by default) of each class
    is taken. Raises ``InputError`` with file and line for anything else, several labels a line among it.
    """
    if test_list is not None and test_share is not None:
        raise InputError("--test-list names the test part: leave --test-share out")
    train = _lines(listed, root, _MOST_CLASSES)
    if not train:
        raise InputError(f"{listed} names no image: it wants lines of 'path label'")
    count = max(label for _, label in train) + 1
    if count < 2:
        raise InputError(f"{listed} has no label but 0: there is nothing to tell apart")
    by_class: list[list[Entry]] = [[] for _ in range(count)]
    for path, label in train:
        by_class[label].append((path, label))
    if test_list is not None:
        test = _lines(test_list, root, count)
    else:
        filled = [entries for entries in by_class if entries]
        train, test = _split(filled, 0.1 if test_share is None else test_share, seed)
    return _layout("list", [str(label) for label in range(count)], train, test, root, seed)


def _layout(kind: str, classes: list[str], train: list[Entry], test: list[Entry], root: Path, seed: int) -> Layout:
    if not train or not test:
        raise InputError(f"{root} has no image for {'the test' if train else 'training'}")
    return Layout(kind, tuple(classes), {"train": _shuffled(train, seed), "test": _shuffled(test, seed)}, root)


def _classes(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        found = "no folder" if not names else f"only one folder, {names[0]},"
        raise InputError(f"{folder} has {found} in it: put the images of each class into a folder of its own")
    if "\n" in "".join(names):
        raise InputError(f"a folder below {folder} has a line break in its name: rename it")
    return names


def _by_class(src: Path, folder: Path, classes: list[str], seen: dict[tuple[int, int], str]) -> list[list[Entry]]:
    """The images of each class; ``folder`` holds folders of classes or, beside a list, just images."""
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    listed = folder.with_name(f"{folder.name}.txt")
    if not names and listed.is_file():
        inner = os.path.relpath(folder, src)
        return [[(os.path.join(inner, path), label) for path, label in _lines(listed, folder, len(classes))]]
    strange = sorted(set(names) - set(classes))
    if strange:
        raise InputError(f"{folder} has the class {strange[0]}, which the training part has not")
    if not names:
        raise InputError(f"{folder} has no class folders, nor is there a list {listed} with lines of 'file label'")
    entries = [_images(src, folder / name, label, seen) for label, name in enumerate(classes) if name in names]
    empty = [name for name, found in zip((n for n in classes if n in names), entries, strict=True) if not found]
    if empty:
        known = ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise InputError(f"{folder / empty[0]} holds no image ({known}): remove the folder, or it would be a class")
    return entries


def _images(src: Path, folder: Path, label: int, seen: dict[tuple[int, int], str]) -> list[Entry]:
    """The images below ``folder``; ``seen`` has the folders so far, for links can lead to one again, without end."""
    found = []
    for where, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        status = os.stat(where)
        before = seen.setdefault((status.st_dev, status.st_ino), where)
        if before != where:
            raise InputError(f"{where} is the folder {before} again: remove the link that leads to it")
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith("."):
                found.append((os.path.relpath(os.path.join(where, name), src), label))
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _lines(listed: Path, root: Path, classes: int) -> list[Entry]:
    """The images of a list, Caffe's form: ``path label``, all there, labels below ``classes``."""
    entries = []
    content = read_regular(listed, _LARGEST_LIST)
    for number, line in enumerate(os.fsdecode(content).split("\n"), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        name = name.rstrip()
        if not name or not (label.isascii() and label.isdecimal()) or int(label[:12]) >= classes:
            why = "is CSV" if "," in line else f"is no 'path label' with a label from 0 to {classes - 1}"
            raise InputError(f"{listed}, line {number} {why}: write each image and its one label, parted by a space")
        if not (root / name).is_file():
            first = name.split(" ")[0]
            if name != first and (root / first).is_file():
                raise InputError(
                    f"{listed}, line {number} has several labels for {first}: a record of Caffe holds one "
                    "(nets of several labels read them from HDF5Data)"
                )
            raise InputError(f"{listed}, line {number}: {root / name} is not there")
        entries.append((name, int(label)))
    return entries


def _split(by_class: list[list[Entry]], test_share: float, seed: int) -> tuple[list[Entry], list[Entry]]:
    """Stratified: the share of each class, and at least one image of it, is set aside."""
    # RandomState: its streams are frozen, so a split outlives versions of NumPy; Generator's are not.
    random = np.random.RandomState(seed)
    train, test = [], []
    for entries in by_class:
        if len(entries) < 2:
            raise InputError(f"{os.path.dirname(entries[0][0])} has a single image: one for training, one to test")
        chosen = random.permutation(len(entries))
        cut = min(max(1, round(test_share * len(entries))), len(entries) - 1)
        test += [entries[i] for i in sorted(chosen[:cut])]
        train += [entries[i] for i in sorted(chosen[cut:])]
    return train, test


def _shuffled(entries: list[Entry], seed: int) -> tuple[Entry, ...]:
    return tuple(entries[i] for i in np.random.RandomState(seed).permutation(len(entries)))
