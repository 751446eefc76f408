"""Which images a folder holds: classes, train and test part, order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffebench.common.errors import InputError
from caffebench.datasets.images import EXTENSIONS

__all__ = ["Entry", "Layout", "read_layout"]

Entry = tuple[str, int]
"""Path of an image below its root, and label."""

_TEST_NAMES = ("val", "test", "validation")


@dataclass(frozen=True)
class Layout:
    """The images of a folder."""

    classes: tuple[str, ...]
    """Names; the place is the label."""
    parts: Mapping[str, tuple[Entry, ...]]
    """``train`` and ``test``, in the order in which they are to be stored; paths are below ``root``."""
    root: Path

    def digest(self, part: str) -> str:
        """Of names, labels, sizes and order: the same images give the same digest wherever they lie."""
        digest = hashlib.sha256()
        for path, label in self.parts[part]:
            digest.update(os.fsencode(f"{path}\0{label}\0{(self.root / path).stat().st_size}\n"))
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
    if test_folder is None or not (src / "train").is_dir():
        classes = _classes(src)
        train, test = _split(_by_class(src, src, classes), 0.1 if test_share is None else test_share, seed)
    else:
        if test_share is not None:
            raise InputError(f"{src} has its own test part, {test_folder.name}: leave --test-share out")
        classes = _classes(src / "train")
        train, test = (
            [entry for entries in _by_class(src, folder, classes) for entry in entries]
            for folder in (src / "train", test_folder)
        )
    if not train or not test:
        raise InputError(f"{src} has no image for {'the test' if train else 'training'}")
    parts = {"train": _shuffled(train, seed), "test": _shuffled(test, seed)}
    return Layout(tuple(classes), parts, src)


def _classes(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        found = "no folder" if not names else f"only one folder, {names[0]},"
        raise InputError(f"{folder} has {found} in it: put the images of each class into a folder of its own")
    if "\n" in "".join(names):
        raise InputError(f"a folder below {folder} has a line break in its name: rename it")
    return names


def _by_class(src: Path, folder: Path, classes: list[str]) -> list[list[Entry]]:
    """The images of each class; ``folder`` holds folders of classes or, beside a list, just images."""
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    listed = folder.with_name(f"{folder.name}.txt")
    if not names and listed.is_file():
        return _from_list(src, folder, listed, classes)
    strange = sorted(set(names) - set(classes))
    if strange:
        raise InputError(f"{folder} has the class {strange[0]}, which the training part has not")
    if not names:
        raise InputError(f"{folder} has no class folders, nor is there a list {listed} with lines of 'file label'")
    entries = [_images(src, folder / name, label) for label, name in enumerate(classes) if name in names]
    empty = [name for name, found in zip((n for n in classes if n in names), entries, strict=True) if not found]
    if empty:
        known = ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise InputError(f"{folder / empty[0]} holds no image ({known}): remove the folder, or it would be a class")
    return entries


def _images(src: Path, folder: Path, label: int) -> list[Entry]:
    found = []
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith("."):
                found.append((os.path.relpath(os.path.join(where, name), src), label))
    return sorted(found)


def _from_list(src: Path, folder: Path, listed: Path, classes: list[str]) -> list[list[Entry]]:
    entries: list[list[Entry]] = [[] for _ in classes]
    for number, line in enumerate(listed.read_text(errors="surrogateescape").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.rpartition(" ")
        if not name or not label.isdecimal() or int(label) >= len(classes):
            raise InputError(f"{listed}, line {number}: no 'file label' with a label from 0 to {len(classes) - 1}")
        if not (folder / name).is_file():
            raise InputError(f"{listed}, line {number}: {folder / name} is not there")
        entries[int(label)].append((str((folder / name).relative_to(src)), int(label)))
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
