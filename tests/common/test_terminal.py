"""Every command on a real terminal of 80 and of 200 columns: what fits is shown, nothing is broken, nothing is red."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import in_process
import pytest

from caffebench.common import messages, terminal
from caffebench.common.terminal import Column, table, wrapped

ROOT = Path(__file__).parent.parent.parent
HERE = Path(sys.executable).parent
CASES = ROOT / "tests" / "analysis" / "cases"
BS128 = str(ROOT / "prototxt" / "bs128.prototxt")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    """Where the commands run: with two logs, of which one tells of a crash, and a file with a mistake."""
    (tmp_path / "logs").mkdir()
    shutil.copyfile(CASES / "12-multistep.log", tmp_path / "logs" / "bs1_with_a_name.log")
    shutil.copyfile(CASES / "45-killed.log", tmp_path / "logs" / "bs128.log")
    (tmp_path / "bad.prototxt").write_text(f'net: "{BS128}"\nbase_lr: 0.1 momentun: 0.9 lr_policy: "fixed"\n')
    return tmp_path


def on_terminal(width: int, *command: str, cwd: Path) -> tuple[str, str]:
    """What the command writes to stdout and to stderr, each a terminal of its own."""
    said: dict[int, bytes] = {1: b"", 2: b""}
    ends = {}
    for stream in said:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        ends[stream] = master, slave
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [HERE / command[0], *command[1:]], stdin=ends[1][1], stdout=ends[1][1], stderr=ends[2][1], cwd=cwd,
        env={**variables, "TERM": "xterm-256color"},
    )  # fmt: skip

    def read(stream: int) -> None:
        try:
            while more := os.read(ends[stream][0], 65536):
                said[stream] += more
        except OSError:  # the other side is closed
            return

    readers = [threading.Thread(target=read, args=[stream]) for stream in said]
    for _, slave in ends.values():
        os.close(slave)
    for reader in readers:
        reader.start()
    process.wait(timeout=300)
    for reader in readers:
        reader.join()
    for master, _ in ends.values():
        os.close(master)
    return tuple(text.decode().replace("\r\n", "\n") for text in said.values())  # type: ignore[return-value]


def reds(text: str) -> list[str]:
    """The escape sequences that make what follows red."""
    found = []
    for sequence, asked in re.findall(r"(\x1b\[([0-9;]*)m)", text):
        codes = [int(code or 0) for code in asked.split(";")]
        while codes:
            code = codes.pop(0)
            if code in (38, 48) and codes[0] == 5:
                red, codes = codes[1] in (1, 9, 88, 124, 160, 196, 197, 203), codes[2:]
            elif code in (38, 48):
                red, codes = codes[1] > 150 and max(codes[2:4]) < 120, codes[4:]
            else:
                red = code in (31, 41, 91, 101)
            found += [sequence] if red else []
    return found


def test_red_is_seen():
    from rich.default_styles import DEFAULT_STYLES
    from rich.style import Style

    for style in (DEFAULT_STYLES["bar.complete"], Style(color="red"), Style(color="bright_red"), Style(bgcolor="red")):
        assert reds(style.render("text")), style
    assert not reds(Style(color="cyan", bold=True).render("text"))


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["merge-logs", "logs", "--sessions", "--table"], ["bs1_with_a_name", "bs128", "--solver=solver.prototxt"]),
        (["gen-prototxt", "--list"], ["bn_order", "imagenet128", "batch_size_tanh"]),
        (["gen-prototxt", "batch_size", "--only", "bs*lr*"], ["bs1024_lr0.04", "bs32_lr0.00125", "bs1_lr3.9063e-05"]),
        (["gen-prototxt", "--summary", BS128], ["conv5/relu", "SoftmaxWithLoss", "128 x 256 x 15 x 15"]),
        (["gen-prototxt", "--lint", "bad.prototxt"], ["momentun", "error"]),
        pytest.param(["make-lmdb", "digits", "data"], ["data/train_lmdb:", "data/test_lmdb:"], marks=pytest.mark.slow),
    ],
)
def test_a_command_fits_its_terminal(command, names, width, folder):
    shown, beside = on_terminal(width, *command, cwd=folder)
    lines = shown.splitlines()
    assert lines
    assert [line for line in lines if len(line) > width and " " in line.strip()] == []
    for name in names:
        assert name in shown, shown
    assert reds(shown) == reds(beside) == []


@pytest.mark.caffe
@pytest.mark.parametrize("width", [80, 200])
def test_the_installed_caffe_is_told_of_on_any_terminal(width, tmp_path):
    shown, beside = on_terminal(width, "install-caffe", "--check", cwd=tmp_path)
    assert all(len(line) <= width or " " not in line.strip() for line in shown.splitlines())
    assert "layer types" in " ".join(shown.split())
    assert reds(shown + beside) == []


def test_a_wide_terminal_shows_more(folder):
    narrow, _ = on_terminal(80, "merge-logs", "logs", cwd=folder)
    wide, beside = on_terminal(200, "merge-logs", "logs", cwd=folder)
    assert narrow.splitlines()[0].split() == ["run", "status", "iteration", "accuracy", "loss", "why"]
    assert "no room here for: sessions, crashes, lost, time" in narrow
    assert wide.splitlines()[0].split()[4:] == ["loss", "sessions", "crashes", "lost", "time", "why"]
    assert len(wide.splitlines()[2]) > 80
    # The bar takes the width, and is no wider.
    bars = [len(line) for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", beside).replace("\r", "\n").split("\n")]
    assert "reading logs" in beside
    assert 0 < max(bars) <= 200


@pytest.mark.parametrize("width", [20, 40, 79])
def test_no_name_is_broken_however_narrow(monkeypatch, width):
    monkeypatch.setattr(terminal, "terminal_width", lambda: width)
    name = "a_variant_with_a_long_name_lr0.00125"
    rows = [(name, "done", "1,234", "it ran into a_word_that_is_long and stopped"), ("b", "failed", "7", "")]
    columns = [Column("run", text=True), Column("status", text=True, rank=1), Column("iteration", rank=2),
               Column("why", text=True, wraps=True)]  # fmt: skip
    shown = table(columns, rows)
    for whole in (name, "a_word_that_is_long", "stopped"):
        assert whole in shown
    assert all(len(line) <= width or " " not in line.strip() for line in shown.splitlines())
    assert name in wrapped(f"there is {name}, there is {name}")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return in_process.run(*command, cwd=folder)


def test_a_pipe_has_no_width(folder):
    done = run(folder, "merge-logs", "logs")
    assert done.stdout.splitlines()[0].split()[-4:] == ["crashes", "lost", "time", "why"]
    assert done.stderr == ""


def test_the_summary_as_json_is_all_of_stdout(folder):
    rows = json.loads(run(folder, "merge-logs", "logs", "--json", "--table").stdout)
    with (folder / "results" / "summary.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["bs1_with_a_name", "bs128"]
    for row, cells in zip(rows, written, strict=True):
        assert row.keys() == cells.keys()
        for name, cell in cells.items():
            value = row[name]
            assert (value is None and cell == "") or value == (float(cell) if isinstance(value, (int, float)) else cell)
    refused = run(folder, "merge-logs", "logs", "--json", "--watch")
    assert (refused.returncode, refused.stdout) == (2, "")


def test_quiet_and_verbose(folder):
    log = folder / "logs" / "bs128.log"
    log.write_text(re.sub(r"loss = \d+", "loss = x", log.read_text()))
    usual, quiet, verbose = (run(folder, "merge-logs", "logs", *more) for more in ([], ["-q"], ["-v"]))
    assert "bs128: 8 bad lines, cut or garbled" in usual.stderr
    assert quiet.stderr == ""
    assert re.search(r"bs128: from \S*bs128\.log; \d+ rows survive, 8 bad lines\n", verbose.stderr)
    assert "8 bad lines, cut or garbled" in verbose.stderr
    assert usual.stdout == quiet.stdout == verbose.stdout
    failed = run(folder, "merge-logs", "-q", "nowhere")
    assert (failed.returncode, failed.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["gen-prototxt", "batch_size", "--only", "bs64"], r"prototxt/bs64\.prototxt is missing: written\n"),
        pytest.param(["make-lmdb", "digits", "data"], r"data/train_lmdb: \d\.\d MB; .*\n.*\n", marks=pytest.mark.slow),
    ],
)
def test_what_is_done_on_the_way_is_told_if_asked(command, told, folder):
    verbose = run(folder, *command, "-v")
    assert re.fullmatch(told, verbose.stderr)
    again = run(folder, *command)
    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.parametrize("name", ["install-caffe", "make-lmdb", "gen-prototxt", "run-caffe", "merge-logs"])
def test_every_command_takes_them_and_completes(name, tmp_path):
    helped = subprocess.run([HERE / name, "--help"], capture_output=True, text=True)
    assert "-q, --quiet" in helped.stdout
    assert "-v, --verbose" in helped.stdout
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
    script = subprocess.run([HERE / name], capture_output=True, text=True, env={**os.environ, variable: "bash_source"})
    assert f"{variable}=bash_complete" in script.stdout
    asked = {**os.environ, variable: "bash_complete", "COMP_WORDS": f"{name} --ver", "COMP_CWORD": "1"}
    offered = subprocess.run([HERE / name], capture_output=True, text=True, env=asked)
    assert {"plain,--version", "plain,--verbose"} <= set(offered.stdout.split())


def test_what_is_said_is_printable(capsys):
    messages.set_verbosity(0)
    messages.announce("a file \x1b[31mred\n")
    messages.detail("not asked for")
    assert capsys.readouterr().err == "a file \\x1b[31mred \n"
