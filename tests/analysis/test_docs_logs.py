"""The page about logs says what the table of line formats says."""

from __future__ import annotations

import re
from pathlib import Path

from caffebench.analysis.read.lines import FORMATS

PAGE = Path(__file__).parents[2] / "docs" / "logs.md"


def test_every_kind_of_line_has_its_examples_and_each_is_recognised() -> None:
    rows = re.findall(r"^\| [^|]+ \| `(\w+)` \| `([^`]+)`.*\|$", PAGE.read_text(), re.M)
    assert {kind for kind, _ in rows} == {form.kind for form in FORMATS}
    for kind, example in rows:
        line = example.encode()
        matching = [form for form in FORMATS if any(word in line for word in form.words) and form.pattern.search(line)]
        assert matching, example
        assert matching[0].kind == kind, f"{example} is {matching[0].kind}"


def test_every_option_that_the_page_names_is_one() -> None:
    from caffebench.analysis.cli import main

    there = {name for param in main.params for name in param.opts}
    page = PAGE.read_text().replace("caffe train --solver=", "")
    named = set(re.findall(r"(?<!-)(--[a-z][a-z-]+)", page))
    assert named <= there, named - there
