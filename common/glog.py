"""The lines of glog, in which Caffe logs: what each begins with, and writing one."""

from __future__ import annotations

import os
import time

__all__ = ["EVENT_MARK", "STAMP", "glog_line"]

STAMP = rb"[IWEF](?:\d{4}|\d{8}) \d\d:\d\d:\d\d\.\d{6} "
"""Severity and time, as a regular expression: ``I0411 08:54:06.202049 ``, since glog 0.5 ``I20261121 ...``.

Behind them stand the thread's number and ``FILE:LINE] ``.
"""

EVENT_MARK = "caffebench: "
"""What a line of ours (``common.events``) begins with, behind that."""


def glog_line(message: str, process: int | None = None) -> str:
    """A line as glog 0.5 writes it, for what has to be logged when the process ``process`` itself cannot."""
    now = time.time()
    stamp = time.strftime("%Y%m%d %H:%M:%S", time.localtime(now))
    return f"I{stamp}.{int(now % 1 * 1e6):06} {process or os.getpid():5} launcher.py:1] {message}\n"
