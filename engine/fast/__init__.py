"""Layers that compute what Caffe's own compute, faster, on the CPU: a library loaded beside Caffe.

``install-caffe`` builds it from the C++ files of this folder. Convolution and InnerProduct run on oneDNN; depthwise
convolution of larger planes, Pooling, LRN, BatchNorm, Scale, ReLU, Clip and SGD's update of the weights on loops that
the compiler turns into vector code for this processor.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from caffebench.common.errors import CaffebenchError
from caffebench.engine.locate import caffe_folder
from caffebench.engine.pycaffe import import_caffe

__all__ = ["LIBRARY", "is_built", "load"]

LIBRARY = "libcaffebench_fast.so"
"""The library's file, in the folder of the installed Caffe."""


def is_built() -> bool:
    """Whether the installed Caffe has the library beside it.

    Raises ``CaffebenchError`` where Caffe is not installed.
    """
    return _library().is_file()


def load(*, on: bool = True) -> None:
    """From now on, build nets of these layers, and solvers of this update; with ``on=False`` of Caffe's own again.

    Nets and solvers that are there already keep what they have. The library is for float, which pycaffe's nets are,
    and for the CPU: on a GPU its layers compute what Caffe's own do there, without cuDNN. Call it in the thread that
    computes: there handlers of signals get a stack of their own, without which they can write into the heap.

    Raises ``CaffebenchError`` where Caffe is not installed, or where it has no such library.
    """
    import_caffe()  # whose libcaffe.so the library belongs to
    library = _library()
    if not library.is_file():
        raise CaffebenchError(f"{library} is not there: run install-caffe, which builds it")
    try:
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL).caffebench_fast_layers(int(on))
    except OSError as error:
        raise CaffebenchError(f"cannot load the fast layers ({error}): build them anew with install-caffe") from error


def _library() -> Path:
    return caffe_folder() / LIBRARY
