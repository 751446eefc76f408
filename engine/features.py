"""What the installed Caffe was built with: looked up in its libraries, nothing is loaded."""

from __future__ import annotations

from functools import cache

from caffebench.common.errors import CaffebenchError
from caffebench.engine.locate import caffe_folder

__all__ = ["caffe_has_gpu", "caffe_has_leveldb", "caffe_has_nccl", "caffe_has_opencv", "caffe_is_there"]


def caffe_is_there() -> bool:
    """Whether Caffe is installed for this Python; the other questions raise ``CaffebenchError`` where it is not."""
    try:
        return any(caffe_folder().glob("_caffe*"))
    except CaffebenchError:
        return False


@cache
def _libraries() -> bytes:
    return b"".join(path.read_bytes() for name in ("_caffe*.so", "libcaffe.so*") for path in caffe_folder().glob(name))


def caffe_has_gpu() -> bool:
    """Whether the installed Caffe was built with CUDA."""
    return b"cublasCreate" in _libraries()


def caffe_has_nccl() -> bool:
    """Whether the installed Caffe can train one net on several GPUs."""
    return b"ncclAllReduce" in _libraries()


def caffe_has_opencv() -> bool:
    """Whether the installed Caffe can decode images."""
    return b"_ZN2cv" in _libraries()


def caffe_has_leveldb() -> bool:
    """Whether the installed Caffe can read LevelDB."""
    return b"7leveldb" in _libraries()
