"""Files of strangers, read so that none of them can hold us up or fill the memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
from pathlib import Path
from typing import IO, Any

from caffebench.common.errors import InputError

__all__ = ["BoundedStream", "open_regular", "read_regular"]


def open_regular(path: str | Path) -> IO[bytes]:
    """A regular file, to be read. Raises ``InputError`` for a folder, a pipe or a device and ``OSError`` where it
    cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe must not keep us waiting here
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is no regular file")
    return open(descriptor, "rb")


def read_regular(path: Path, largest: int) -> bytes:
    """The content of a regular file. Raises ``InputError`` for anything else (a folder, a pipe, a file of more than
    ``largest`` bytes) and ``OSError`` where it cannot be opened.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(largest + 1) if size <= largest else b""
    if size > largest or len(content) > largest:
        raise InputError(f"{path} is larger than {largest >> 20} MB: it must be something else")
    return content


class BoundedStream:
    """A file unpacked as it is read, forward, and no more than ``largest`` bytes of it: what tarfile reads from."""

    def __init__(self, file: IO[bytes], name: str, largest: int) -> None:
        """``file`` is plain or packed with gzip, bzip2 or xz; errors call it ``name``."""
        start = file.read(6)
        file.seek(0)
        self._file: Any = file
        if start.startswith(b"\x1f\x8b"):
            self._file = gzip.GzipFile(fileobj=file)
        elif start.startswith(b"BZh"):
            self._file = bz2.BZ2File(file)
        elif start == b"\xfd7zXZ\0":
            self._file = lzma.LZMAFile(file)  # noqa: SIM115, the caller closes what is below
        self._name, self._left, self._largest = name, largest, largest

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes. Raises ``InputError`` where more than the bound is asked for."""
        content: bytes = self._file.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise InputError(f"{self._name} unpacks to more than {self._largest >> 20} MB: it must be something else")
        return content
