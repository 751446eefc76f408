"""The rules and their examples in ``docs/lint.md``: ``python -m caffebench.generator.lint.page`` makes them.

The part of the page between its two marks is replaced; what is around it is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from caffebench.generator.lint import RULES

__all__ = ["Change", "changed", "examples", "page", "rules_part"]

Change = Sequence[Any]
_START, _END = "<!-- rules: made by python -m caffebench.generator.lint.page -->", "<!-- end of the rules -->"


def examples() -> dict[str, Any]:
    """``base``, and for each rule what it must find (``fires``) and what it must not (``quiet``)."""
    loaded: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "examples.yaml").read_text())
    return loaded


def changed(base: str, changes: Sequence[Change]) -> str:
    """The base with each ``[old, new]`` put in, everywhere or as often as a third value says."""
    for old, new, *times in changes:
        if old not in base:
            raise ValueError(f"{old!r} is not in the example's base")
        base = base.replace(old, new, times[0] if times else -1)
    return base


def rules_part() -> str:
    """The rules in Markdown: one line each, then each with its examples."""
    shown = examples()
    lines = ["| Rule | Severity | What it finds |", "| --- | --- | --- |"]
    lines += [f"| `{rule.id}` | {rule.severity} | {rule.doc.replace('``', '`')} |" for rule in RULES.values()]
    lines += ["", "### Examples", "", "The base of all of them:", "", *_code(shown["base"])]
    for rule in RULES.values():
        example = shown["rules"][rule.id]
        lines += ["", f"**`{rule.id}`** {rule.why[0].upper()}{rule.why[1:]}.", ""]
        beside = f", beside {' and '.join(example['also'])}" if "also" in example else ""
        named = f", as {example['name']}" if "name" in example else ""
        lines += [f"* found{named}{beside}: {_words(example['fires'])}"]
        lines += [f"* not found: {_words(example['quiet'])}"]
    return "\n".join(lines)


def _code(text: str) -> list[str]:
    return [f"    {line}".rstrip() for line in text.rstrip().splitlines()]


def _words(changes: Sequence[Change]) -> str:
    if all(old == new for old, new, *_ in changes):
        return "the base as it is"
    return "; ".join(_one(*change) for change in changes)


def _one(old: str, new: str, times: int = 0) -> str:
    where = " once" if times == 1 else ""
    # A line break matters behind a comment, and code in a line of Markdown has none.
    lines = [" ".join(line.split()) for line in new.strip().splitlines()]
    shown = " and in the next line ".join(f"`{line}`" for line in lines)
    old = " ".join(old.split())
    return f"`{old}` becomes {shown}{where}" if new else f"without `{old}`"


def page(text: str) -> str:
    """The whole page with its part on the rules made anew."""
    before, rest = text.split(_START)
    after = rest.split(_END)[1]
    return f"{before}{_START}\n\n{rules_part()}\n\n{_END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/lint.md")
    path.write_text(page(path.read_text()))
