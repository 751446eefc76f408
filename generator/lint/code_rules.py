"""The rule on code that a prototxt has run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caffebench.engine.pythonlayers import find_module
from caffebench.generator.lint.registry import Hit, of_layer, rule
from caffebench.generator.meaning import Prototxt


@rule("python-code", "note", why="Caffe imports and runs it when it builds the net, with all that you may do")
def python_code(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A Python layer: which module it runs, and which file that is here."""
    for layer in file.layers:
        name = layer.message.python_param.module
        if layer.type != "Python" or not name:
            continue
        module = find_module(name, tuple(dict.fromkeys([layer.path.parent, file.path.parent])))
        if module.file is None:
            what = f"the Python module {name}, which is not installed here, nor in PYTHONPATH, nor beside the file"
            fix = "put its folder into PYTHONPATH; run-caffe refuses the file without"
        elif module.beside:
            what = f"the Python module {name} is {module.file}, which came with the prototxt"
            fix = "read it; run-caffe runs it with --allow-python-layers only"
        else:
            what, fix = f"the Python module {name} is {module.file}", "read it, if it is not yours"
        yield of_layer(layer, what, fix, "python_param.module")
