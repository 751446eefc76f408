"""The rooms of the house: what may import what is in pyproject.toml; here is how deep it goes, and its page."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
LONGEST = 8
"""Imports in a row, from a command down."""


def test_no_chain_of_imports_in_the_analysis_is_long() -> None:
    graph = grimp.build_graph("caffebench.analysis", cache_dir=None, exclude_type_checking_imports=True)

    @functools.cache
    def longest(module: str) -> tuple[str, ...]:
        below = (longest(one) for one in graph.find_modules_directly_imported_by(module))
        return (module, *max(below, key=len, default=()))

    chain = max(map(longest, graph.modules), key=len)
    assert len(chain) - 1 <= LONGEST, " -> ".join(chain)


def test_the_page_draws_the_rooms_as_they_are() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts/draw-rooms", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
