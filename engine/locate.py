"""Finding Caffe in the current Python environment, and the parts of it that need no ``import caffe``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from caffebench.common.errors import CaffebenchError

__all__ = ["caffe_folder", "caffe_pb2", "caffe_tool"]


def caffe_folder() -> Path:
    """The folder of the installed ``caffe`` package; nothing is imported.

    Raises ``CaffebenchError`` if there is none.
    """
    spec = importlib.util.find_spec("caffe")
    if spec is None or spec.origin is None:
        raise CaffebenchError("Caffe is not installed for this Python: run install-caffe")
    return Path(spec.origin).parent


def caffe_pb2() -> ModuleType:
    """Caffe's protobuf messages (``caffe.proto.caffe_pb2``), without the half second of ``import caffe``.

    The module is registered under its own name: a later ``import caffe`` uses the same message classes.
    Raises ``CaffebenchError`` where Caffe is not installed.
    """
    name = "caffe.proto.caffe_pb2"
    if name in sys.modules:
        return sys.modules[name]
    path = caffe_folder() / "proto" / "caffe_pb2.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise CaffebenchError(f"{path.parent.parent} is not a whole Caffe, {path.name} is missing: run install-caffe")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def caffe_tool() -> Path:
    """The ``caffe`` command-line tool that belongs to this environment.

    Raises ``CaffebenchError`` if there is none.
    """
    for path in (caffe_folder() / "bin" / "caffe", Path(sys.prefix) / "bin" / "caffe"):
        if path.is_file():
            return path
    raise CaffebenchError("this Caffe came without its caffe tool: run install-caffe --force")
