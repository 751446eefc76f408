"""The log of one session: all that the training process says comes here, and goes into a file that may fail.

The process writes into a pipe. Written straight into the file, a line that finds no room is lost without a word, and
so is everything in a file that somebody removes.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from caffebench.common.events import SnapshotEvent
from caffebench.common.messages import Announce
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.state.paths import RunPaths

__all__ = ["RunLog"]

PIPE = 1 << 20
CHUNK = 1 << 18


class RunLog:
    """A session's log file, the pipe that it is fed from, and what it says so far (``tail``)."""

    def __init__(self, paths: RunPaths, announce: Announce) -> None:
        """Create the next session's file; ``announce`` hears of what befalls it. Raises ``OSError``."""
        self._paths, self._announce = paths, announce
        self.session, self._file = paths.open_log()
        self.tail = LogTail(paths.log(self.session))
        self.trouble: str | None = None
        """Why the file lacks something, in words; None while it holds all."""
        self.child: int | None = None
        """The process that speaks."""
        self._pending = bytearray()
        self._written = 0
        self._reached = 0
        """The iteration up to which everything has been in the file."""
        self._last = b"\n"
        self._source, self.sink = os.pipe()
        self.answers, self._answer = os.pipe()
        self._answered: int | None = None
        os.set_blocking(self._source, False)
        with suppress(OSError):  # more than the user may have
            fcntl.fcntl(self._source, fcntl.F_SETPIPE_SZ, PIPE)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.tail.path

    def fileno(self) -> int:
        """The end of the pipe that there is something to read from."""
        return self._source

    def close_child_ends(self) -> None:
        """Let the child have its ends of the pipes to itself: ``sink`` to speak, ``answers`` to hear."""
        for end in (self.sink, self.answers):
            if end >= 0:
                os.close(end)
        self.sink = self.answers = -1

    def pump(self) -> bool:
        """Take in what the child has said since the last call; whether there was anything."""
        data = bytearray()
        with suppress(BlockingIOError):
            while chunk := os.read(self._source, CHUNK):
                data += chunk
                if len(data) > PIPE:
                    break
        self._reached = self.tail.iteration or 0
        self.tail.feed(bytes(data))
        self.write(bytes(data))
        self._answer_snapshot()
        return bool(data)

    def _answer_snapshot(self) -> None:
        """Tell a child that is about to have a snapshot count that all it has said is in the file, or never will be."""
        snapshot = self.tail.event(SnapshotEvent)
        iteration = None if snapshot is None else snapshot.iteration
        if iteration != self._answered:
            self._answered = iteration
            with suppress(OSError):  # it has ended
                os.write(self._answer, b"\n")

    def drain(self) -> None:
        """Take in all that is left once the child has ended."""
        while self.pump():
            pass
        self.tail.end()

    def write(self, data: bytes) -> None:
        """Put ``data`` at the end of the file, as soon as that can be done."""
        self._last = data[-1:] or self._last
        self._pending += data
        try:
            self._find_file()
            while self._pending:
                count = os.write(self._file, self._pending)
                del self._pending[:count]
                self._written += count
        except OSError as error:
            if self.trouble is None:
                reason = error.strerror or str(error)
                self.trouble = f"the log {self.path} cannot be written since iteration {self._reached} ({reason})"

    def write_line(self, line: str) -> None:
        """Put a line of the launcher's own at the end, on a line of its own."""
        self.write((("" if self._last == b"\n" else "\n") + line).encode())

    def close(self) -> None:
        """Try once more to write what could not be written, and let go of file and pipe."""
        self.write(b"")
        self.close_child_ends()
        for descriptor in (self._source, self._answer, self._file):
            os.close(descriptor)

    def _find_file(self) -> None:
        """See to it that the file is where people look for it. Raises ``OSError``."""
        mine = os.fstat(self._file)
        if mine.st_size < self._written:
            self._report(f"was cut to {mine.st_size} bytes", "continues")
            self._written = mine.st_size
        try:
            there = os.stat(self.path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            self._begin_again(self.path)
            return
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            self._begin_again(self._paths.log(max(self._paths.sessions()) + 1))

    def _report(self, what: str, then: str) -> None:
        self._announce(f"{self._paths.run}: {self.path} {what} at iteration {self._reached}: the log {then}")

    def _begin_again(self, path: Path) -> None:
        """Go on in a new file that begins with all of the old one, which has no name any more or another one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = os.open(path, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_RDWR, 0o644)
        try:
            at = 0
            while chunk := os.pread(self._file, CHUNK, at):
                at += len(chunk)
                while chunk:
                    chunk = chunk[os.write(new, chunk) :]
        except OSError:
            os.close(new)
            os.unlink(path)
            raise
        os.close(self._file)
        self._file, self._written = new, at
        what = "was gone" if path == self.path else "was another file"
        where = "is written again" if path == self.path else f"continues in {path}"
        self._report(what, f"{where}, with all that it held")
        self.tail.path = path
