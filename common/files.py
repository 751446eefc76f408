"""Files that are either whole or not there, and text files of strangers."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from caffebench.common.errors import InputError

__all__ = ["LARGEST_TEXT", "read_text", "write_whole"]

LARGEST_TEXT = 256 << 20
"""Bytes that a prototxt may have: the largest in the field, ResNets that carry their means along, have some 10 MB."""


def read_text(path: Path, *, largest: int = LARGEST_TEXT) -> str:
    """The text of a file that a user or another file names.

    Nothing but a regular file of at most ``largest`` bytes is opened: a device gives bytes without end, a named pipe
    waits for ever. Bytes that are not UTF-8 become the escapes ``\\xNN`` by which prototxt and YAML know them, as a
    comment in Latin-1 harms nobody. Raises ``InputError`` in one line; ``FileNotFoundError`` and other ``OSError``
    as they come.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not keep us waiting here
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is {_kind(status.st_mode)}, not a text file: name a regular file")
        if status.st_size > largest:
            raise InputError(
                f"{path} has {status.st_size / 1e6:,.0f} MB, and at most {largest / 1e6:,.0f} are read: "
                "it must be something else"
            )
        # One byte more than allowed: files below /proc say that they have none.
        data = file.read(largest + 1)
    if len(data) > largest:
        raise InputError(f"{path} has more than {largest / 1e6:,.0f} MB: it must be something else")
    if b"\0" in data:
        raise InputError(
            f"{path} is not a text file, byte {data.index(0)} is zero: name a prototxt, not weights or data"
        )
    return data.decode("utf-8", "backslashreplace").removeprefix("\ufeff")


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that no reader ever sees a part of it: temporary name, then rename.

    Missing parent folders are made. Raises ``OSError`` (full disk, no permission) and leaves what was at
    ``path`` as it was, with no temporary file behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # The user knows of ``path``; a full disk names no file at all.
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
