"""Which files belong to which run, and their bytes, compressed or not."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Protocol, TypeVar, cast

from caffebench.common.errors import InputError
from caffebench.common.printable import printable

__all__ = ["RunFiles", "find_runs", "read_into"]

_PART = re.compile(r"(?P<run>.+)\.(?P<part>\d{3,})\.log$")
_GLOG = re.compile(r"\.log\.INFO\.(?P<when>\d{8}-\d{6}\.\d+)$")
DUPLICATE_SEVERITIES = re.compile(
    r"(?:^|\.)(?:WARNING|ERROR|FATAL)(?:\.|$)"
)  # what glog writes there is in its INFO file too
_COMPRESSED = (".gz", ".xz", ".zst")
_HEAD = 1 << 18  # bytes in which a log tells its snapshot prefix


T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class RunFiles:
    """A run's name and its files in order of their part numbers."""

    name: str
    files: tuple[Path, ...]


def _plain(path: Path) -> str:
    return path.name[: -len(path.suffix)] if path.suffix in _COMPRESSED else path.name


def _walk(folder: Path) -> Iterator[Path]:
    """Files below ``folder`` in order of names; links to folders are not followed, so loops end nowhere."""

    def refuse(error: OSError) -> None:
        if error.filename == str(folder):
            raise InputError(f"{folder} cannot be read: {error.strerror}") from error

    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(here, name)


def _looks_like_log(path: Path) -> bool:
    name = _plain(path).lower()
    if DUPLICATE_SEVERITIES.search(path.name):
        return False
    return ".log" in name or name.startswith("caffe.") or name.endswith((".txt", ".out", ".err"))


def find_runs(paths: Iterable[Path]) -> list[RunFiles]:
    """Group files and folders into runs: part files of one folder, glog's own files of one snapshot prefix, or a file.

    In a folder only files that are called like logs are taken, and only once where links lead to them again.
    Raises ``InputError`` for a path that does not exist or a folder that cannot be read.
    """
    files: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            for one in _walk(path):
                if _looks_like_log(one) and one.is_file():  # a named pipe would be waited for without end
                    files.setdefault(os.path.realpath(one), one)
        elif path.exists():
            files.setdefault(os.path.realpath(path), path)
        else:
            raise InputError(f"{path} does not exist: give log files, or folders with logs in them")
    groups: dict[tuple[Path, str, str], list[tuple[str, Path]]] = {}
    for real, path in files.items():
        glog = _GLOG.search(Path(real).name.removesuffix(path.suffix if path.suffix in _COMPRESSED else ""))
        part = _PART.match(_plain(path))
        if glog is not None and (prefix := _snapshot_prefix(path)):
            groups.setdefault((path.parent, "glog", prefix), []).append((glog["when"], path))
        elif part is not None:
            groups.setdefault((path.parent, "part", part["run"]), []).append((f"{int(part['part']):09}", path))
        else:
            groups.setdefault((path.parent, "file", path.name), []).append(("", path))
    made = [
        (Path(name).name if kind == "glog" else name if kind == "part" else _run_name(parts[0][1]), parts)
        for (_, kind, name), parts in groups.items()
    ]
    return [
        RunFiles(name, files) for name, files in _unique([(printable(name), _ordered(parts)) for name, parts in made])
    ]


def _ordered(parts: list[tuple[str, Path]]) -> tuple[Path, ...]:
    return tuple(path for _, path in sorted(parts))


class _Head:
    """Takes the beginning of a log."""

    def __init__(self) -> None:
        self.data = bytearray(_HEAD)
        self.size = 0

    def writable_buffer(self) -> memoryview:
        return memoryview(self.data)[self.size :]

    def commit(self, count: int) -> None:
        self.size += count


def _snapshot_prefix(path: Path) -> str:
    """The snapshot prefix that the beginning of a log tells; empty where it does not, or cannot be read."""
    head = _Head()
    try:
        read_into(path, head)
    except OSError:
        return ""
    found = re.search(rb'snapshot_prefix: "([^"\n]+)"', head.data)
    return found[1].decode(errors="replace") if found else ""


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
        full = f"{printable(files[0].parent.name)}/{name}" if count[name] > 1 and files[0].parent.name else name
        taken[full] = taken.get(full, 0) + 1
        yield (full if taken[full] == 1 else f"{full}~{taken[full]}"), files


def _opened(path: Path) -> BufferedReader:
    if path.suffix == ".gz":
        return cast(BufferedReader, gzip.open(path, "rb"))
    if path.suffix == ".xz":
        return cast(BufferedReader, lzma.open(path, "rb"))
    if path.suffix == ".zst":
        import zstandard

        return cast(BufferedReader, zstandard.open(path, "rb"))
    return cast(BufferedReader, path.open("rb", buffering=0))


class Sink(Protocol):
    """Takes bytes: a ``parser.LogParser``."""

    def writable_buffer(self) -> memoryview:
        """Where the next bytes are to be put; an empty one ends the reading."""

    def commit(self, count: int) -> None:
        """So many bytes have been put there."""


def read_into(path: Path, sink: Sink, start: int = 0) -> int:
    """Read the uncompressed bytes of a log from ``start`` on into ``sink``; returns how many they were.

    A compressed file that is cut gives what there is. Raises ``OSError`` where the file cannot be read.
    """
    done = 0
    with _opened(path) as file:
        if start:
            file.seek(start)
        # Of a compressed file one piece at a time, or what comes before the place where it is cut would be lost.
        read = getattr(file, "readinto1", file.readinto)
        while count := _whole(read, sink.writable_buffer()):
            sink.commit(count)
            done += count
    return done


def _whole(read: Callable[[T], R], asked: T) -> R | None:
    """What ``read`` gives; None where a compressed file is cut or damaged."""
    try:
        return read(asked)
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error, ValueError):
        return None
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        return None
