"""Which files belong to which run, and their bytes, compressed or not."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePath
from typing import Protocol, TypeVar, cast

from caffebench.analysis.read.lines import PREFIX
from caffebench.common.errors import InputError
from caffebench.common.printable import printable

__all__ = ["RunFiles", "distinct_names", "find_runs", "read_into"]

_PART = re.compile(r"(?P<run>.+)\.(?P<part>\d{3,})\.log$")
_GLOG = re.compile(r"\.log\.INFO\.(?P<when>\d{8}-\d{6}\.\d+)$")
DUPLICATE_SEVERITIES = re.compile(
    r"(?:^|\.)(?:WARNING|ERROR|FATAL)(?:\.|$)"
)  # what glog writes there is in its INFO file too
_COMPRESSED = (".gz", ".xz", ".zst")
_EXPANDED = 200  # times its size that a compressed log is believed to expand to
_HEAD = 1 << 18  # bytes in which a log tells its snapshot prefix


T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class RunFiles:
    """A run's name and its files in order of their part numbers."""

    name: str
    files: tuple[Path, ...]
    together: bool = False
    """The user says that they are of one training, whatever is in them."""


def _plain(path: Path) -> str:
    suffix = path.suffix
    return path.name[: -len(suffix)] if suffix in _COMPRESSED else path.name


def _walk(folder: Path | str, *, top: bool = True) -> Iterator[tuple[str, Path]]:
    """Files below ``folder`` in order of names, each with what it is behind all links.

    Links to folders are not followed, so loops end nowhere.
    """
    try:
        with os.scandir(folder) as inside:
            entries = sorted((one for one in inside if not one.name.startswith(".")), key=lambda one: one.name)
    except OSError as error:
        if top:
            raise InputError(f"{folder} cannot be read: {error.strerror}") from error
        return
    real = os.path.realpath(folder)
    for one in entries:
        if one.is_symlink():
            if os.path.isfile(one.path):
                yield os.path.realpath(one.path), Path(one.path)
        elif one.is_file():  # a named pipe would be waited for
            yield f"{real}{os.sep}{one.name}", Path(one.path)
    for one in entries:
        if one.is_dir(follow_symlinks=False):
            yield from _walk(one.path, top=False)


def _looks_like_log(path: Path) -> bool:
    """Whether a file of a folder is a log: by its name, else by what is in it."""
    name = _plain(path).lower()
    if DUPLICATE_SEVERITIES.search(path.name):
        return False
    if ".log" in name or name.startswith("caffe.") or name.endswith((".txt", ".out", ".err")):
        return True
    if name.endswith(_NO_LOGS):
        return False
    try:
        head = _beginning(path, _SNIFFED)
    except OSError:
        return False
    if not head.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" in head[:1000]:
        return False
    text = head.replace(b"\0", b"")
    return PREFIX.search(text) is not None and re.search(rb"solver\.cpp|net\.cpp|caffe", text) is not None


_SNIFFED = 1 << 16  # bytes of a file with another name that are looked at
_NO_LOGS = (
    *(".caffemodel", ".solverstate", ".prototxt", ".h5", ".mdb", ".npy", ".npz", ".binaryproto", ".py", ".sh", ".md"),
    *(".csv", ".json", ".parquet", ".html", ".png", ".jpg", ".jpeg", ".svg", ".pdf", ".tar", ".zip", ".so"),
)


