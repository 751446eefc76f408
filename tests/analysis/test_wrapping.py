"""What other programs put around the lines of a log changes nothing of what the log says."""

from __future__ import annotations

import html
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from caffebench.analysis import Run, read_runs
from caffebench.analysis.read.columns import MetricRegistry
from caffebench.analysis.read.parser import LogParser, parse_bytes
from caffebench.analysis.read.wrapping import find_wrapping

Line = Callable[[int, str], str]


def clock(number: int) -> str:
    """A time of day, as it is when the line of this number is written; three lines a second."""
    seconds = 35_990 + number // 3
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def log(make_session: Callable[..., str], *, pid: int = 100, rate: float = 0.01, begin: int = 0) -> str:
    """A training of two sessions with a net in the log."""
    first, second = make_session(begin, 200, pid=pid), make_session(150, 300, pid=pid, resume=True)
    text = (
        first
        + second.replace("0406 04:", "0406 05:")
        + f"I0406 05:59:59.000001 {pid:5} caffe.cpp:254] Optimization Done.\n"
    )
    source = r'data_param { source: "a\b <c>\'s" batch_size: 32 }'
    return text.replace("base_lr: 0.01", f"base_lr: {rate}").replace("data_param { batch_size: 32 }", source)


def said(run: Run) -> object:
    """What a run says: everything but where it came from."""
    curves = run.curves.drop("run")
    return (
        curves.drop("seconds").rows(),
        [None if one is None else round(one, 1) for one in curves["seconds"].to_list()],
        (
            run.status,
            run.reason,
            run.config.batch_size,
            run.config.base_lr,
            run.config.max_iter,
            run.config.train_source,
        ),
        [(one.first_iteration, one.last_iteration, one.ended, one.resumed_from) for one in run.sessions],
    )


def read_text(folder: Path, text: str) -> list[Run]:
    path = folder / "a.log"
    path.write_bytes(text.encode())
    return read_runs([path])


LINES: dict[str, Line] = {
    "grep -n": lambda number, line: f"{number}:{line}",
    "grep -n -A 3": lambda number, line: f"{number}{':' if 'Iteration' in line else '-'}{line}",
    "grep -nH": lambda number, line: f"bs128-a.log:{number}:{line}",
    "grep -H": lambda number, line: f"bs128.log:{line}",
    "cat -n": lambda number, line: f"{number:6}\t{line}",
    "less -N": lambda number, line: f"{number:7} {line}",
    "an editor": lambda number, line: f"{number:4} | {line}",
    "in brackets": lambda number, line: f"[{number}] {line}",
    "awk NR": lambda number, line: f"{number}: {line}",
    "minutes in brackets": lambda number, line: f"[{number // 3}m] {line}",
    "ts": lambda number, line: f"Feb 16 {clock(number)} {line}",
    "ts -s": lambda number, line: f"{clock(number)} {line}",
    "ts %.s": lambda number, line: f"{1455612345 + number / 3:.6f} {line}",
    "the journal": lambda number, line: f"Feb  6 {clock(number)} gpu01 caffe[4242]: {line}",
    "syslog": lambda number, line: f"2016-02-16T{clock(number)}.{number % 1000:06}+01:00 gpu01 caffe[4242]: {line}",
    "kubectl": lambda number, line: f"2016-02-16T{clock(number)}.{number:09}Z {line}",
    "a container runtime": lambda number, line: f"2016-02-16T{clock(number)}.{number:09}Z stderr F {line}",
    "logging": lambda number, line: f"2016-02-16 {clock(number)},{number % 1000:03} - caffe - INFO - {line}",
    "American": lambda number, line: f"02/16/2016 {clock(number)} AM: {line}",
    "Apache": lambda number, line: f"[16/Feb/2016:{clock(number)} +0100] {line}",
    "date": lambda number, line: f"Tue Feb 16 {clock(number)} CET 2016 | {line}",
    "Docker's files": lambda number, line: json.dumps(
        {"log": line + "\n", "stream": "stderr", "time": f"2016-02-16T{clock(number)}.{number:09}Z"}
    ),
    "a log server": lambda number, line: json.dumps({"ts": f"2016-02-16T{clock(number)}Z", "msg": line}),
    "CSV": lambda number, line: '{},"{}"'.format(1455612345678 + number, line.replace('"', '""')),
    "CSV, all quoted": lambda number, line: '"{}","gpu01","{}",""'.format(number, line.replace('"', '""')),
    "bytes of Python": lambda number, line: repr(f"{line}\n".encode()),
    "a notebook": lambda number, line: "      " + json.dumps(line + "\n") + ",",
    "a list": lambda number, line: "    " + json.dumps(line) + ",",
    "objects": lambda number, line: f'  {{\n    "text": {json.dumps(line)},\n    "insertId": "{number:x}"\n  }},',
    "quoted mail": lambda number, line: f"> {line}",
    "colours": lambda number, line: f"\x1b[38;5;10m\x1b[1m{line[:5]}\x1b(B\x1b[m{line[5:]}\x1b[K",
    "Windows": lambda number, line: f"{line}\r",
    "a page": lambda number, line: f"<div class='line'>{html.escape(line)}<br/></div>",
    "a page of cells": lambda number, line: f'<tr><td id="L{number}"></td><td class="x">{html.escape(line)}</td></tr>',
    "hard spaces": lambda number, line: line.replace("  ", "\u00a0 "),
    "escaped ends": lambda number, line: f"{line}\\n",
    "cat -E": lambda number, line: f"{line}$",
    "a table": lambda number, line: f"| {line} |",
    "a numbered table": lambda number, line: f"| {number} | {line} |",
    "two handlers": lambda number, line: f"{line}\n{line}",
}  # fmt: skip


