"""Our variants mean what the published hand-written files mean, but for a written list of differences.

``originals.yaml`` has the list: each difference as ``gen-prototxt --compare`` prints it (``*`` for any text), the
originals it is in, how often in each, and why. The list is exact: nothing unlisted, nothing listed in vain.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from caffebench.generator.compare import compare
from caffebench.generator.meaning import load_prototxt

ROOT = Path(__file__).parents[2]
LIST: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "originals.yaml").read_text())
PAIRS: dict[str, list[str]] = LIST["variants"]
ENTRIES: list[dict[str, Any]] = LIST["differences"]


def concerns(entry: dict[str, Any], original: str) -> int:
    """How often a difference occurs in an original; 0 where the entry is not about it."""
    files = entry["in"]
    if files == "all" or original in files or any(original.startswith(one) for one in files if one.endswith("/")):
        return int(entry.get("times", 1))
    return 0


def matches(entry: dict[str, Any], text: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in entry["difference"].split("*"))
    return re.fullmatch(pattern, text) is not None


@pytest.mark.parametrize(("original", "variant"), [(o, v) for o, names in PAIRS.items() for v in names])
def test_only_listed_differences_and_all_of_them(shared: Path, original: str, variant: str) -> None:
    theirs = load_prototxt(shared / "caffenet-benchmark" / "prototxt" / original)
    ours = load_prototxt(ROOT / "prototxt" / f"{variant}.prototxt")
    found = [str(one) for one in compare(theirs, ours)]
    unlisted, occurring = [], Counter[int]()
    for text in found:
        entries = [i for i, e in enumerate(ENTRIES) if concerns(e, original) and matches(e, text)]
        assert len(entries) <= 1, f"listed twice: {text}"
        unlisted += [text] if not entries else []
        occurring.update(entries)
    assert unlisted == []
    listed = {i: times for i, e in enumerate(ENTRIES) if (times := concerns(e, original))}
    assert {ENTRIES[i]["difference"]: n for i, n in occurring.items()} == {
        ENTRIES[i]["difference"]: n for i, n in listed.items()
    }


def test_every_original_has_its_variant(shared: Path) -> None:
    folder = shared / "caffenet-benchmark" / "prototxt"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.prototxt")} == set(PAIRS)


def test_every_reason_is_theirs_or_ours() -> None:
    for entry in ENTRIES:
        assert entry["whose"] in ("theirs", "ours"), entry
        assert len(entry["reason"].split()) >= 5, entry
