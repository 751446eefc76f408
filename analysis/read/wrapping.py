"""What other programs put around the lines of a log, taken off again before the log is read.

Line numbers (``grep -n``), times (``kubectl logs --timestamps``, ``ts``, the journal), quotes (Docker's JSON files,
notebooks, exports of log servers), the tags of a saved web page, colours, signs at every line's end, lines that two
handlers wrote, that a terminal or a mail broke, or whose ends were lost. What tells who speaks (``[0]`` of MPI,
``train_1 |`` of Docker Compose) stays where it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING

from caffebench.analysis.read.lines import PREFIX, find_format

if TYPE_CHECKING:
    from caffebench.analysis.read.labels import Step

__all__ = ["SAMPLE", "find_wrapping", "without_controls"]

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
_PADDED = rb"(?m)^([IWEF]\d{4}[^\n]*?[^\s\]]) {8,}(?=\S)"
_TAG = rb"<!?/?[a-zA-Z][^<>\n]{0,500}>"
_NUMBER_END, _NUMBER_REST = re.compile(rb"[\d.eE+-]$"), re.compile(rb"[\d.#]|[eE][-+\d]|[-+]\d")
_RECORD = re.compile(rb"[IWEF](?:\d{4})?\d{4} \d\d:")
_BROKEN = re.compile(rb"(?m)^([IWEF]\d{4}[^\n]*)\n(?![IWEF]\d{4})(?=([^\n]+))")


def without_controls(data: bytes) -> bytes:
    """``data`` without colours and other control sequences of terminals, with plain line ends."""
    return re.sub(_CONTROLS, b"", data).replace(b"\r", b"\n")


def find_wrapping(data: bytes) -> tuple[Step, ...]:
    """What is to be done, in this order, to have the lines of the log that begins with ``data`` as Caffe wrote them."""
    data = data[:SAMPLE]
    steps: list[Step] = []
    for find in (_page, _spaces, _headings, _padding, _joined, _folds, _doubles):
        if (step := find(data)) is not None:
            steps.append(step)
            data = step(data)
    said = _said(data)
    if any(label for label, _ in said):
        from caffebench.analysis.read import labels  # which most logs do not need

        if (step := labels.quotes(data, said)) is not None:
            steps.append(step)
            said = _said(step(data))
        if (step := labels.labels([label for label, _ in said])) is not None:
            steps.append(step)
    if (step := _ends([rest for _, rest in said])) is not None:
        steps.append(step)
    return tuple(steps)


def _spaces(data: bytes) -> Step | None:
    """Of text from a page: the spaces at which no line may be broken."""
    return (lambda data: data.replace(b"\xc2\xa0", b" ")) if b"\xc2\xa0" in data else None


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
        return unescape(text).encode(errors="surrogateescape")

    return plain


def _padding(data: bytes) -> Step | None:
    """Of lines that a console broke into rows, and whose rows stand one behind the other: what fills the rows."""
    if data.find(b" " * 12, 0, _FEW) < 0:
        return None
    gaps = [(gap.end(1) - gap.start(), gap.end() - gap.start()) for gap in re.finditer(_PADDED, data)]
    row, count = max(Counter(end for _, end in gaps).items(), key=lambda one: one[1], default=(0, 0))
    if count < max(3, 0.9 * len(gaps)):
        return None
    width = max(start for start, end in gaps if end == row)

    def whole(line: bytes) -> bytes:
        if len(line) <= row or line[width:row].strip():
            return line
        return b"".join(line[at : at + width] for at in range(0, len(line), row))

    return lambda data: b"\n".join(map(whole, data.split(b"\n")))


def _joined(data: bytes) -> Step | None:
    """Of a text that has lost its line ends: they are set before each line of Caffe again."""
    longest = max(data[:_FEW].split(b"\n"), key=len)
    if len(longest) < 300:
        return None
    starts = [prefix.start() for prefix in islice(PREFIX.finditer(longest), _LINES)]
    if sum(longest[at - 1 : at] in (b" ", b"\t") for at in starts) < max(4, 0.8 * len(starts)):
        return None
    end = re.compile(rb"(?<=parameters:) |[ \t]+(?=" + PREFIX.pattern + rb")")
    return lambda data: end.sub(b"\n", data)


def _folds(data: bytes) -> Step | None:
    """Of lines of Caffe that are broken at one width, as by a terminal, or between words, as by a mail: the breaks."""
    text = data[-_FEW:]
    if text.count(b"\nI") > 0.95 * text.count(b"\n"):
        return None
    pairs: list[tuple[bytes, bytes]] = _BROKEN.findall(text)
    broken = [pair for pair in pairs if _is_rest(*pair)]
    width = max(map(len, text.split(b"\n"))) if len(broken) >= 5 else 0
    if width < 40:
        return None
    between = b""
    if sum(len(line) == width for line, _ in broken) < 0.95 * len(broken):
        between = b" "
        parted = sum(_says_more(*pair) for pair in broken)  # else lines of another program follow those of Caffe
        if 4 * parted < len(broken) or sum(_has_no_room(*pair, width) for pair in broken) < 0.8 * len(broken):
            return None

    def whole(data: bytes) -> bytes:
        found, last, inside = list[bytes](), b"", False
        for line in data.split(b"\n"):
            is_full = _has_no_room(last, line, width) if between else len(last) == width
            if inside and is_full and _is_rest(last, line):
                found[-1] += between + line
            else:
                found.append(line)
                inside = _RECORD.match(line) is not None or not between
            last = line
        return b"\n".join(found)

    return whole


def _is_rest(line: bytes, following: bytes) -> bool:
    """Whether the ``following`` line begins no line of Caffe, and no configuration."""
    return bool(following) and not _RECORD.match(following) and not line.rstrip().endswith(b"parameters:")


def _says_more(line: bytes, following: bytes) -> bool:
    """Whether a line of Caffe means something only together with the ``following`` one."""
    prefix = PREFIX.match(line)
    said = line[prefix.end() :] if prefix is not None else b""
    return find_format(said, True) is None and find_format(said + b" " + following, True) is not None


def _has_no_room(line: bytes, following: bytes, width: int) -> bool:
    """Whether the first word of the ``following`` line has no room in this one, and is not the rest of a number."""
    if _NUMBER_END.search(line) and _NUMBER_REST.match(following):
        return False
    return len(line) + 1 + len((following.split(None, 1) or [b""])[0]) > width


def _doubles(data: bytes) -> Step | None:
    """Of a log that says each line twice: one of both."""
    alike = [len(list(some)) for line, some in groupby(data[: _FEW // 16].split(b"\n")) if line]
    if len(alike) < 5 or sum(count % 2 for count in alike) > 0.05 * len(alike) + 1:
        return None
    return lambda data: re.sub(rb"(?m)^([^\n]+)\n\1$", rb"\1", data)


def _said(data: bytes) -> list[tuple[bytes, bytes]]:
    """Of the first lines of Caffe what stands before the prefix, and the rest; of five where nothing stands before."""
    said = list[tuple[bytes, bytes]]()
    for prefix in islice(PREFIX.finditer(data), _LINES):
        start, end = prefix.span()
        begin, stop = max(data.rfind(b"\n", 0, start) + 1, start - _LONG), data.find(b"\n", end, end + _LONG)
        said.append((data[begin:start], data[start : stop if stop >= 0 else end + _LONG]))
        if len(said) == 5 and not any(label for label, _ in said):
            break
    labelled = sum(bool(label) for label, _ in said) >= max(3, 0.8 * len(said))
    return said if labelled else [(b"", rest) for _, rest in said]


def _ends(lines: Sequence[bytes]) -> Step | None:
    """Of lines that all end in the same signs: these, as the ``\\n`` of a text that was printed with its escapes."""
    size = next((size for size in range(9, 0, -1) if len({line[-size:] for line in lines}) == 1), 0)
    if len(lines) < 5 or not size or re.fullmatch(rb"\s*(?:\\[nrt]|[^\w\s().:=])+", lines[0][-size:]) is None:
        return None
    end = re.escape(lines[0][-size:])
    return lambda data: re.sub(rb"(?m)" + end + rb"$", b"", data)
