"""Which file a Python layer of a prototxt would run: known before anything of it is imported.

Caffe imports the module that ``python_param`` names, so a prototxt can have code run that came along with it. A module
that is installed, or in a folder of ``PYTHONPATH``, is there because the user put it there. One that only lies beside
the prototxt is the prototxt's author's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from caffebench.common.isolated import python_path

__all__ = ["PythonModule", "find_module"]


@dataclass(frozen=True)
class PythonModule:
    """Where the module of a Python layer is."""

    name: str
    file: str | None
    """Its file, or a word for a module that has none; None where there is no such module."""
    beside: bool
    """Whether it is in none of Python's folders, only in one of those beside the prototxt."""


def find_module(name: str, folders: Sequence[Path]) -> PythonModule:
    """Look for the module ``name`` as a training process would, then in ``folders``; nothing is imported."""
    if not all(part.isidentifier() for part in name.split(".")):
        return PythonModule(name, None, beside=False)
    # Python puts the folder of the running program first, unless told not to; a training process is told.
    own = sys.path if getattr(sys.flags, "safe_path", sys.flags.isolated) else sys.path[1:]
    installed = _find(name, [*python_path(), *(entry for entry in own if entry)])
    if installed is not None:
        return PythonModule(name, installed, beside=False)
    return PythonModule(name, _find(name, [str(folder.absolute()) for folder in folders], beside=True), beside=True)


def _find(name: str, path: Sequence[str], *, beside: bool = False) -> str | None:
    """The file of a module, a folder for a package without one; packages are gone through and not imported."""
    first, *rest = name.split(".")
    finders = [PathFinder] if beside else sys.meta_path
    spec: ModuleSpec | None = None
    for finder in finders:
        spec = finder.find_spec(first, path if finder is PathFinder else None)
        if spec is not None:
            break
    for depth, _ in enumerate(rest, 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([first, *rest][: depth + 1]), list(spec.submodule_search_locations))
    if spec is None:
        return None
    if spec.has_location and spec.origin:
        return spec.origin
    return next(iter(spec.submodule_search_locations or ()), spec.origin)
