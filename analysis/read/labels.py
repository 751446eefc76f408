"""What stands before each line of a log, and around it: how it is found and taken off; see ``wrapping``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

__all__ = ["Step", "labels", "quotes"]

_COUNTED = 20  # different numbers that never fall are no ranks, one behind the other
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


def quotes(data: bytes, said: Sequence[tuple[bytes, bytes]]) -> Step | None:
    """Of lines that are texts of JSON, CSV or Python: what stands around them, and the escapes in them.

    ``said`` are the first lines of Caffe in ``data``: what stands before the prefix, and the rest.
    """
    if 2 * sum(b"\\n" in rest for _, rest in said) > len(said):  # each text says where its lines end
        return lambda data: b"".join(_unescaped(one, _ESCAPED) for one in _QUOTED.finditer(data) if b"\\n" in one[0])
    before = [label[: quote.start()] for label, rest in said if (quote := _opening(label)) and quote[0] in rest]
    if len(before) < 0.9 * len(said):
        return None
    labelled = b"|".join(_pattern(shape, ()) for shape in _shapes(before))
    line = re.compile(rb"(?m)^(?:" + labelled + rb")" + _QUOTED.pattern + rb"[^\n]*$")
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


def labels(before: Sequence[bytes]) -> Step | None:
    """Of lines with a number or a time before each: these; all that is before each line where it tells no speakers.

    ``before`` is what stands before the first lines of Caffe.
    """
    shapes = _shapes(before)
    if not any(shape.changing for shape in shapes):
        return None
    speakers = Counter(one for shape in shapes for one in shape.speakers())
    if speakers.most_common(1)[0][1] >= 0.95 * speakers.total():
        line = re.compile(rb"(?m)^(?:" + b"|".join(_pattern(one, ()) for one in shapes) + b")")
        return lambda data: line.sub(b"", data)
    patterns = [_pattern(one, set(range(len(one.parts))) - one.changing) for one in shapes]
    line = re.compile(rb"(?m)^(?:" + b"|".join(patterns) + b")")
    return lambda data: line.sub(lambda match: b"".join(filter(None, match.groups())), data)
