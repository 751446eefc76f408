"""Where the files of one run are: the only place that knows their names."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from caffebench.common.errors import CaffebenchError, InputError

__all__ = ["BrokenSnapshotError", "RunPaths", "SnapshotPaths"]

DYING = 30.0
"""Seconds that a killed process may take to go."""


class BrokenSnapshotError(CaffebenchError):
    """A snapshot file is not what its name says, or not all of it."""


@dataclass(frozen=True)
class SnapshotPaths:
    """The files of one snapshot: Caffe's two, and our record of what Caffe does not keep."""

    state: Path
    model: Path
    record: Path

    def exist(self) -> bool:
        """Whether both of Caffe's files are there (whole or not)."""
        return self.state.is_file() and self.model.is_file()

    def remove(self) -> None:
        """Delete all three; the state goes first, so that no state is ever left without its weights."""
        for path in (self.state, self.model, self.record):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class RunPaths:
    """All paths of the run called ``run``: ``<logs>/<run>.NNN.log`` and ``<snapshots>/<run>_iter_N.*``."""

    run: str
    logs: Path
    snapshots: Path

    @property
    def partial(self) -> Path:
        """The folder that Caffe writes a snapshot into, before it is checked and gets its final name."""
        return self.snapshots / ".partial"

    def snapshot(self, iteration: int) -> SnapshotPaths:
        """The files of the snapshot at ``iteration`` under their final names."""
        return self._snapshot(self.snapshots, iteration)

    def unfinished(self, iteration: int) -> SnapshotPaths:
        """The files of the snapshot at ``iteration`` while they are being written."""
        return self._snapshot(self.partial, iteration)

    def _snapshot(self, folder: Path, iteration: int) -> SnapshotPaths:
        stem = f"{self.run}_iter_{iteration}"
        return SnapshotPaths(folder / f"{stem}.solverstate", folder / f"{stem}.caffemodel", folder / f"{stem}.json")

    def iterations(self) -> list[int]:
        """Iterations that have a ``.solverstate``, newest first; whole or not is not looked at."""
        pattern = re.compile(re.escape(self.run) + r"_iter_(\d+)\.solverstate")
        names = os.listdir(self.snapshots) if self.snapshots.is_dir() else []
        return sorted((int(m[1]) for m in map(pattern.fullmatch, names) if m), reverse=True)

    def sessions(self) -> list[int]:
        """Numbers of the log files that are there, in order."""
        pattern = re.compile(re.escape(self.run) + r"\.(\d{3,})\.log")
        names = os.listdir(self.logs) if self.logs.is_dir() else []
        return sorted(int(m[1]) for m in map(pattern.fullmatch, names) if m)

    def log(self, session: int) -> Path:
        """The log file of the session with that number (from 1)."""
        return self.logs / f"{self.run}.{session:03}.log"

    def open_log(self) -> tuple[int, int]:
        """Create the next session's log file: its number, and the descriptor of the file, open for appending.

        Raises ``OSError`` where the folder cannot be written.
        """
        session = max(self.sessions(), default=0) + 1
        # Exclusive: two sessions never write into one log, whatever the lock says.
        return session, os.open(self.log(session), os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_RDWR, 0o644)

    def prepare(self) -> None:
        """Make the folders and throw away what a dead session left half-written.

        Raises ``InputError`` where a folder cannot be made or written.
        """
        for folder, what in ((self.logs, "logs"), (self.snapshots, "snapshots")):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".{self.run}.{os.getpid()}.probe"
                probe.touch()
                probe.unlink()
            except OSError as error:
                raise InputError(
                    f"cannot write to the {what} folder {folder}: {error.strerror}; choose another with --{what} DIR"
                ) from error
        self.partial.mkdir(exist_ok=True)

    def discard_unfinished(self) -> None:
        """Delete half-written snapshots of this run; call it with the lock held."""
        pattern = re.compile(re.escape(self.run) + r"_iter_\d+\..*")
        for path in self.partial.iterdir() if self.partial.is_dir() else ():
            if pattern.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def set_aside(self) -> list[Path]:
        """Move earlier logs and snapshots of this run out of the way: the folders that they went to."""
        moved = []
        for folder, paths in (
            (self.logs, [self.log(number) for number in self.sessions()]),
            (
                self.snapshots,
                [path for n in self.iterations() for path in vars(self.snapshot(n)).values() if path.is_file()],
            ),
        ):
            if paths:
                taken = {path.name for path in (folder / ".replaced").glob("*")}
                number = next(n for n in range(1, len(taken) + 2) if f"{self.run}.{n}" not in taken)
                target = folder / ".replaced" / f"{self.run}.{number}"
                target.mkdir(parents=True)
                for path in paths:
                    shutil.move(path, target / path.name)
                moved.append(target)
        return moved

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the run's lock; yields its descriptor, which a child inherits and so holds too.

        Raises ``InputError`` where another launcher has the run.
        """
        path = self.snapshots / f".{self.run}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            end = time.monotonic() + DYING
            while not _try_lock(descriptor):
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                # The child of a launcher that was killed holds the lock until the kernel has taken it apart.
                if _is_gone(holder) and time.monotonic() < end:
                    time.sleep(0.05)
                    continue
                raise InputError(
                    f"{self.run} is already being trained into {self.snapshots} by {holder or 'an unknown process'}: "
                    "stop that one first, or choose another folder with --snapshots DIR"
                )
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_gone(holder: str) -> bool:
    """Whether a lock's holder, "process N on HOST", is a process of this machine that has ended."""
    match = re.fullmatch(r"process (\d+) on (.*)", holder)
    return match is not None and match[2] == os.uname().nodename and not Path(f"/proc/{match[1]}").exists()
