"""CONTRIBUTING.md names files and targets that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
ROOMS = "analysis|common|datasets|docs|engine|generator|launcher|prototxt|scripts|templates|tests"


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(rf"(?<![\w.])((?:{ROOMS})(?:/[\w*.-]+)+)", PAGE)
    assert len(named) > 15
    for name in named:
        # NAME stands for the one to be added.
        assert list(ROOT.glob(name.rstrip(".").replace("NAME", "*"))), name


def test_every_target_that_it_names_is_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z][\w-]*)", PAGE))
    assert {"setup", "check", "test"} <= named
    assert named - targets == set()


def test_what_looks_at_commits_are_the_tools_of_the_environment() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    programs = {hook["entry"].split()[0] for hook in repository["hooks"]}
    assert programs == {".venv/bin/ruff", "make"}


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")), ids=lambda path: path.stem)
def test_an_issue_template_has_what_is_needed_to_be_offered(path: Path) -> None:
    _, head, body = path.read_text().split("---\n", 2)
    assert set(yaml.safe_load(head)) == {"name", "about"}
    assert "**Versions**" in body or path.stem == "wish"


def test_the_lock_pins_every_version_and_names_no_address() -> None:
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.lstrip().startswith("#")
    ]
    assert len(lines) > 80
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[^\s;]+( ; .+)?", line)] == []
    assert "://" not in "".join(lines)
