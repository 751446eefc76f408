"""Why a child process died, in one line, and whether another try can help."""

from __future__ import annotations

import re
import shutil
import signal
from dataclasses import dataclass

from caffebench.common.events import RankEvent
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.state.paths import RunPaths

__all__ = ["Failure", "disk_is_full", "explain"]

DEVICE = re.compile(r"cuda\w*|cublas|curand|cudnn|nccl|out of memory", re.IGNORECASE)
"""Failed checks that are the device's or the moment's fault, not the file's."""
ALMOST_FULL = 1 << 20
CAUSES = (
    (re.compile(r"Unknown layer type: (\S+) \(known types"), r"this Caffe has no layer type \1"),
    (
        re.compile("Incorrect length of history blobs"),
        "the solver state is of another solver type, or of another net: start over with --fresh, or from its weights "
        "with --weights",
    ),
)
"""What some checks of Caffe's mean."""


@dataclass(frozen=True)
class Failure:
    """How a child died. Two equal failures in a row mean that the next try would end the same way."""

    message: str
    iteration: int
    retry: bool
    fatal: bool = False
    """It was a CHECK of Caffe's own, or an error of ours: repeatable, unlike a signal from outside."""


def explain(code: int, tail: LogTail, paths: RunPaths) -> Failure:
    """Explain the exit code of a child (negative: the signal) by what its log ends with."""
    iteration = tail.iteration or 0
    if tail.fatal is not None:
        full = disk_is_full(paths)
        if full and ("SerializeToOstream" in tail.fatal or "tempfile" in tail.fatal):
            return Failure(full, iteration, retry=False, fatal=True)
        # A check that fails while the net is built fails every time, unless the device is to blame.
        device = DEVICE.search(tail.fatal) is not None
        return Failure(f"Caffe gave up: {_cause(tail.fatal)}", iteration, retry=device or tail.started, fatal=True)
    if code == -signal.SIGIO:  # one of several GPUs' processes has ended (ranks.py); its guard says how, if it is left
        rank = tail.event(RankEvent)
        how = f"GPU {rank.gpu} {rank.how}" if rank else "another GPU ended"
        return Failure(f"Caffe's process on {how}", iteration, retry=True)
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory? see dmesg)" if name == "SIGKILL" else ""
        return Failure(f"Caffe was ended by {name}{hint}", iteration, retry=True)
    last = f": {tail.last_line}" if tail.last_line else ""
    return Failure(f"the training process ended with code {code}{last}", iteration, retry=False, fatal=True)


def _cause(fatal: str) -> str:
    """What a failed check means, else its own words."""
    meant = (match.expand(text) for pattern, text in CAUSES if (match := pattern.search(fatal)))
    return next(meant, fatal.strip())


def disk_is_full(paths: RunPaths) -> str:
    """A sentence about the snapshots' disk if it is full, else nothing."""
    free = shutil.disk_usage(paths.snapshots).free
    if free >= ALMOST_FULL:
        return ""
    kept = paths.iterations()
    safe = f"the snapshot of iteration {kept[0]} is intact" if kept else "there is no snapshot yet"
    return f"the disk of {paths.snapshots} is full ({free // 1024} KiB free); {safe}: make room and start again"
