"""Which files belong to which run, and their bytes, compressed or not."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path, PurePath
from typing import NamedTuple, cast

from caffebench.analysis.read.lines import PREFIX
from caffebench.common.errors import InputError
from caffebench.common.printable import printable

__all__ = ["COMPRESSED", "RunFiles", "distinct_names", "find_runs", "numbered", "pieces"]

_PART = re.compile(r"(?P<run>.+)\.(?P<part>\d{3,})\.log$")
_GLOG = re.compile(r"\.log\.INFO\.(?P<when>\d{8}-\d{6}\.\d+)$")
DUPLICATE_SEVERITIES = re.compile(
    r"(?:^|\.)(?:WARNING|ERROR|FATAL)(?:\.|$)"
)  # what glog writes there is in its INFO file too
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".zip", ".7z", ".rar")  # of which one file may be of many runs
_EXPANDED = 200  # times its size that a compressed log is believed to expand to
_PIECE = 1 << 16  # bytes that are read at once: they stay in the processor's cache
_HEAD = 1 << 18  # bytes in which a log tells its snapshot prefix


class RunFiles(NamedTuple):
    """A run's name and its files in order of their part numbers."""

    name: str
    files: tuple[Path, ...]
    together: bool = False
    """The user says that they are of one training, whatever is in them."""


def _plain(name: str) -> str:
    """The name of a file without what a compressed one has behind it."""
    plain, dot, suffix = name.rpartition(".")
    return plain if plain and dot + suffix in COMPRESSED else name


def _walk(folder: str, *, top: bool = True) -> Iterator[tuple[str, str]]:
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
                yield os.path.realpath(one.path), one.path
        elif one.is_file():  # a named pipe would be waited for
            yield f"{real}{os.sep}{one.name}", one.path
    for one in entries:
        if one.is_dir(follow_symlinks=False):
            yield from _walk(one.path, top=False)


def _looks_like_log(path: str) -> bool:
    """Whether a file of a folder is a log: by its name, else by what is in it."""
    name = os.path.basename(path)
    plain = _plain(name).lower()
    if DUPLICATE_SEVERITIES.search(name):
        return False
    if ".log" in plain or plain.startswith("caffe.") or plain.endswith((".txt", ".out", ".err")):
        return True
    if plain.endswith((*_NO_LOGS, *_ARCHIVES)):
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
    *(".csv", ".json", ".parquet", ".html", ".png", ".jpg", ".jpeg", ".svg", ".pdf", ".so"),
)


def find_runs(paths: Iterable[Path], named: Mapping[str, Sequence[Path]] | None = None) -> list[RunFiles]:
    """Group files and folders into runs: part files of one folder, glog's own files of one snapshot prefix, or a file.

    ``paths`` are files and folders: in a folder files are taken that are called like logs, or begin like one, and only
    once where links lead to them again. ``named`` gives runs by name whose files the user knows. Returns the runs in
    the natural order of names, ``bs32`` before ``bs128``.

    Raises ``InputError`` for a path that does not exist, a folder that cannot be read, an archive, and what is neither
    a file nor a folder.
    """
    files: dict[str, str] = {}
    known = {name: tuple(some) for name, some in (named or {}).items()}
    for path in (*paths, *(one for some in known.values() for one in some)):
        if path.is_dir():
            for real, one in _walk(str(path)):
                if _looks_like_log(one):
                    files.setdefault(real, one)
        elif path.is_file() and _plain(path.name).lower().endswith(_ARCHIVES):
            raise InputError(f"{printable(str(path))} is an archive: unpack it, and give the folder with the logs")
        elif path.is_file():
            files.setdefault(os.path.realpath(path), str(path))
        elif path.exists():
            raise InputError(f"{printable(str(path))} is neither a file nor a folder: give what its output was kept in")
        else:
            raise InputError(f"{printable(str(path))} does not exist: give log files, or folders with logs in them")
    for path in (one for some in known.values() for one in some):
        files.pop(os.path.realpath(path), None)
    found = [RunFiles(printable(name), some, together=True) for name, some in known.items()]
    found += (RunFiles(name, some) for name, some in _told_apart(list(_grouped(files))))
    if len(found) < 2:
        return found
    from natsort import natsorted, ns  # a tenth of the time that one small log takes

    found = natsorted(found, key=lambda one: (not one.together, one.name), alg=ns.IGNORECASE)
    names = numbered(one.name for one in found)
    named_apart = [one._replace(name=name) for one, name in zip(found, names, strict=True)]
    return natsorted(named_apart, key=lambda one: one.name, alg=ns.IGNORECASE)


