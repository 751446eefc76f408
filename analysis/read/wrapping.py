"""What other programs put around the lines of a log, taken off again before the log is read.

Line numbers (``grep -n``), times (``kubectl logs --timestamps``, ``ts``, the journal), quotes (Docker's JSON files,
notebooks, exports of log servers), the tags of a saved web page, colours, folds at the width of a terminal, and lines
that two handlers wrote. What tells who speaks (``[0]`` of MPI, ``train_1 |`` of Docker Compose) stays where it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice, pairwise

from caffebench.analysis.read.lines import PREFIX

__all__ = ["SAMPLE", "Step", "find_wrapping", "without_controls"]

_CONTROLS = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]{0,200}(?:\x07|\x1b\\)|[()][0AB]|[=>78])|\x0f|\r(?=\n)"
)
SAMPLE = 1 << 18
"""Bytes at the beginning of a log that tell how it is wrapped."""
_FEW = 1 << 16  # bytes that are enough for what looks at every line
_LINES = 400  # lines of Caffe that are looked at there
_LONG = 2000  # bytes before and behind its prefix that are looked at
_COUNTED = 20  # different numbers that never fall are no ranks, one behind the other
_HEADING = re.compile(rb"(?m)^==> [^\n]{1,300} <==$")  # of head and tail
_PAGE = re.compile(rb"(?i)<(?:br|pre|td|div|p)\b[^<>\n]*>")
_LINE_END = re.compile(rb"(?i)(?:<br[^<>\n]*>|</(?:p|div|tr|li|pre)>)(?!\r?\n)")
_TAG = re.compile(rb"<!?/?[a-zA-Z][^<>\n]{0,500}>")
_TIME = (
    rb"(?:(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.](?:\d\d?|[A-Z][a-z]{2})[-/.]\d{2,4}|"
    rb"(?:[A-Z][a-z]{2},? +)?[A-Z][a-z]{2} +\d\d?(?:,? +\d{4})?)[T :,_]+)?"
    rb"\d\d?:\d\d(?::\d\d)?(?:[.,]\d+)?(?: ?[AP]M)?(?:Z| ?[+-]\d\d:?\d\d| [A-Z]{3,4})?(?: (?:19|20)\d\d)?|"
    rb"\d{9,10}\.\d+|\d{13}"
)
_NUMBER = re.compile(rb"(" + _TIME + rb"|\d+(?:\.\d+)?)")
_IS_TIME = re.compile(_TIME)
_QUOTED = re.compile(rb"""(?:"((?:[^"\\\n]|\\.|""(?!\s*[,\n]))*)"|'((?:[^'\\\n]|\\.)*)')""")
_QUOTE = re.compile(_QUOTED.pattern + rb"|[\"']")
_ESCAPED = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))")
_DOUBLED = re.compile(rb'"()()(")')  # in CSV
_NAMED = {b"n": b"\n", b"t": b"\t", b"r": b"\n"}

Step = Callable[[bytes], bytes]
"""Some whole lines of a log -> the same without one kind of what was put around them."""


def without_controls(data: bytes) -> bytes:
    """``data`` without colours and other control sequences of terminals, with plain spaces and line ends."""
    return _CONTROLS.sub(b"", data).replace(b"\r", b"\n").replace(b"\xc2\xa0", b" ")


def find_wrapping(data: bytes) -> tuple[Step, ...]:
    """What is to be done, in this order, to have the lines of the log that begins with ``data`` as Caffe wrote them."""
    data = data[:SAMPLE]
    steps = list[Step]()
    for find in (_headings, _page, _folds, _doubles, _quotes, _labels):
        if (step := find(data)) is not None:
            steps.append(step)
            data = step(data)
    return tuple(steps)


def _headings(data: bytes) -> Step | None:
    """Of several files shown one after the other: the lines with their names."""
    if data.find(b"==> ", 0, _FEW) < 0 or _HEADING.search(data) is None:
        return None
    return lambda data: _HEADING.sub(b"", data)


def _page(data: bytes) -> Step | None:
    """Of a web page: its tags and entities."""
    if (data.find(b"</", 0, _FEW) < 0 and data.find(b"<br", 0, _FEW) < 0) or _PAGE.search(data) is None:
        return None
    from html import unescape

    def plain(data: bytes) -> bytes:
        text = _TAG.sub(b"", _LINE_END.sub(b"\n", data)).decode(errors="surrogateescape")
        return unescape(text).encode(errors="surrogateescape").replace(b"\xc2\xa0", b" ")

    return plain


def _folds(data: bytes) -> Step | None:
    """Of lines of Caffe that all end at one width, each with its rest in the next line: the line ends in them."""
    lines = data[-_FEW:].split(b"\n")[1:]  # the first of them is cut
    lengths = list(map(len, lines))
    width = max(lengths, default=0)
    if width < 40 or lengths.count(width) < 5:
        return None
    full = [k for k, line in enumerate(lines[:-1]) if len(line) == width and PREFIX.search(line)]
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


