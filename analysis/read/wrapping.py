"""What other programs put around the lines of a log, taken off again before the log is read.

Line numbers (``grep -n``), times (``kubectl logs --timestamps``, ``ts``, the journal), quotes (Docker's JSON files,
notebooks, exports of log servers), the tags of a saved web page, colours, folds at the width of a terminal, and lines
that two handlers wrote. What tells who speaks (``[0]`` of MPI, ``train_1 |`` of Docker Compose) stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby, islice

from caffebench.analysis.read.lines import PREFIX

__all__ = ["SAMPLE", "Step", "find_wrapping", "without_controls"]

# Patterns are compiled where they are needed: most logs need none.
_CONTROLS = rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]{0,200}(?:\x07|\x1b\\)|[()][0AB]|[=>78])|\x0f|\r(?=\n)"
SAMPLE = 1 << 18
"""Bytes at the beginning of a log that tell how it is wrapped."""
_FEW = 1 << 16  # bytes that are enough for what looks at every line
_LINES = 400  # lines of Caffe that are looked at there
_LONG = 2000  # bytes before and behind its prefix that are looked at
_HEADING = rb"(?m)^==> [^\n]{1,300} <==$"  # of head and tail
_PAGE = rb"(?i)<(?:br|pre|td|div|p)\b[^<>\n]*>"
_LINE_END = rb"(?i)(?:<br[^<>\n]*>|</(?:p|div|tr|li|pre)>)(?!\r?\n)"
_TAG = rb"<!?/?[a-zA-Z][^<>\n]{0,500}>"
Step = Callable[[bytes], bytes]
"""Some whole lines of a log -> the same without one kind of what was put around them."""


def without_controls(data: bytes) -> bytes:
    """``data`` without colours and other control sequences of terminals, with plain spaces and line ends."""
    return re.sub(_CONTROLS, b"", data).replace(b"\r", b"\n").replace(b"\xc2\xa0", b" ")


def find_wrapping(data: bytes) -> tuple[Step, ...]:
    """What is to be done, in this order, to have the lines of the log that begins with ``data`` as Caffe wrote them."""
    data = data[:SAMPLE]
    steps = list[Step]()
    for find in (_headings, _page, _folds, _doubles):
        if (step := find(data)) is not None:
            steps.append(step)
            data = step(data)
    if said := _said(data):
        from caffebench.analysis.read import labels  # which most logs do not need

        if (step := labels.quotes(data, said)) is not None:
            steps.append(step)
            said = _said(step(data))
        if (step := labels.labels([label for label, _ in said])) is not None:
            steps.append(step)
    return tuple(steps)


def _headings(data: bytes) -> Step | None:
    """Of several files shown one after the other: the lines with their names."""
    if data.find(b"==> ", 0, _FEW) < 0 or re.search(_HEADING, data) is None:
        return None
    return lambda data: re.sub(_HEADING, b"", data)


def _page(data: bytes) -> Step | None:
    """Of a web page: its tags and entities."""
    if (data.find(b"</", 0, _FEW) < 0 and data.find(b"<br", 0, _FEW) < 0) or re.search(_PAGE, data) is None:
        return None
    from html import unescape

    def plain(data: bytes) -> bytes:
        text = re.sub(_TAG, b"", re.sub(_LINE_END, b"\n", data)).decode(errors="surrogateescape")
        return unescape(text).encode(errors="surrogateescape").replace(b"\xc2\xa0", b" ")

    return plain


def _folds(data: bytes) -> Step | None:
    """Of lines of Caffe that all end at one width, each with its rest in the next line: the line ends in them."""
    lines = data[-_FEW:].split(b"\n")[1:]  # the first of them is cut
    lengths = list(map(len, lines))
    width = max(lengths, default=0)
    if width < 40 or lengths.count(width) < 5:
        return None
    full = [k for k, length in enumerate(lengths[:-1]) if length == width]
    full = [k for k in full[:: len(full) // 40 + 1] if PREFIX.search(lines[k])]
    if len(full) < 5 or sum(PREFIX.search(lines[k + 1]) is None for k in full) < 0.8 * len(full):
        return None

    def unfolded(data: bytes) -> bytes:
        whole, is_full = list[bytes](), False
        for line in data.split(b"\n"):
            if is_full and PREFIX.search(line) is None:
                whole[-1] += line
            else:
                whole.append(line)
            is_full = len(line) == width
        return b"\n".join(whole)

    return unfolded


def _doubles(data: bytes) -> Step | None:
    """Of a log that says each line twice: one of both."""
    alike = [len(list(some)) for line, some in groupby(data[: _FEW // 4].split(b"\n")) if line]
    if len(alike) < 5 or sum(count % 2 for count in alike) > 0.05 * len(alike) + 1:
        return None
    return lambda data: re.sub(rb"(?m)^([^\n]+)\n\1$", rb"\1", data)


def _said(data: bytes) -> list[tuple[bytes, bytes]]:
    """Of the first lines of Caffe what stands before the prefix, and the rest; none where nothing stands before."""
    said = list[tuple[bytes, bytes]]()
    for prefix in islice(PREFIX.finditer(data), _LINES):
        start, end = prefix.span()
        begin = max(data.rfind(b"\n", 0, start) + 1, start - _LONG)
        said.append((data[begin:start], data[start : end + _LONG].split(b"\n", 1)[0]))
        if len(said) == 5 and not any(label for label, _ in said):
            return []
    return said if sum(bool(label) for label, _ in said) >= max(3, 0.8 * len(said)) else []