def find_runs(paths: Iterable[Path], named: Mapping[str, Sequence[Path]] | None = None) -> list[RunFiles]:
    """Group files and folders into runs: part files of one folder, glog's own files of one snapshot prefix, or a file.

    ``paths`` are files and folders: in a folder files are taken that are called like logs, or begin like one, and only
    once where links lead to them again. ``named`` gives runs by name whose files the user knows. Returns the runs in
    the natural order of names, ``bs32`` before ``bs128``.

    Raises ``InputError`` for a path that does not exist, a folder that cannot be read, and what is neither a file nor
    a folder.
    """
    files: dict[str, Path] = {}
    known = {name: tuple(some) for name, some in (named or {}).items()}
    for path in (*paths, *(one for some in known.values() for one in some)):
        if path.is_dir():
            for real, one in _walk(path):
                if _looks_like_log(one):
                    files.setdefault(real, one)
        elif path.is_file():
            files.setdefault(os.path.realpath(path), path)
        elif path.exists():
            raise InputError(f"{printable(str(path))} is neither a file nor a folder: give what its output was kept in")
        else:
            raise InputError(f"{printable(str(path))} does not exist: give log files, or folders with logs in them")
    for path in (one for some in known.values() for one in some):
        files.pop(os.path.realpath(path), None)
    groups: dict[tuple[str, str, str], list[tuple[str, Path]]] = {}
    for real, path in files.items():
        folder, name = os.path.split(path)
        plain = _plain(path)
        glog = _GLOG.search(os.path.basename(real).removesuffix(name[len(plain) :]))
        part = _PART.match(plain)
        if glog is not None and (prefix := _snapshot_prefix(path)):
            groups.setdefault((folder, "glog", prefix), []).append((glog["when"], path))
        elif part is not None:
            groups.setdefault((folder, "part", part["run"]), []).append((f"{int(part['part']):09}", path))
        else:
            groups.setdefault((folder, "file", name), []).append(("", path))
    prefixes = [name for _, kind, name in groups if kind == "glog"]
    short = dict(zip(prefixes, distinct_names(prefixes), strict=True))
    made = [
        (short[name] if kind == "glog" else name if kind == "part" else _run_name(parts[0][1]), parts)
        for (_, kind, name), parts in groups.items()
    ]
    found = [
        RunFiles(name, files) for name, files in _unique([(printable(name), _ordered(parts)) for name, parts in made])
    ]
    found += (RunFiles(printable(name), some, together=True) for name, some in known.items())
    if len(found) < 2:
        return found
    from natsort import natsorted, ns  # a tenth of the time that one small log takes

    return natsorted(found, key=lambda one: one.name, alg=ns.IGNORECASE)


def distinct_names(prefixes: Sequence[str]) -> list[str]:
    """The last parts of ``prefixes``, in their order, as many as tell different ones apart: ``lr1/net``."""
    distinct, depth = set(prefixes), 1
    while depth < 8 and len({"/".join(PurePath(one).parts[-depth:]) for one in distinct}) < len(distinct):
        depth += 1
    return ["/".join(PurePath(one).parts[-depth:]) for one in prefixes]


def _ordered(parts: list[tuple[str, Path]]) -> tuple[Path, ...]:
    return tuple(path for _, path in sorted(parts))


class _Head:
    """Takes the beginning of a log."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.size = 0

    def writable_buffer(self) -> memoryview:
        return memoryview(self.data)[self.size :]

    def commit(self, count: int) -> None:
        self.size += count


def _beginning(path: Path, size: int) -> bytes:
    head = _Head(size)
    read_into(path, head)
    return bytes(head.data[: head.size])


def _snapshot_prefix(path: Path) -> str:
    """The snapshot prefix that the beginning of a log tells; empty where it does not, or cannot be read."""
    try:
        found = re.search(rb'snapshot_prefix: "([^"\n]+)"', _beginning(path, _HEAD))
    except OSError:
        return ""
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
    suffix = path.suffix
    if suffix == ".gz":
        return cast(BufferedReader, gzip.open(path, "rb"))
    if suffix == ".xz":
        return cast(BufferedReader, lzma.open(path, "rb"))
    if suffix == ".zst":
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
    """Read the bytes of the log at ``path`` into ``sink``, uncompressed, from byte ``start`` on; returns how many.

    A compressed file that is cut gives what there is. Raises ``OSError`` where the file cannot be read, or expands to
    far more than a log does.
    """
    done = 0
    with _opened(path) as file:
        if start:
            file.seek(start)
        # Of a compressed file one piece at a time, or what comes before the place where it is cut would be lost.
        read = getattr(file, "readinto1", file.readinto)
        most = _EXPANDED * os.stat(path).st_size + (16 << 20) if path.suffix in _COMPRESSED else None
        while count := _whole(read, sink.writable_buffer()):
            sink.commit(count)
            done += count
            if most is not None and done > most:
                raise OSError(errno.EFBIG, f"it expands to more than {_EXPANDED} times its size, as no log does", path)
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
