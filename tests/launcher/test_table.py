"""The live table at the widths that terminals have, and how much is shown besides."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from caffebench.launcher.show.row import Row
from caffebench.launcher.show.table import live_table

NAMES = ("googlenet_bn_after_lsuv_seed1", "googlenet_bn_after_lsuv_seed2", "bs128", "a" * 60 + "_seed3")


def rows() -> list[Row]:
    """Runs in every state, with the widest figures that there are."""
    marks = deque([(0.0, 100_000), (20.0, 100_500)])
    states = ("training", "waiting", "done", "not_converged")
    return [
        Row(name, 450_000, state, 123_456, 6.907, 0.4712, deque(marks))
        for name, state in zip(NAMES, states, strict=True)
    ]


def drawn(width: int, runs: list[Row], caption: str = "") -> str:
    out = io.StringIO()
    Console(width=width, file=out, force_terminal=True, color_system="truecolor").print(
        live_table(runs, width, caption)
    )
    return out.getvalue()


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).rstrip("\n").split("\n")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200, 300])
def test_a_run_is_one_line_with_what_matters_at_every_width(width: int) -> None:
    lines = plain(drawn(width, rows()))
    assert len(lines) == 1 + len(NAMES)
    assert max(map(len, (line.rstrip() for line in lines))) <= width
    assert lines[0].split()[0] == "run"
    for name in ("iteration", "loss", "accuracy", "left"):
        assert name in lines[0]
    for line, name in zip(lines[1:3], NAMES, strict=False):
        shown = line.split()[0]
        assert shown == name if width >= 80 else shown[:5] == name[:5], line
        assert shown.endswith(name[-1])
        assert re.search(r"123456/450000 +6\.907 +0\.4712", line), line
    assert "3 h 37 min" in lines[1]
    for line, state in zip(lines[1:], ("", "waiting", "done", "not converged"), strict=True):
        assert state in line


def test_two_hundred_columns_are_used() -> None:
    wide, usual = (max(map(len, plain(drawn(width, rows()[:3])))) for width in (200, 120))
    assert wide > 180
    assert usual > 110


def test_nothing_is_red_that_did_not_fail() -> None:
    *fine, failed = rows()
    red = re.compile(r"\x1b\[(?:[0-9;]*;)?31m|38;2;(?:1[5-9]\d|2\d\d);\d{1,2};\d{1,3}m")
    assert not red.search(drawn(200, fine, "GPU 0 87 %"))
    assert red.search(drawn(200, [failed]))


def screen(bench: Any, columns: int, *arguments: object) -> str:
    """What run-caffe writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [Path(sys.executable).parent / "run-caffe", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    child = subprocess.Popen(
        list(map(str, command)),
        cwd=bench.folder,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color", "OPENBLAS_NUM_THREADS": "1"},
    )
    os.close(slave)
    bench.children.append(child)
    found = b""
    while True:
        select.select([master], [], [])
        try:
            found += os.read(master, 65536)
        except OSError:  # the last one to hold the other end is gone
            break
    os.close(master)
    assert child.wait() == 0, found.decode()
    return found.decode()


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal(bench: Any, columns: int) -> None:
    name = "googlenet_bn_after_lsuv_seed1"
    text = screen(bench, columns, bench.solver(name, max_iter=300, snapshot=0))
    drawn_anew = re.sub(r"\r|\x1b\[[0-9]*[AK]", "\n", text)  # the cursor goes back over the table
    lines = [line for line in plain(drawn_anew) if re.search(r"\d+/300 ", line)]
    assert lines
    for line in lines:
        assert line.startswith(f"{name} ")
        assert len(line) <= columns
    assert any(re.search(r" \d+/300 +[\d.e-]+ +0\.\d{4} ", line) for line in lines)


def test_how_much_is_shown(bench: Any) -> None:
    quiet = bench.run(bench.solver("first", max_iter=100), "--quiet")
    assert quiet == ""
    # Long enough to be looked at between two tests.
    verbose = bench.run(bench.solver("second", max_iter=4000, snapshot=4000, test_interval=1000), "-v")
    for pattern in (
        r"process \d+, seed 7",
        "snapshot at iteration 4000",
        r"tested at iteration \d+: acc",
        "second: done at iteration 4000",
    ):
        assert re.search(pattern, verbose), verbose
    usual = bench.run(bench.solver("third", max_iter=100))
    assert "process" not in usual
    assert "third: done at iteration 100" in usual
    (bench.folder / "data").unlink()
    assert "train_lmdb" in bench.run("first.prototxt", "--max-iter", 200, "-q", code=2)
