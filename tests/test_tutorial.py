"""The page docs/tutorial.md: exactly its commands, on real photographs, in order, and what they print."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_readme import ROOT, gist

SECONDS = 180
pytestmark = pytest.mark.caffe


def test_five_commands_lead_from_photographs_to_a_table(tmp_path: Path) -> None:
    block = (ROOT / "docs" / "tutorial.md").read_text().split("```console\n")[1].split("```")[0]
    commands: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        else:
            commands[-1][1].append(line)
    assert [command.split()[0] for command, _ in commands] == [
        *("scripts/photographs", "make-lmdb", "gen-prototxt", "run-caffe", "merge-logs")
    ]
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    for command, shown in commands:
        done = subprocess.run(
            ["sh", "-c", f"exec 2>&1; {command}"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        printed = {gist(line) for line in done.stdout.splitlines()}
        assert [line for line in shown if line.strip(" .") and gist(line) not in printed] == [], done.stdout
    # Of processor time, which other programs on the machine do not lengthen.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < SECONDS
    assert not list(tmp_path.glob("*.yaml"))
    table = (tmp_path / "results" / "table.md").read_text()
    assert len([line for line in table.splitlines() if line.startswith(("| After", "| Before"))]) == 4
