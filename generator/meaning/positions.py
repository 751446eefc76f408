"""Where each field of a prototxt stands in its file: what protobuf's Python parser does not tell.

A text that ``google.protobuf.text_format`` has accepted is read once more, into a tree of fields with their
line numbers and values as written. Fields that the messages do not know (a fork's own) are in it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Node", "PrototxtSyntaxError", "read_positions", "unknown_fields"]

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      |(?P<token>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}<>\[\]:;,]|[^\s{}<>\[\]:;,\#"']+|.)""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z_]\w*|\[")
_CLOSING = {"{": "}", "<": ">", "[": "]"}


@dataclass(eq=False)
class Node:
    """One field as it stands in the file: its line (from 1) and its value as written, or its inner fields."""

    line: int
    text: str = ""
    fields: dict[str, list[Node]] = field(default_factory=dict)

    def all(self, name: str) -> list[Node]:
        """Every ``name`` right inside this field, in the file's order."""
        return self.fields.get(name, [])

    def at(self, path: str) -> Node:
        """The last field at a dotted ``path``, or the innermost field on the way to it that was written."""
        node = self
        for name in path.split("."):
            if not node.all(name):
                break
            node = node.all(name)[-1]
        return node

    def written(self) -> str:
        """This field's value in one line, with inner fields sorted by name (their order has no meaning)."""
        if not self.fields:
            return self.text
        inner = (
            f"{name}: {node.text}" if not node.fields else f"{name} {{ {node.written()} }}"
            for name, nodes in sorted(self.fields.items())
            for node in nodes
        )
        return " ".join(inner)


class PrototxtSyntaxError(ValueError):
    """Text that no parser of prototxt takes: the token where it stops making sense, with its line and column."""

    def __init__(self, what: str, line: int, column: int) -> None:
        """Keep the place beside the message."""
        super().__init__(what)
        self.line, self.column = line, column


class _Reader:
    """The tokens of a text, with the line of each."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, int]] = []
        self.columns: list[int] = []
        line, start = 1, 0
        for match in _TOKEN.finditer(text):
            if match["token"] is not None:
                self.tokens.append((match["token"], line))
                self.columns.append(match.start() - start + 1)
            elif "\n" in match[0]:
                line += match[0].count("\n")
                start = match.start() + match[0].rindex("\n") + 1
        self.tokens.append(("", line))
        self.columns.append(len(text) - start + 1)
        self.next = 0

    def refuse(self, what: str) -> None:
        """Raise for the token that is next."""
        raise PrototxtSyntaxError(what, self.tokens[self.next][1], self.columns[self.next])

    def take(self) -> tuple[str, int]:
        token = self.tokens[self.next]
        self.next = min(self.next + 1, len(self.tokens) - 1)
        return token

    def peek(self) -> str:
        return self.tokens[self.next][0]

    def message(self, node: Node, closing: str) -> None:
        while self.peek() not in (closing, ""):
            if self.peek() in (",", ";"):
                self.take()
                continue
            if not _NAME.fullmatch(self.peek()):
                self.refuse(f"{self.peek()!r} where the name of a field should be")
            name, line = self.take()
            if name == "[":  # an extension's name
                while self.peek() not in ("]", ""):
                    name += self.take()[0]
                name += self.take()[0]
            if self.peek() == ":":
                self.take()
                if self.peek() in ("}", ">", "]", ",", ";", ":", ""):
                    self.refuse(f"no value for {name}")
            elif self.peek() not in ("{", "<", "["):
                self.refuse(f"no ':' between {name} and its value")
            if self.peek() == "[":
                self.take()
                while self.peek() not in ("]", ""):
                    node.fields.setdefault(name, []).append(self.value(line))
                    if self.peek() == ",":
                        self.take()
                self.take()
            else:
                node.fields.setdefault(name, []).append(self.value(line))
        self.take()

    def value(self, line: int) -> Node:
        first, at = self.take()
        node = Node(max(line, at) if first not in _CLOSING else line, first)
        if first in _CLOSING:
            node.text = ""
            self.message(node, _CLOSING[first])
        elif first == "-":
            node.text += self.take()[0]
        elif first[:1] in ("'", '"'):
            while self.peek()[:1] in ("'", '"'):
                node.text += " " + self.take()[0]
        return node


def read_positions(text: str) -> Node:
    """The tree of fields of a whole prototxt; its root stands for the file.

    Raises ``PrototxtSyntaxError`` at the first token that can be in no prototxt.
    """
    root = Node(1)
    _Reader(text).message(root, "")
    return root


def unknown_fields(node: Node, descriptor: Any, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every field below ``node`` that a message of type ``descriptor`` has not, as (dotted path, field)."""
    for name, nodes in node.fields.items():
        known = descriptor.fields_by_name.get(name)
        for inner in nodes:
            if known is None:
                yield path + name, inner
            elif known.message_type is not None:
                yield from unknown_fields(inner, known.message_type, f"{path}{name}.")
