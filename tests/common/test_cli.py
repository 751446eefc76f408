"""The frame of every command: one line, the agreed exit code, --debug, --version, examples in the help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points, version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from caffebench.common.cli import command, group
from caffebench.common.errors import CaffebenchError, InputError, StoppedError

FAILURES = {
    "failed": (CaffebenchError("the disk\n  is full"), 1, "the disk is full"),
    "input": (InputError("x.yaml, line 3: no such key"), 2, "x.yaml, line 3: no such key"),
    "stopped": (StoppedError("stopped at 5: the same command resumes"), 3, "stopped at 5: the same command resumes"),
    "interrupted": (KeyboardInterrupt(), 3, "stopped"),
    "missing": (FileNotFoundError(2, "No such file or directory", "a b.txt"), 1, "No such file or directory: a b.txt"),
    "full": (OSError(28, "No space left on device"), 1, "No space left on device"),
    "bare": (OSError("odd"), 1, "odd"),
    "bug": (ZeroDivisionError("division by zero"), 1, "internal error, ZeroDivisionError: division by zero"),
    "end": (EOFError("truncated"), 1, "internal error, RuntimeError: unexpected end of a file"),
    "usage": (click.UsageError("Choose one."), 2, "Choose one (see tool --help)"),
}


@command("tool", examples="tool --fail bug     # to see it\ntool")
@click.option("--fail", type=click.Choice(list(FAILURES)))
@click.option("--code", type=int)
def tool(fail: str | None, code: int | None) -> int | None:
    """Do nothing, or fail."""
    if fail:
        raise FAILURES[fail][0]
    click.echo("done")
    return code


suite = group("suite", [tool, command("other", examples="suite other")(lambda: None)], summary="Two.", examples="suite")


def call(what: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(what, list(arguments), prog_name=what.name)


@pytest.mark.parametrize("how", FAILURES)
def test_a_failure_is_one_line_and_its_exit_code(how: str) -> None:
    _, code, message = FAILURES[how]
    result = call(tool, "--fail", how)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"tool: {message}")


@pytest.mark.parametrize("how", FAILURES)
def test_debug_shows_the_traceback_and_keeps_line_and_exit_code(how: str) -> None:
    error, code, message = FAILURES[how]
    result = call(tool, "--fail", how, "--debug")
    assert result.exit_code == code
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "raise FAILURES[fail][0]" in result.stderr
    assert type(error).__name__ in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"tool: {message}")


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_what_the_function_returns_is_the_exit_code(code: int | None, expected: int) -> None:
    result = call(tool, *([] if code is None else ["--code", str(code)]))
    assert (result.exit_code, result.stdout, result.stderr) == (expected, "done\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fial", "bug"], "No such option '--fial'"),
        (["--fail", "nope"], "'nope' is not one of"),
        (["--code"], "Option '--code' requires an argument"),
        (["extra"], "Got unexpected extra argument (extra)"),
    ],
)
def test_wrong_usage_points_to_the_help(arguments: list[str], says: str) -> None:
    result = call(tool, *arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert result.stderr.endswith(" (see tool --help)\n")


def test_help_ends_with_the_examples() -> None:
    for flag in ("--help", "-h"):
        result = call(tool, flag)
        assert result.exit_code == 0
        assert result.stdout.endswith("\nExamples:\n  tool --fail bug     # to see it\n  tool\n")


def test_version() -> None:
    assert call(tool, "--version").stdout == f"tool {version('caffebench')}\n"
    assert call(suite, "tool", "--version").stdout == f"suite {version('caffebench')}\n"


def test_group_has_the_same_frame() -> None:
    assert call(suite, "tool").stdout == "done\n"
    assert call(suite, "tool", "--code", "3").exit_code == 3
    assert call(suite, "tool", "--fail", "input").stderr == "suite: x.yaml, line 3: no such key\n"
    debugged = call(suite, "tool", "--fail", "input", "--debug")
    assert (debugged.exit_code, debugged.stderr.count("Traceback")) == (2, 1)
    assert call(suite, "tool", "--cod", "1").stderr.endswith(" (see suite tool --help)\n")
    help_text = call(suite, "--help").stdout
    assert help_text.index("  tool ") < help_text.index("  other")


def test_group_names_its_commands_when_none_or_a_wrong_one_is_given() -> None:
    wrong = call(suite, "tol")
    assert wrong.exit_code == 2
    assert wrong.stderr == "suite: No such command 'tol': choose from tool, other (see suite --help)\n"
    none = call(suite)
    assert (none.exit_code, none.stderr) == (2, "suite: Missing command (see suite --help)\n")
    assert "No such option '--tol'" in call(suite, "--tol").stderr


SCRIPT = """
import sys, time, click
from caffebench.common.cli import command

@command("tool", examples="tool")
@click.argument("what")
def main(what):
    if what == "wait":
        try:
            click.echo("ready")
            time.sleep(30)
        finally:
            click.echo("closed")
    for number in range(100_000):
        click.echo(f"line {number}")

main()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_in_order(how: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    process.send_signal(how)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (3, "closed\n", "tool: stopped\n")
    assert time.monotonic() - started < 15


def test_a_reader_that_has_gone_is_not_worth_a_word() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "write"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=20) == 1


COMMANDS = sorted(
    entry.name for entry in entry_points(group="console_scripts") if entry.value.startswith("caffebench.")
)


def test_there_are_five_commands() -> None:
    assert COMMANDS == ["gen-prototxt", "install-caffe", "make-lmdb", "merge-logs", "run-caffe"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_frame(name: str) -> None:
    program = Path(sys.executable).parent / name
    helped = subprocess.run([program, "--help"], capture_output=True, text=True)
    assert helped.returncode == 0, helped.stderr
    assert "--version" in helped.stdout
    assert "--debug" in helped.stdout
    examples = helped.stdout.partition("\nExamples:\n")[2].splitlines()
    assert len(examples) >= 2
    assert all(line.startswith(f"  {name}") for line in examples)
    shown = subprocess.run([program, "--version"], capture_output=True, text=True)
    assert shown.stdout == f"{name} {version('caffebench')}\n"
    wrong = subprocess.run([program, "--no-such-option"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(f"{name}: No such option")
    assert wrong.stderr.count("\n") == 1


HEAVY = ["caffe", "numpy", "matplotlib", "polars", "plotly", "sklearn", "skimage", "PIL", "rich", "scipy", "lmdb"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy(name: str) -> None:
    (entry,) = entry_points(group="console_scripts", name=name)
    code = (
        f"import sys; sys.argv = ['x', '--help']; from {entry.module} import {entry.attr} as main\n"
        "try: main()\n"
        f"except SystemExit: print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert shown.stdout.splitlines()[-1] == "heavy: []", shown.stderr
