"""Which files belong to which run, and their bytes, compressed or not."""

from __future__ import annotations

import gzip
import lzma
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from caffebench.common.errors import InputError

__all__ = ["Source", "find_runs", "pieces"]

_PART = re.compile(r"(?P<run>.+)\.(?P<part>\d{3,})\.log$")
_GLOG = re.compile(r"(?P<program>.+?)\.(?P<host>[^/]+)\.log\.(?:INFO|WARNING|ERROR|FATAL)\.\d{8}-\d{6}\.\d+$")
_COMPRESSED = (".gz", ".xz", ".zst")
_CHUNK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Source:
    """A run's name and its files in order of their part numbers."""

    name: str
    files: tuple[Path, ...]


def _plain(path: Path) -> str:
    return path.name[: -len(path.suffix)] if path.suffix in _COMPRESSED else path.name


def _walk(folder: Path) -> Iterator[Path]:
    """Files below ``folder`` in order of names; links to folders are not followed, so loops end nowhere."""
    for here, folders, names in os.walk(folder, onerror=_refuse if folder.is_dir() else None):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(here, name)


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error


def _looks_like_log(path: Path) -> bool:
    name = _plain(path).lower()
    return ".log" in name or name.startswith("caffe.") or name.endswith((".txt", ".out", ".err"))


def find_runs(paths: Iterable[Path]) -> list[Source]:
    """Group files and folders into runs: part files of one folder, else a file each.

    In a folder only files that are called like logs are taken. Raises ``InputError`` for a path that does not exist.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            files.update(dict.fromkeys(one for one in _walk(path) if _looks_like_log(one)))
        elif path.exists():
            files[path] = None
        else:
            raise InputError(f"{path} does not exist: give log files, or folders with logs in them")
    groups: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
    for path in files:
        found = _PART.match(_plain(path))
        if found:
            groups.setdefault((path.parent, found["run"]), []).append((int(found["part"]), path))
        else:
            groups.setdefault((path.parent, path.name), []).append((0, path))
    made = [
        (_run_name(parts[0][1]) if parts[0][0] == 0 else name, tuple(path for _, path in sorted(parts)))
        for (_, name), parts in groups.items()
    ]
    return [Source(name, files) for name, files in _unique(made)]


def _run_name(path: Path) -> str:
    name = _plain(path)
    return name[:-4] if name.endswith((".log", ".txt", ".out", ".err")) else name


def _unique(made: list[tuple[str, tuple[Path, ...]]]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Runs of one name in several folders get their folder's name in front."""
    count: dict[str, int] = {}
    for name, _ in made:
        count[name] = count.get(name, 0) + 1
    taken: dict[str, int] = {}
    for name, files in made:
        full = f"{files[0].parent.name}/{name}" if count[name] > 1 and files[0].parent.name else name
        taken[full] = taken.get(full, 0) + 1
        yield (full if taken[full] == 1 else f"{full}~{taken[full]}"), files


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.suffix == ".xz":
        return cast(BinaryIO, lzma.open(path, "rb"))
    if path.suffix == ".zst":
        import zstandard

        return cast(BinaryIO, zstandard.open(path, "rb"))
    return path.open("rb")


def pieces(path: Path) -> Iterator[bytes]:
    """The uncompressed bytes of a log in pieces; a compressed file that is cut gives what there is.

    Raises ``OSError`` where the file cannot be read.
    """
    with _opened(path) as file:
        while True:
            try:
                data = file.read(_CHUNK)
            except (EOFError, lzma.LZMAError, gzip.BadGzipFile, ValueError) as error:
                _ = error
                return
            except Exception as error:
                if type(error).__name__ != "ZstdError":
                    raise
                return
            if not data:
                return
            yield data
