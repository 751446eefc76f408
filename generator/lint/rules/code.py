"""The rules on code that a prototxt has run: looked for and read here, never imported."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from caffebench.engine.pythonlayers import PythonModule, find_module
from caffebench.generator.lint.facts import find, is_here, sources
from caffebench.generator.lint.registry import Hit, of_layer, rule
from caffebench.generator.meaning import LAYER_TYPES, Layer, Prototxt

_LARGEST = 1_000_000
# A module that holds one of these may have classes that are not written out in it.
_MAKES_NAMES = {"globals", "setattr", "exec", "vars", "__getattr__", "__dict__", "*"}


@rule("python-module", "error", why="Caffe stops when it builds the net: it imports the module and makes the class")
def python_module(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A Python layer whose module is not where Caffe would import it from, is no Python, or lacks the class.

    A note in a file for another machine: none of its data is here, or it is fed by a Python layer or from outside.
    """
    severity = None if _set_up_here(file) else "note"
    for layer in file.layers:
        name, kind = layer.message.python_param.module, layer.message.python_param.layer
        if layer.type != "Python" or not name or not kind:
            continue  # `missing-setting` tells what is not given
        module = _module(file, layer)
        if module.file is None:
            what = f"the Python module {name} is not installed here, nor in PYTHONPATH, nor beside the file"
            fix = "correct the name, or put its folder into PYTHONPATH"
            yield of_layer(layer, what, fix, "python_param.module", severity=severity)
        elif wrong := _wrong_with(Path(module.file), kind):
            yield of_layer(layer, wrong, "correct it there", "python_param.layer", severity=severity)


@rule("python-code", "note", why="Caffe imports and runs it when it builds the net, with all that you may do")
def python_code(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A Python layer: which module it runs, and which file that is here."""
    for layer in file.layers:
        name = layer.message.python_param.module
        if layer.type != "Python" or not name:
            continue
        module = _module(file, layer)
        if module.file is None:
            continue  # `python-module` tells
        if module.beside:
            what = f"the Python module {name} is {module.file}, which came with the prototxt"
            fix = "read it; run-caffe runs it with --allow-python-layers only"
        else:
            what, fix = f"the Python module {name} is {module.file}", "read it, if it is not yours"
        yield of_layer(layer, what, fix, "python_param.module")


def _module(file: Prototxt, layer: Layer) -> PythonModule:
    folders = dict.fromkeys([layer.path.parent, file.path.parent])
    return find_module(layer.message.python_param.module, tuple(folders))


def _set_up_here(file: Prototxt) -> bool:
    """Whether the file is meant to be run on this machine: data that it names is here, or its layers make it all."""
    if any(find(file, name) is not None for _, _, name, _ in sources(file)):
        return True
    heads = [layer for net in file.phases for layer in net.layers if not layer.message.bottom]
    return is_here(file) and all(one.type in LAYER_TYPES and one.type not in ("Input", "Python") for one in heads)


def _wrong_with(path: Path, kind: str) -> str | None:
    """Why Python would not find the class in a module's file, read as text; None where it would or nothing tells."""
    if path.suffix != ".py" or not path.is_file() or path.stat().st_size > _LARGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        return f"{path} is no Python: line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError, OSError):
        return None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
    return None if kind in names or names & _MAKES_NAMES else f"{path} has no class {kind}"
