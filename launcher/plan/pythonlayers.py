"""The Python layers of a run's nets: whose code they are is said, and decided, before any of it runs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from caffebench.common.errors import InputError
from caffebench.engine.pythonlayers import find_module
from caffebench.launcher.solver.solverfile import SolverFile

__all__ = ["PythonLayers", "check_python_layers", "import_python_layers"]


@dataclass(frozen=True)
class PythonLayers:
    """The modules that Caffe will import for a run's nets."""

    notes: tuple[str, ...] = ()
    """Whose code each of them is, a sentence each."""
    folders: tuple[str, ...] = ()
    """The folders that they need beside Python's own."""


def check_python_layers(file: SolverFile, *, allow: bool) -> PythonLayers:
    """The Python layers of a solver's nets.

    ``allow`` lets modules be taken from the folders of the prototxt and its net. Raises ``InputError`` for a module
    that is nowhere, and for one that is only there and not allowed.
    """
    layers: dict[str, str] = {}
    for net in file.nets():
        for layer in net.layer:
            if layer.type == "Python":
                layers.setdefault(layer.python_param.module, layer.name)
    notes, beside = [], False
    for name, layer_name in layers.items():
        module = find_module(name, file.folders)
        what = f"layer {layer_name} of {file.path}"
        if module.file is None:
            folders = " or ".join(str(folder) for folder in file.folders)
            raise InputError(
                f"{what} is of the Python module {name!r}, which is neither installed nor in PYTHONPATH nor in "
                f"{folders}: put its folder into PYTHONPATH"
            )
        if module.beside and not allow:
            raise InputError(
                f"{what} would run {module.file}, code that came with the prototxt: read it, then allow it with "
                "--allow-python-layers or put its folder into PYTHONPATH"
            )
        beside = beside or module.beside
        notes.append(f"{what} runs the Python module {name} ({module.file})")
    return PythonLayers(tuple(notes), tuple(str(folder.absolute()) for folder in file.folders) if beside else ())


def import_python_layers(parameter: Any) -> None:
    """Import the classes of all Python layers of a ``SolverParameter``, in the training process.

    Caffe prints a failed import and then says only that something failed.
    Raises ``InputError`` with the exception that ends the import, or that there is no such class.
    """
    nets = [parameter.net_param, parameter.train_net_param, *parameter.test_net_param]
    for layer in (layer for net in nets for layer in net.layer if layer.type == "Python"):
        module, name = layer.python_param.module, layer.python_param.layer
        what = f"the Python layer {layer.name} ({module}.{name}) cannot be made"
        try:
            found = importlib.import_module(module)
        except Exception as error:  # whatever a module raises
            raise InputError(f"{what}: {type(error).__name__}: {error}") from error
        if not hasattr(found, name):
            raise InputError(f"{what}: {found.__file__} has no class {name}")
