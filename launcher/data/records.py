"""The records of an LMDB: opening it as Caffe's Data layer does, and counting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["count_records", "open_lmdb", "read_records"]


def open_lmdb(source: Path | str, *, readahead: bool = True) -> Any:
    """The ``lmdb.Environment`` of a database, a folder or a file, for reading only. Raises ``lmdb.Error``."""
    import lmdb

    subdir = Path(source).is_dir()
    return lmdb.open(str(source), readonly=True, lock=False, subdir=subdir, readahead=readahead)


@contextmanager
def read_records(source: Path, *, readahead: bool = True, buffers: bool = False) -> Iterator[tuple[Any, Any]]:
    """The statistics of a database, a dict, and a cursor over its records. Raises ``lmdb.Error``."""
    with open_lmdb(source, readahead=readahead) as environment, environment.begin(buffers=buffers) as transaction:
        yield environment.stat(), transaction.cursor()


def count_records(source: Path) -> int:
    """The number of records of an LMDB."""
    with open_lmdb(source) as environment:
        return int(environment.stat()["entries"])
