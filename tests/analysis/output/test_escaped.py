"""Names and lines of strangers on the terminal and in files: nothing of them works, nothing of them breaks."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Session = Callable[..., str]
Write = Callable[..., Path]

EVERYTHING = ["--sessions", "--table", "--plot", "--format", "svg", "--html", "--export", "json,parquet,tensorboard"]


def merge(*arguments: str | Path | bytes) -> subprocess.CompletedProcess[bytes]:
    """With bytes on both sides: names of files may be any."""
    command: list[str | bytes | Path] = [str(Path(sys.executable).with_name("merge-logs")), *arguments]
    return subprocess.run(command, capture_output=True, timeout=300)


@pytest.mark.slow
def test_no_control_character_reaches_the_terminal(make_session: Session, write: Write, tmp_path: Path) -> None:
    text = make_session(0, 300, end="\x1b]0;owned\x07 Check failed")
    text = text.replace(" accuracy =", " acc\x1b[2Juracy\x9b31m =")
    text += "F0406 05:00:00.000000   100 x.cpp:1] Check failed: \x1b[31m\u202e red\n"
    write("a.log", text)
    path = write("b\x1b[2J\u202e.log", make_session(0, 300, end="Optimization Done."))
    done = merge(path.parent, "--out", tmp_path / "out\x1b[1m", "--sessions", "--table", "--plot", "--format", "svg")
    assert done.returncode == 0, done.stderr
    for said in (done.stdout.decode(), done.stderr.decode()):
        assert all(letter.isprintable() or letter == "\n" for letter in said)
    assert rb"\x1b[2J\u202e" in done.stdout
    refused = merge(tmp_path / "no\x1b[2J.log")
    assert (refused.returncode, b"\x1b" in refused.stderr, refused.stderr.count(b"\n")) == (2, False, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"caf\xe9.log", b"\xff\xfe.log", "网\u2028x.log".encode()])
def test_names_that_are_not_utf8_go_everywhere(
    make_session: Session, write: Write, tmp_path: Path, name: bytes
) -> None:
    path = write("a.log", make_session(0, 300))
    os.rename(path, os.path.join(os.fsencode(path.parent), name))
    done = merge(path.parent, "--out", tmp_path / "out", *EVERYTHING)
    assert done.returncode == 0, done.stderr
    done.stdout.decode()
    (row,) = csv.DictReader((tmp_path / "out/summary.csv").open(encoding="utf-8"))
    assert row["iteration"] == "300"
    assert json.loads((tmp_path / "out/curves.json").read_text())


def test_names_are_no_formulas_in_csv(make_session: Session, write: Write, tmp_path: Path) -> None:
    text = make_session(0, 300).replace("accuracy =", "+accuracy =").replace("= -", "= ")
    path = write("=cmd|' !A0.log", text)
    assert merge(path, "--out", tmp_path).returncode == 0
    for file in ("curves.csv", "summary.csv"):
        rows = list(csv.DictReader((tmp_path / file).open()))
        assert {row["run"] for row in rows} == {"'=cmd|' !A0"}
        for row in rows:
            assert not [cell for cell in row.values() if cell.startswith(("=", "+", "@"))]
            if "metric" in row:
                float(row["value"])
    assert {row["metric"] for row in csv.DictReader((tmp_path / "curves.csv").open())} >= {"'+accuracy", "loss"}


def test_a_forged_event_line_changes_nothing(make_session: Session, write: Write, tmp_path: Path) -> None:
    """A layer's name may hold a line break, and after it what looks like a line of ours."""
    plain = make_session(0, 300, end="Optimization Done.")
    forged = "I20240101 00:00:00.000000     1 x.cpp:1] caffebench: "
    lines = [
        'end {"status": "not_converged", "iteration": 7, "reason": "forged"}',
        'run {"run": "other", "header": {"label": "forged", "sweep": "forged"}, "pid": 1}',
        'resume {"iteration": 5, "restored": ["forged"]}',
        "end {bad json}",
    ]
    named = "".join(f"I0406 04:34:53.500000   100 net.cpp:84] Creating Layer data\n{forged}{one}\n" for one in lines)
    before, _, after = plain.partition("I0406 04:34:55")
    told = {}
    for name, text in (("plain", plain), ("forged", f"{before}{named}I0406 04:34:55{after}")):
        write(f"{name}/net.log", text)
        done = merge(tmp_path / "logs" / name, "--out", tmp_path / name, "--sessions")
        assert done.returncode == 0, done.stderr
        told[name] = done.stdout.replace(os.fsencode(tmp_path / name), b"").replace(b"1 bad lines", b"0 bad lines")
        told[f"{name} rows"] = (tmp_path / name / "curves.csv").read_bytes() + (
            tmp_path / name / "summary.csv"
        ).read_bytes()
    assert told["forged"] == told["plain"]
    assert told["forged rows"] == told["plain rows"]
