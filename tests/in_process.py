"""The commands as a user calls them, in the test's own process: where another process is not what is tried."""

from __future__ import annotations

import os
import subprocess
from importlib import import_module
from pathlib import Path

from click.testing import CliRunner

ROOMS = {"gen-prototxt": "generator", "make-lmdb": "datasets", "merge-logs": "analysis", "run-caffe": "launcher"}


def run(command: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run it with ``arguments`` in the folder ``cwd``; an error that is none of its own is raised."""
    main, words, before = import_module(f"caffebench.{ROOMS[command]}.cli").main, [*map(str, arguments)], Path.cwd()
    os.chdir(cwd or before)
    try:
        done = CliRunner().invoke(main, words)
    finally:
        os.chdir(before)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess([command, *words], done.exit_code, done.stdout, done.stderr)
