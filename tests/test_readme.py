"""Every command in the README runs, and prints what the README says that it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# `make test` is what runs this file, and .ci/run is what runs `make test`: see test_ci_runs_the_test_command.
RUNS_US = "make test"


def sessions() -> list[list[tuple[str, list[str]]]]:
    """The README's console blocks, each a list of commands with the lines that they are shown to print."""
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    found = []
    for block in blocks:
        commands: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        found.append(commands)
    return found


def gist(line: str) -> str:
    """A line without what differs from run to run: figures, folders and the drawing of tables."""
    line = re.sub(r"\S*/(?=[\w.]+)", "", line)
    line = re.sub(r"[-+]?\d[\d.,:]*", "#", line)
    return " ".join(re.sub(r"[*|\u2500-\u257f-]+", " ", line).split())


def test_there_is_something_to_run():
    shown = [command for block in sessions() for command, _ in block]
    assert [command for command in shown if command.startswith("make ")] == ["make demo", RUNS_US]
    for name in ("install-caffe", "make-lmdb", "gen-prototxt", "run-caffe", "merge-logs"):
        assert any(command.startswith(name) for command in shown)


def test_ci_runs_the_test_command():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == f"exec {RUNS_US}"


def empty_environment(folder: Path) -> Path:
    """The folder of the programs of a new virtual environment."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    return folder / "venv" / "bin"


@pytest.mark.caffe
@pytest.mark.wheel
@pytest.mark.parametrize("block", sessions(), ids=lambda block: block[0][0])
def test_the_readme_is_true(block, tmp_path, request):
    environment = dict(os.environ, DEMO=str(tmp_path / "demo"), VENV=sys.prefix)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    folder = tmp_path
    if block[0][0].startswith("make "):
        folder = ROOT
    elif block[0][0].startswith("pip "):
        # From a checkout of its own into an environment of its own.
        folder = request.getfixturevalue("clone")
        environment |= request.getfixturevalue("without_index")
        environment["PATH"] = f"{empty_environment(tmp_path)}{os.pathsep}{os.environ['PATH']}"
    for command, shown in block:
        if command == RUNS_US:
            continue
        done = subprocess.run(
            ["sh", "-c", f"exec 2>&1; {command}"], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        printed = {gist(line) for line in done.stdout.splitlines()}
        assert [line for line in shown if line.strip(" .…") and gist(line) not in printed] == [], done.stdout
