"""Which images a folder or a list holds: classes, train and test part, order."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caffebench.common.errors import InputError
from caffebench.datasets.bounded import read_regular
from caffebench.datasets.images import FORMATS, is_image

__all__ = ["Entry", "Layout", "read_layout", "read_list"]

Entry = tuple[str, int]
"""Path of an image below its root, and label."""

_LARGEST_LIST = 1 << 30
_MOST_CLASSES = 1_000_000
_TEST_NAMES = ("val", "test", "validation")
_TRAIN = 1
_PART = re.compile(
    r"(?:(train|training)|(val)|(test|testing)|(valid|validation))[\W_]*(?:set|data|images?)?[\W_]*\d*", re.IGNORECASE
)
"""A folder's name that means a part of the data: ``train``, ``Test``, ``val2017``, ``test_images``."""


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
    left_out: tuple[str, ...] = ()
    """What else was found there, in lines for the user."""

    def digests(self, part: str) -> dict[str, str]:
        """``sha256`` of names, labels, sizes and order, which are the same wherever the images lie; ``times`` of when
        they were last written, which may tell images of the same name and size apart.
        """
        files, times = hashlib.sha256(), hashlib.sha256()
        for path, label in self.parts[part]:
            try:
                status = os.stat(self.root / path)
                size = status.st_size if stat.S_ISREG(status.st_mode) else -1
                times.update(b"%d\n" % status.st_mtime_ns)
            except OSError:  # a dangling link is found out when it is read
                size = -1
            files.update(os.fsencode(f"{path}\0{label}\0{size}\n"))
        return {"sha256": files.hexdigest(), "times": times.hexdigest()}


def read_layout(src: Path, *, test_share: float | None = None, seed: int = 0) -> Layout:
    """The images below ``src``, one folder a class, shuffled with ``seed``.

    With ``src/train`` and ``src/val`` (or ``test``, in any case and usual spelling) these are the two parts; a part
    of ImageNet's form, images without class folders, has its labels in Caffe's list beside it, ``src/val.txt``,
    lines of ``file label``. Otherwise the share ``test_share`` (a tenth by default) of each class becomes the test
    part. Labels are given in the order of the class names. Raises ``InputError`` for a folder that is none of this.
    """
    if not src.is_dir():
        raise InputError(f"{src} is no folder: give one with a folder of images for each class")
    walk = _Walk(src)
    parts = _parts(src)
    if parts is None:
        classes = _classes(src)
        by_class = walk.by_class(src, classes)
        train, test = _split(by_class, 0.1 if test_share is None else test_share, seed)
    else:
        if test_share is not None:
            raise InputError(f"{src} has its own test part, {parts[1]}: leave --test-share out")
        walk.look_beside(src, parts)
        classes = _classes(src / parts[0])
        by_class = walk.by_class(src / parts[0], classes)
        train, test = (
            [entry for entries in part for entry in entries]
            for part in (by_class, walk.by_class(src / parts[1], classes))
        )
    _require_classes(src, by_class)
    return _layout("folder", classes, train, test, src, seed, walk.left_out())


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


def _layout(
    kind: str,
    classes: list[str],
    train: list[Entry],
    test: list[Entry],
    root: Path,
    seed: int,
    left_out: Sequence[str] = (),
) -> Layout:
    if not train or not test:
        raise InputError(f"{root} has no image for {'the test' if train else 'training'}")
    parts = {"train": _shuffled(train, seed), "test": _shuffled(test, seed)}
    return Layout(kind, tuple(classes), parts, root, tuple(left_out))


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _parts(src: Path) -> tuple[str, str] | None:
    """The folders of the training and the test part; None where there are no two such folders."""
    names = _folders(src)
    exact = [name for name in _TEST_NAMES if name in names]
    if exact and "train" in names:
        return "train", exact[0]
    # Of several, the first of val, test, validation as well; in the order of the names.
    found = sorted((match.lastindex or 0, name) for name in names if (match := _PART.fullmatch(name)))
    train = [name for kind, name in found if kind == _TRAIN]
    test = [name for kind, name in found if kind != _TRAIN]
    return (train[0], test[0]) if train and test else None


def _classes(folder: Path) -> list[str]:
    names = _folders(folder)
    if len(names) < 2:
        found = "no folder" if not names else f"only one folder, {names[0]},"
        raise InputError(f"{folder} has {found} in it: put the images of each class into a folder of its own")
    if "\n" in "".join(names):
        raise InputError(f"a folder below {folder} has a line break in its name: rename it")
    return names


