"""A small part of the soak: so that its script works, and says what is wrong."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.caffe, pytest.mark.slow]
ROOT = Path(__file__).parent.parent.parent


def test_a_few_kills(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- soak: begin -->\nold\n<!-- soak: end -->\nafter\n")
    script = ROOT / "scripts/soak"
    command = [sys.executable, script, "--kinds", "workers", "--kills", "2", "--flips", "5", "--write", page]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("before\n<!-- soak: begin -->\n\n| kind of run | start |")
    assert text.endswith("<!-- soak: end -->\nafter\n")
    assert "| 2 | 3 |" in text, "kills and sessions"
    assert "| `.json` | 9 | 9 | 0 |" in text


def test_a_difference_is_seen(tmp_path: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--resume caffe`` a resumed run is another one."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    kills, kinds = importlib.import_module("soaking.kills"), importlib.import_module("soaking.kinds")
    (tmp_path / "data").symlink_to(digits_root)
    plain = kills._command
    monkeypatch.setattr(kills, "_command", lambda trial, name: [*plain(trial, name), "--resume", "caffe"])
    monkeypatch.setattr(kills, "_targets", lambda *_: ["start", "training"])
    trial = kills.run_trial(kinds.KINDS[3], tmp_path, 2, random.Random(1))
    assert "adagrad0_iter_1000.caffemodel is another file" in trial.wrong
    assert any("figures differ" in what for what in trial.wrong)
