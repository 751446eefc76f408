"""The results page says what the logs that are checked in say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_results_page_is_made_from_the_logs(tmp_path):
    command = [Path(sys.executable).parent / "merge-logs", ROOT / "logs", "--out", tmp_path, "--table"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "table.md").read_text()
    assert table.count("\n") == 2 + 12
    assert table in (ROOT / "docs" / "results.md").read_text()