@pytest.mark.parametrize("wrap", LINES.values(), ids=LINES)
def test_what_is_put_around_each_line(make_session: Callable[..., str], tmp_path: Path, wrap: Line) -> None:
    text = log(make_session)
    (plain,) = read_text(tmp_path, text)
    assert plain.config.batch_size == 32
    assert len(plain.sessions) == 2
    wrapped = "\n".join(wrap(number, line) for number, line in enumerate(text.rstrip("\n").split("\n"), 1)) + "\n"
    (run,) = read_text(tmp_path, wrapped)
    assert said(run) == said(plain)
    assert run.notes == plain.notes == ()


def in_rows(text: str, width: int, row: int) -> str:
    """As a console of Windows gives its buffer: lines broken at the ``width``, and rows of so many columns."""
    broken = ([line[k : k + width] for k in range(0, len(line) or 1, width)] for line in text.splitlines())
    return "".join("".join(one.ljust(row) for one in parts[:-1]) + parts[-1] + "\n" for parts in broken)


WHOLE: dict[str, Callable[[str], str]] = {
    "one text of JSON": lambda text: json.dumps({"stdout": text, "rc": 0}),
    "a notebook in one line": lambda text: json.dumps({"cells": [{"text": text.splitlines(keepends=True)}]}),
    "a list of Python": lambda text: repr(text.splitlines(keepends=True)),
    "broken between words": lambda text: "".join(
        f"{part}\n" for line in text.splitlines() for part in textwrap.wrap(line, 72)
    ),
    "rows of a console": lambda text: in_rows(text, 80, 271),
    "rows of a narrow console": lambda text: in_rows(text, 70, 83),
    "eaten asterisks": lambda text: text.replace("(* ", "( "),
    "paragraphs of a blog": lambda text: "\n\nAnd so on:\n\n".join(
        " ".join(text.splitlines()[k : k + 60]) for k in range(0, len(text.splitlines()), 60)
    ),
    "lost line ends": lambda text: " ".join(text.split()),
    "head": lambda text: f"==> /var/log/caffe.INFO <==\n{text}",
    "tail -f of two": lambda text: text.replace(
        "net_param {\n", "\n==> b.log <==\n1 file changed\n\n==> a.log <==\nnet_param {\n"
    ),
    "a saved page": lambda text: f"<html><body><pre>{html.escape(text)}</pre></body></html>\n",
    "folded": lambda text: "".join(
        line[k : k + 66] + "\n" for line in text.splitlines() for k in range(0, len(line) or 1, 66)
    ),
}


@pytest.mark.parametrize("wrap", WHOLE.values(), ids=WHOLE)
def test_what_is_put_around_the_whole(
    make_session: Callable[..., str], tmp_path: Path, wrap: Callable[[str], str]
) -> None:
    text = log(make_session)
    (plain,), (run,) = read_text(tmp_path, text), read_text(tmp_path, wrap(text))
    assert said(run) == said(plain)


LABELLED = [
    *((name, True) for name in ("grep -n", "cat -n", "ts", "kubectl", "a list", "Docker's files", "date", "colours")),
    *((name, False) for name in ("cat -n", "ts", "kubectl", "date")),
]


