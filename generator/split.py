"""A self-contained solver taken apart: the solver, and its nets in files of their own, for tools that want them so."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

__all__ = ["split"]

_BLOCK = re.compile(r"^(net|train_net|test_net)_param \{\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)


def split(texts: Mapping[str, str], out: Path) -> dict[str, str]:
    """Each file as two or more: ``NAME`` says ``net: "<out>/NAME.net.prototxt"``, and that file has the net.

    Caffe looks for nets from the working folder, as ``out`` is meant.
    """
    made = {}
    for name, text in texts.items():
        tests = 0

        def take(found: re.Match[str], name: str = name) -> str:
            nonlocal tests
            kind = found[1].partition("_")[0]
            tests += kind == "test"
            part = f"{name}.{kind}{tests if kind == 'test' and tests > 1 else ''}"
            made[part] = textwrap.dedent(found[2])
            return f'{found[1]}: "{out / part}.prototxt"\n'

        made[name] = _BLOCK.sub(take, text)
    return made
