"""Columns put away: in memory while they are few, in a file without a name beyond."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from caffebench.common.errors import CaffebenchError

__all__ = ["LIMIT", "Store"]

LIMIT = 384 << 20
"""Bytes that all stores of a process together keep in memory."""

Array = npt.NDArray[Any]
_held = [0]
_lock = threading.RLock()  # a store may be given back by the garbage collector while its own thread holds it


class Store:
    """Takes arrays of one dimension and gives them back by number.

    What does not fit into ``LIMIT`` goes to a temporary file (in ``TMPDIR``), which the system removes whatever happens
    to the process. ``put`` raises ``CaffebenchError`` where that file cannot be written.
    """

    def __init__(self) -> None:
        """Empty."""
        self._begin()

    def _begin(self) -> None:
        self._kept: list[list[Array] | tuple[int, list[tuple[np.dtype[Any], int]]]] = []
        self._file: BinaryIO | None = None
        self._own = [0]  # bytes of this store in memory
        weakref.finalize(self, _release, self._own)

    def put(self, arrays: Sequence[Array]) -> int:
        """Keep ``arrays``; returns the number under which ``get`` gives them."""
        size = sum(one.nbytes for one in arrays)
        with _lock:
            fits = _held[0] + size <= LIMIT
            if fits:
                _held[0] += size
                self._own[0] += size
        if fits:
            self._kept.append(list(arrays))
            return len(self._kept) - 1
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="caffebench-")  # noqa: SIM115 - it lives as long as the store
            place = self._file.seek(0, 2)
            for one in arrays:
                self._file.write(np.ascontiguousarray(one).data)
            self._file.flush()
        except OSError as error:
            # Where there is no folder at all, tempfile says so, and which ones it tried.
            where = "" if tempfile.tempdir is None else f" in {tempfile.tempdir}"
            raise CaffebenchError(
                f"rows of large logs cannot be put away{where}: {error.strerror}; set TMPDIR to a folder with more room"
            ) from error
        self._kept.append((place, [(one.dtype, len(one)) for one in arrays]))
        return len(self._kept) - 1

    def get(self, number: int) -> list[Array]:
        """The arrays of a number; not to be changed."""
        kept = self._kept[number]
        if isinstance(kept, list):
            return kept
        place, columns = kept
        size = sum(dtype.itemsize * count for dtype, count in columns)
        with _lock:
            assert self._file is not None  # noqa: S101 - or nothing would have been written there
            self._file.seek(place)
            data = self._file.read(size)
        arrays, at = [], 0
        for dtype, count in columns:
            arrays.append(np.frombuffer(data, dtype, count, at))
            at += dtype.itemsize * count
        return arrays

    def __getstate__(self) -> list[list[Array]]:
        """All that is in it: a file cannot go to another process."""
        return [self.get(number) for number in range(len(self._kept))]

    def __setstate__(self, state: list[list[Array]]) -> None:
        """The reverse of ``__getstate__``."""
        self._begin()
        for arrays in state:
            self.put(arrays)


def _release(own: list[int]) -> None:
    with _lock:
        _held[0] -= own[0]
