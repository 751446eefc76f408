"""The rooms of the house: what may import what is in pyproject.toml; here is how deep it goes, and its page."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("common", "engine", "datasets", "generator", "launcher", "analysis")
LONGEST = 8
"""Imports in a row within a room, from a command down. A package's ``__init__`` that hands names on is no step."""


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> grimp.ImportGraph:
    """Who imports whom at run time, read from the tree of links; the modules of this process stay as they are."""
    subprocess.run([ROOT / "scripts" / "link-rooms"], check=True)
    monkeypatch.delitem(sys.modules, "caffebench", raising=False)
    monkeypatch.syspath_prepend(ROOT / ".cache" / "tree")
    return grimp.build_graph("caffebench", cache_dir=None, exclude_type_checking_imports=True)


def test_no_chain_of_imports_in_a_room_is_long(graph: grimp.ImportGraph) -> None:
    for room in ROOMS:
        modules = {one for one in graph.modules if f"{one}.".startswith(f"caffebench.{room}.")}

        @functools.cache
        def longest(module: str, room: frozenset[str] = frozenset(modules)) -> tuple[str, ...]:
            below = (longest(one, room) for one in graph.find_modules_directly_imported_by(module) & room)
            return (() if graph.find_children(module) else (module,)) + max(below, key=len, default=())

        chain = max(map(longest, modules), key=len)
        assert len(chain) - 1 <= LONGEST, " -> ".join(chain)


def test_the_page_draws_the_rooms_as_they_are() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts/draw-rooms", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
