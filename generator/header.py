"""The ``# caffebench:`` lines at the top of a generated file: what Caffe's own format cannot say.

Caffe ignores them as comments. Each is ``# caffebench: key: value``; what follows the mark is YAML, and all the
lines together are one mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from caffebench.common.errors import InputError

__all__ = ["MARK", "format_header", "read_header"]

MARK = "# caffebench: "


def read_header(text: str) -> dict[str, Any]:
    """The header of a prototxt's text; empty for a file that was not generated here.

    Raises ``InputError`` where a header line was edited into something that is no ``key: value``.
    """
    lines = [line[len(MARK) :] for line in text.splitlines() if line.startswith(MARK)]
    try:
        header = yaml.safe_load("\n".join(lines))
    except yaml.YAMLError as error:
        raise InputError(f"a '{MARK.strip()}' line is not 'key: value': {' '.join(str(error).split())}") from error
    if header is None:
        return {}
    if not isinstance(header, dict):
        raise InputError(f"the '{MARK.strip()}' lines must each be 'key: value', not {lines[0]!r}")
    return header


def format_header(header: Mapping[str, Any]) -> str:
    """The lines for ``header``, a line a key in the order given, each ending in a newline."""
    lines = []
    for key, value in header.items():
        # Only the outermost mapping is spread over lines: nested values stay on their key's line.
        style = '"' if isinstance(value, str) and len(value.splitlines()) > 1 else None
        flow = yaml.safe_dump(
            value, default_style=style, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True
        )
        value_text = flow.removesuffix("\n").removesuffix("\n...")  # YAML ends a bare scalar with a mark of its own
        lines.append(f"{MARK}{key}: {value_text}\n")
    return "".join(lines)
