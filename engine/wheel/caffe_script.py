"""Caffe's own command-line tool, run in the process of this Python: the script ``caffe`` of the wheel.

Caffe is built with Python layers, so its tool needs the symbols of libpython. An interpreter has them inside, or has
loaded them, where a program of its own would need a libpython3.x.so, which many systems do not have.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Run the tool with this process's arguments; its exit code."""
    spec = importlib.util.find_spec("caffe")
    if spec is None or spec.origin is None:
        sys.stderr.write("caffe: there is no Caffe in this Python environment\n")
        return 1
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is for Caffe, not for this interpreter
    # PyDLL keeps the interpreter's lock, which Python layers count on.
    tool = ctypes.PyDLL(os.path.join(os.path.dirname(spec.origin), "libcaffe_tool.so"))
    arguments = (ctypes.c_char_p * (len(sys.argv) + 1))(*map(os.fsencode, sys.argv), None)
    return int(tool.caffe_main(len(sys.argv), arguments))


if __name__ == "__main__":
    sys.exit(main())
