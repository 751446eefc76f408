"""``import caffe`` without the half of it that takes three quarters of its time."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from caffebench.engine.locate import caffe_folder

__all__ = ["import_caffe"]


def import_caffe() -> Any:
    """The module ``caffe``, whose ``caffe.io`` is loaded when something in it is first asked for.

    Training needs nothing of ``caffe.io``, which imports scikit-image and SciPy: 0.3 s for every process. Raises
    ``CaffebenchError`` where Caffe is not installed.
    """
    path = caffe_folder() / "io.py"
    if "caffe" not in sys.modules:
        module = ModuleType("caffe.io")
        module.__file__ = str(path)

        def load(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            del module.__dict__["__getattr__"]
            exec(compile(path.read_text(), str(path), "exec"), module.__dict__)  # noqa: S102 - Caffe's own file
            return getattr(module, name)

        module.__dict__["__getattr__"] = load
        sys.modules["caffe.io"] = module
    import caffe

    return caffe