def _told_apart(groups: Sequence[tuple[str, tuple[Path, ...]]]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """``groups``, those of one name with as much of their folders in front as tells these apart."""
    alike: dict[str, list[str]] = {}
    for name, some in groups:
        alike.setdefault(name, []).append(str(some[0].parent))
    distinct = {name: iter(distinct_names(folders)) for name, folders in alike.items() if len(folders) > 1}
    for name, some in groups:
        folder = next(distinct[name]) if name in distinct else ""
        yield f"{printable(folder)}/{name}" if folder else name, some


def _grouped(files: Mapping[str, str]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Files that are of one run, in their order, each group with its name; ``files`` by what is behind all links."""
    groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for real, path in files.items():
        folder, name = os.path.split(path)
        plain = _plain(name)
        glog = _GLOG.search(os.path.basename(real).removesuffix(name[len(plain) :]))
        part = _PART.match(plain)
        if glog is not None and (prefix := _snapshot_prefix(path)):
            groups.setdefault((folder, "glog", prefix), []).append((glog["when"], path))
        elif part is not None:
            groups.setdefault((folder, "part", part["run"]), []).append((f"{int(part['part']):09}", path))
        else:
            run = plain[:-4] if plain.endswith((".log", ".txt", ".out", ".err")) else plain
            groups[folder, f"file {name}", run] = [("", path)]
    prefixes = [name for _, kind, name in groups if kind == "glog"]
    short = dict(zip(prefixes, distinct_names(prefixes), strict=True))
    for (_, kind, name), parts in groups.items():
        yield printable(short[name] if kind == "glog" else name), tuple(Path(path) for _, path in sorted(parts))


def distinct_names(prefixes: Sequence[str]) -> list[str]:
    """The last parts of ``prefixes``, in their order, as many as tell different ones apart: ``lr1/net``."""
    distinct, depth = set(prefixes), 1
    while depth < 8 and len({"/".join(PurePath(one).parts[-depth:]) for one in distinct}) < len(distinct):
        depth += 1
    return ["/".join(PurePath(one).parts[-depth:]) for one in prefixes]


def _beginning(path: str, size: int) -> bytes:
    head = bytearray()
    for piece in pieces(Path(path)):
        head += piece
        if len(head) >= size:
            break
    return bytes(head[:size])


def _snapshot_prefix(path: str) -> str:
    """The snapshot prefix that the beginning of a log tells; empty where it does not, or cannot be read."""
    try:
        found = re.search(rb'snapshot_prefix: "([^"\n]+)"', _beginning(path, _HEAD))
    except OSError:
        return ""
    return found[1].decode(errors="replace") if found else ""


def numbered(names: Iterable[str]) -> Iterator[str]:
    """``names``, with a number behind those that came before: ``net``, ``net~2``."""
    taken: Counter[str] = Counter()
    for name in names:
        taken[name] += 1
        yield name if taken[name] == 1 else f"{name}~{taken[name]}"


def _opened(path: Path) -> tuple[BufferedReader, tuple[type[Exception], ...]]:
    """The log at ``path``, uncompressed, and what is raised where a compressed file is cut or damaged."""
    if path.suffix == ".gz":
        import gzip
        import zlib

        return cast(BufferedReader, gzip.open(path, "rb")), (EOFError, ValueError, gzip.BadGzipFile, zlib.error)
    if path.suffix == ".bz2":
        import bz2

        return cast(BufferedReader, bz2.open(path, "rb")), (EOFError, ValueError, OSError)
    if path.suffix == ".xz":
        import lzma

        return cast(BufferedReader, lzma.open(path, "rb")), (EOFError, ValueError, lzma.LZMAError)
    if path.suffix == ".zst":
        import zstandard

        return cast(BufferedReader, zstandard.open(path, "rb")), (EOFError, ValueError, zstandard.ZstdError)
    return cast(BufferedReader, open(path, "rb", buffering=0)), ()


def pieces(path: Path, start: int = 0) -> Iterator[memoryview]:
    """The bytes of the log at ``path``, uncompressed, from byte ``start`` on; each good until the next is asked for.

    A compressed file that is cut gives what there is. Raises ``OSError`` where the file cannot be read, or expands to
    far more than a log does.
    """
    done, size = 0, os.stat(path).st_size
    most = _EXPANDED * size + (16 << 20) if path.suffix in COMPRESSED else None
    buffer = memoryview(bytearray(_PIECE if most else min(_PIECE, size + 1)))
    file, damage = _opened(path)
    with file:
        if start:
            file.seek(start)
        # Of a compressed file one piece at a time, or what comes before the place where it is cut would be lost.
        read = getattr(file, "readinto1", file.readinto)
        while True:
            try:
                count = read(buffer)
            except damage:
                return
            if not count:
                return
            yield buffer[:count]
            done += count
            if most is not None and done > most:
                raise OSError(errno.EFBIG, f"it expands to more than {_EXPANDED} times its size, as no log does", path)
