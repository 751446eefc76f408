"""Protobuf text format, as Caffe prints it into its logs, read without Caffe and without a schema.

A log may be cut in the middle, ten years old, or of a fork whose fields no installed Caffe knows: so nothing here
depends on field definitions, and what is unbalanced ends where the text ends.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

__all__ = ["Message", "first", "is_whole", "parse", "parts"]

Message = dict[str, list[Any]]
"""Field name -> its values in order; a value is str, int, float, bool or another ``Message``."""

_TOKEN = re.compile(
    r'(?P<name>\w+)\s*(?:(?P<open>:?\s*[{<])|:\s*(?:"(?P<text>(?:[^"\\\n]|\\.)*)"|(?P<word>[^\s{}<>"#]+)))'
    r"|(?P<close>[}>])"
)
_DEEPEST = 64  # levels; Caffe needs 6, and a hostile log shall not build a tower


def _scalar(word: str) -> Any:
    if word[0].isalpha() and word.lower() not in ("nan", "inf", "infinity"):
        return {"true": True, "false": False}.get(word, word)
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return float(word)
    except ValueError:
        return word


def parse(text: str) -> Message:
    """Read ``text`` into nested lists by field name; any text is taken, and what is no field is passed over.

    What it returns is not to be changed: sessions and runs that were configured alike get the same, and solvers that
    differ in little else have the same net in them.
    """
    return _read(text)[0]


def is_whole(text: str) -> bool:
    """Whether each message in ``text`` ends there, and none that began before."""
    return _read(text)[1]


@lru_cache(maxsize=64)
def _read(text: str) -> tuple[Message, bool]:
    root: Message = {}
    before, net, after = parts(text)
    if net and _fill(root, before) and is_whole(net):
        root.setdefault("net_param", []).append(parse(net))
        return root, _fill(root, after)
    root.clear()
    return root, _fill(root, text)


def parts(text: str) -> tuple[str, str, str]:
    """A solver as Caffe prints it, parted: before its ``net_param``, in it, behind it; without one all is before."""
    before, _, rest = text.partition("\nnet_param {\n")
    inner, end, after = rest.partition("\n}\n")
    return (before, inner, after) if end and not before.rstrip().endswith(":") else (text, "", "")


def _fill(root: Message, text: str) -> bool:
    """Put the fields of ``text`` into ``root``; whether each message in it ends, and none that began before."""
    stack = [root]
    too_deep = deepest = 0
    whole = True
    for name, opening, quoted, word, closing in _TOKEN.findall(text):
        if closing:
            if too_deep:
                too_deep -= 1
            elif len(stack) > 1:
                stack.pop()
            else:
                whole = False
        elif opening:
            deepest = max(deepest, len(stack))
            if too_deep or len(stack) > _DEEPEST:
                too_deep += 1
                continue
            inner: Message = {}
            stack[-1].setdefault(name, []).append(inner)
            stack.append(inner)
        elif not too_deep:
            stack[-1].setdefault(name, []).append(_scalar(word) if word else quoted)
    return whole and len(stack) == 1 and deepest < _DEEPEST - 1


def first(message: Message, *path: str) -> Any:
    """The first value in ``message`` at ``path``, names of nested fields; None where one of them is missing."""
    here: Any = message
    for name in path:
        values = here.get(name) if isinstance(here, dict) else None
        if not values:
            return None
        here = values[0]
    return here