def _quotes(data: bytes) -> Step | None:
    """Of lines that are texts of JSON, CSV or Python: what stands around them, and the escapes in them."""
    said = _said(data)
    if said and 2 * sum(b"\\n" in rest for _, rest in said) > len(said):  # each text says where its lines end
        return lambda data: b"".join(_unescaped(one, _ESCAPED) for one in _QUOTED.finditer(data) if b"\\n" in one[0])
    before = [label[: quote.start()] for label, rest in said if (quote := _opening(label)) and quote[0] in rest]
    if not said or len(before) < 0.9 * len(said):
        return None
    labels = b"|".join(_pattern(shape, ()) for shape in _shapes(before))
    line = re.compile(rb"(?m)^(?:" + labels + rb")" + _QUOTED.pattern + rb"[^\n]*$")
    escapes = _DOUBLED if any(_DOUBLED.search(one[1] or b"") for one in line.finditer(data)) else _ESCAPED
    return lambda data: b"".join(_unescaped(one, escapes) + b"\n" for one in line.finditer(data))


def _opening(label: bytes) -> re.Match[bytes] | None:
    """The quote in ``label`` that is not closed there."""
    found = list(_QUOTE.finditer(label))
    return found[-1] if found and len(found[-1][0]) == 1 else None


def _unescaped(quoted: re.Match[bytes], escapes: re.Pattern[bytes]) -> bytes:
    def plain(escape: re.Match[bytes]) -> bytes:
        code = escape[1] or escape[2]
        return chr(int(code, 16)).encode(errors="replace") if code else _NAMED.get(escape[3], escape[3])

    return escapes.sub(plain, quoted[1] if quoted[1] is not None else quoted[2])


@dataclass(frozen=True)
class _Shape:
    """Labels that are alike but for their numbers and times."""

    parts: list[bytes]
    """Of the first of them: text, number, text, ..., text."""
    numbers: list[list[bytes]]
    """Of each of them."""

    @cached_property
    def changing(self) -> set[int]:
        """Places of the parts that count lines, or say a time."""
        columns = enumerate(zip(*self.numbers, strict=True))
        return {2 * k + 1 for k, some in columns if _IS_TIME.fullmatch(some[0]) or _rises(some)}

    def speakers(self) -> list[tuple[bytes, ...]]:
        """What is left of each label without these."""
        texts, kept = self.parts[::2], [k for k in range(len(self.parts) // 2) if 2 * k + 1 not in self.changing]
        return [(*texts, *(row[k] for k in kept)) for row in self.numbers]


def _shapes(labels: Sequence[bytes]) -> list[_Shape]:
    """The shapes of ``labels``; not those of a few of them, which may be lines that others ran into."""
    found: dict[tuple[object, ...], _Shape] = {}
    for label in labels:
        parts = _NUMBER.split(label)
        texts = [tuple(one.replace(b"-", b":").split()) for one in parts[::2]]
        key = (*texts, *(_IS_TIME.fullmatch(one) is None for one in parts[1::2]))
        found.setdefault(key, _Shape(parts, [])).numbers.append(parts[1::2])
    return [one for one in found.values() if len(one.numbers) >= max(3, 0.02 * len(labels))]


def _rises(column: Sequence[bytes]) -> bool:
    """Whether these numbers count lines, or seconds: they never fall, and mostly rise."""
    numbers = [float(one) for one in column]
    steps = [after - before for before, after in pairwise(numbers)]
    rises = sum(step > 0 for step in steps)
    return min(steps) >= 0 and (2 * rises > len(steps) or rises >= _COUNTED)


def _pattern(shape: _Shape, kept: Collection[int]) -> bytes:
    """Finds labels of ``shape``; the parts at the places ``kept`` are its groups."""
    found = list[bytes]()
    for place, part in enumerate(shape.parts):
        if place % 2:
            one = rb"(?:" + _TIME + rb")" if _IS_TIME.fullmatch(part) else rb"\d+(?:\.\d+)?"
        else:
            text = part.rstrip(b" \t")
            one = rb"[ \t]*".join(re.escape(word) for word in re.split(rb"[ \t]+", text))
            if place and text[:1] in (b":", b"-"):  # around what it finds grep puts a dash
                one = b"[:-]" + one.lstrip(b"\\")[1:]
            # What a line itself is indented by stays.
            one += rb"[ \t]{0,%d}" % (len(part) - len(text)) if place == len(shape.parts) - 1 else rb"[ \t]*"
        found.append(b"(" + one + b")" if place in kept else one)
    return b"".join(found)


def _labels(data: bytes) -> Step | None:
    """Of lines with a number or a time before each: these; all that is before each line where it tells no speakers."""
    shapes = _shapes([label for label, _ in _said(data)])
    if not any(shape.changing for shape in shapes):
        return None
    speakers = Counter(one for shape in shapes for one in shape.speakers())
    if speakers.most_common(1)[0][1] >= 0.95 * speakers.total():
        labels = re.compile(rb"(?m)^(?:" + b"|".join(_pattern(one, ()) for one in shapes) + b")")
        return lambda data: labels.sub(b"", data)
    patterns = [_pattern(one, set(range(len(one.parts))) - one.changing) for one in shapes]
    labels = re.compile(rb"(?m)^(?:" + b"|".join(patterns) + b")")
    return lambda data: labels.sub(lambda match: b"".join(filter(None, match.groups())), data)
