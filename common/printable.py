"""Text from strangers - names of files, lines of logs, fields of headers - made fit for where it is shown.

A log may hold what moves a terminal's cursor or starts a formula in a spreadsheet: nothing of it is to work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["csv_text", "printable", "shortened"]


def printable(text: str) -> str:
    r"""``text`` on one line, with whatever is not printable written as ``\x1b`` or ``\u202e``.

    Also what stands in Python for bytes of a file name that are not UTF-8; such text cannot even be encoded.
    """
    if text.isprintable():
        return text
    shown = " ".join(text.split("\n"))
    return shown if shown.isprintable() else "".join(map(_shown, shown))


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    if "\udc80" <= letter <= "\udcff":  # a byte that is not UTF-8, as os.fsdecode gives it
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode() if letter != "\t" else " "


_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?$|[-+]?(?:nan|inf)$")


def csv_text(text: str) -> str:
    """``text`` as a cell of a CSV file: what a spreadsheet would take for a formula gets an apostrophe in front.

    Such begin with ``= + - @``, a tab or a carriage return. Numbers stay numbers; surrogates become printable.
    """
    if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not _NUMBER.match(text):
        text = f"'{text}"
    return text.encode(errors="backslashreplace").decode()


SHOWN = 4
"""Names that are shown; of more it is said that there are more."""


def shortened(names: Sequence[str]) -> str:
    """The first of ``names``, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
