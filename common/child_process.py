"""Child processes of ours: what they are handed, which signals they hear, and that none outlives its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["block_sigterm", "die_with", "ignore_stop_signals", "memory_file", "read_task", "task_file"]

T = TypeVar("T")
PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` dies; it may have died already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def ignore_stop_signals(*but: int) -> None:
    """Ignore what asks processes to end, ``but`` some: it may be sent to all of them, and the parent ends its own."""
    for number in {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} - set(but):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def block_sigterm() -> Iterator[None]:
    """Start in here a process that calls ``ignore_stop_signals``: it holds SIGTERM back until it comes to that.

    It inherits that from its first instruction on. SIGINT and SIGHUP it is to ignore like this process, which does.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def memory_file(name: str, content: bytes) -> Iterator[int]:
    """A file that is on no disk, for a process that takes nothing but files: its descriptor, open at its beginning."""
    descriptor = os.memfd_create(name)
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def task_file(task: object) -> Iterator[int]:
    """A dataclass for a child process, as JSON in a ``memory_file``: its descriptor, for ``pass_fds``."""
    from pydantic import TypeAdapter

    with memory_file("task", TypeAdapter(type(task)).dump_json(task)) as descriptor:
        yield descriptor


def read_task(kind: type[T], descriptor: int) -> T:
    """The dataclass of the type ``kind`` that the parent put into a ``task_file``; in the child."""
    from pydantic import TypeAdapter

    with open(descriptor, "rb") as file:
        return TypeAdapter(kind).validate_json(file.read())