@dataclass
class _Walk:
    """A walk over the folders of classes, which takes the images and notes what it leaves out."""

    src: Path
    _seen: dict[tuple[int, int], str] = field(default_factory=dict)
    """The folders so far, for links can lead to one again, without end."""
    _endings: Counter[str] = field(default_factory=Counter)
    """Of files that are no images."""
    _beside: list[str] = field(default_factory=list)

    def by_class(self, folder: Path, classes: list[str]) -> list[list[Entry]]:
        """The images of each class; ``folder`` holds folders of classes or, beside a list, just images."""
        names = _folders(folder)
        listed = folder.with_name(f"{folder.name}.txt")
        if not names and listed.is_file():
            inner = os.path.relpath(folder, self.src)
            return [[(os.path.join(inner, path), label) for path, label in _lines(listed, folder, len(classes))]]
        strange = sorted(set(names) - set(classes))
        if strange:
            raise InputError(f"{folder} has the class {strange[0]}, which the training part has not")
        if not names:
            raise InputError(f"{folder} has no class folders, nor is there a list {listed} with lines of 'file label'")
        self.look_beside(folder, names)
        return [self._images(folder / name, label) for label, name in enumerate(classes) if name in names]

    def look_beside(self, folder: Path, taken: Sequence[str]) -> None:
        """Note the folders and images in ``folder`` that are not ``taken``."""
        for path in sorted(folder.iterdir()):
            if path.name not in taken and not path.name.startswith(".") and (path.is_dir() or is_image(str(path))):
                self._beside.append(os.path.relpath(path, self.src))

    def left_out(self) -> list[str]:
        """What was left out, in lines for the user."""
        lines = []
        if self._beside:
            more = f" and {len(self._beside) - 3} more" if len(self._beside) > 3 else ""
            lines.append(f"{self.src}: left out what is in no class folder: {', '.join(self._beside[:3])}{more}")
        if self._endings:
            kinds = [f"{count} {ending or 'without an ending'}" for ending, count in self._endings.most_common(4)]
            others = self._endings.total() - sum(count for _, count in self._endings.most_common(4))
            more = f", {others} others" if others else ""
            lines.append(f"{self.src}: left out files that are no {_formats()}: {', '.join(kinds)}{more}")
        return lines

    def _images(self, folder: Path, label: int) -> list[Entry]:
        found = []
        for where, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
            status = os.stat(where)
            before = self._seen.setdefault((status.st_dev, status.st_ino), where)
            if before != where:
                raise InputError(f"{where} is the folder {before} again: remove the link that leads to it")
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                path = os.path.join(where, name)
                if name.startswith("."):
                    continue
                if is_image(path):
                    found.append((os.path.relpath(path, self.src), label))
                else:
                    self._endings[os.path.splitext(name)[1].lower()] += 1
        if not found:
            raise InputError(f"{folder} holds no image ({_formats()}): remove the folder, or it would be a class")
        return sorted(found)


def _require_classes(src: Path, by_class: list[list[Entry]]) -> None:
    """Refuse folders that all fork into folders of the same names: those look like classes, and these like parts."""
    forks = [_fork(entries) for entries in by_class]
    fork, inner = forks[0]
    if inner and all(names == inner for _, names in forks):
        named = ", ".join(inner[:3]) + (", ..." if len(inner) > 3 else "")
        raise InputError(
            f"{src / fork} has images only in folders of its own ({named}), and all beside it have the same, so it is "
            "no class: give class folders with the images in them, or train and val (or test) with such folders; any "
            "other layout goes into a list (make-lmdb list)"
        )


def _fork(entries: list[Entry]) -> tuple[str, list[str]]:
    """The innermost folder that has all images of a class, and its folders where no image is in it directly."""
    holders = {os.path.dirname(path) for path, _ in entries}
    fork = os.path.commonpath(holders)
    if fork in holders:
        return fork, []
    return fork, sorted({os.path.relpath(holder, fork).split(os.sep)[0] for holder in holders})


def _formats() -> str:
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _raise(error: OSError) -> None:
    raise error


def _lines(listed: Path, root: Path, classes: int) -> list[Entry]:
    """The images of a list, Caffe's form: ``path label``, all there, labels below ``classes``."""
    entries = []
    try:
        content = read_regular(listed, _LARGEST_LIST)
    except OSError as error:
        raise InputError(f"{listed}: {error.strerror}: give a list of lines 'path label'") from error
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