@pytest.mark.parametrize("label", ["[{}] ", "{}: ", "[1,{}]<stderr>:", "train_{}  | "])
@pytest.mark.parametrize(("name", "before"), LABELLED)
def test_who_speaks_is_still_told(
    make_session: Callable[..., str], tmp_path: Path, label: str, name: str, before: bool
) -> None:
    """Of two ranks the first is read, also where more stands before their labels, or between these and the lines."""
    wrap, shuffle = LINES[name], Random(1)
    ranks = [log(make_session, pid=100 + rank).rstrip().split("\n") for rank in (0, 1)]
    order = [rank for rank in (0, 1) for _ in ranks[rank]]
    shuffle.shuffle(order)
    both = [(rank, ranks[rank].pop(0)) for rank in order]
    plain = [label.format(rank) + line for rank, line in both]
    if before:
        wrapped = [wrap(number, line) for number, line in enumerate(plain, 1)]
    else:
        wrapped = [label.format(rank) + wrap(number, line) for number, (rank, line) in enumerate(both, 1)]
    (one,), (run,) = read_text(tmp_path, "\n".join(plain)), read_text(tmp_path, "\n".join(wrapped))
    assert "2 ranks speak in one log" in one.notes[0]
    assert "2 ranks speak in one log" in run.notes[0]
    assert said(run) == said(one)


def test_trainings_at_once_are_told_apart_behind_times(make_session: Callable[..., str], tmp_path: Path) -> None:
    texts = [log(make_session, pid=100 + k, rate=0.1 * (k + 1)) for k in range(2)]
    texts = [text.replace("snapshots/net", f"snapshots/net{k}").rstrip().split("\n") for k, text in enumerate(texts)]
    lines = [f"train_{k}  | {line}" for some in zip(*texts, strict=True) for k, line in enumerate(some)]
    plain = read_text(tmp_path, "\n".join(lines))
    runs = read_text(tmp_path, "\n".join(LINES["kubectl"](number, line) for number, line in enumerate(lines)))
    assert len(plain) == 2
    assert [said(one) for one in runs] == [said(one) for one in plain]


@pytest.mark.parametrize(
    "said", ["loss_bbox 0.25", ">>> 2016-02-16 Iteration {} mean IU 0.27", "{} images", "speed: 3 s"]
)
def test_lines_of_another_program_are_not_joined(make_session: Callable[..., str], said: str) -> None:
    """A layer in Python may print a line behind each one of Caffe, which all have nearly the same length."""
    lines = [line for line in make_session(100, 900).split("\n") if ", loss = " in line or ", lr = " in line]
    text = "\n".join(f"{line}\n{said.format(20 * number)}" for number, line in enumerate(lines))
    assert find_wrapping(text.encode()) == ()


@pytest.mark.parametrize("label", ["[{}] ", "{}: ", "train_{}  | ", "rank {} "])
def test_ranks_are_no_line_numbers(make_session: Callable[..., str], label: str) -> None:
    """Not in turn, and not one behind the other, as ``sort`` puts them."""
    lines = [make_session(0, 100).rstrip().split("\n") for _ in range(4)]
    in_turn = [label.format(rank) + line for some in zip(*lines, strict=True) for rank, line in enumerate(some)]
    for text in ("\n".join(in_turn), "\n".join(sorted(in_turn, key=lambda line: line[: len(label)]))):
        assert find_wrapping(text.encode()) == ()


@pytest.mark.parametrize("wrap", LINES.values(), ids=LINES)
def test_a_wrapped_log_that_grows_is_read_as_a_whole_one(make_session: Callable[..., str], wrap: Line) -> None:
    lines = log(make_session).rstrip("\n").split("\n")
    data = ("\n".join(wrap(number, line) for number, line in enumerate(lines, 1)) + "\n").encode()
    whole = parse_bytes([data], MetricRegistry(), 1)
    draw, at, growing = Random(1), 0, LogParser(MetricRegistry())
    while at < len(data):
        step = draw.randrange(1, 900)
        growing.feed(data[at : at + step])
        growing.result()
        at += step
    found = growing.result()
    assert whole.rows.iteration.tolist() == found.rows.iteration.tolist()
    assert whole.rows.value.tolist() == found.rows.value.tolist()
    assert whole.events == found.events
    assert (whole.bad_lines, whole.is_caffe) == (found.bad_lines, found.is_caffe)
