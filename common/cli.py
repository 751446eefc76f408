"""The frame of every command: ``-q`` and ``-v``, ``--version``, ``--debug``, examples in the help, errors of one line.

Nothing heavy is imported here: this module is on the path of every ``--help``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NoReturn, TypeVar

import click

from caffebench.common.errors import CaffebenchError, StoppedError
from caffebench.common.messages import set_verbosity
from caffebench.common.printable import printable

__all__ = ["command", "group", "into"]

Options = TypeVar("Options")


class _Frame(click.Command):
    """Shows its examples, and ends in one line and the agreed exit code."""

    examples: str = ""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise StoppedError("stopped") from error
        except EOFError as error:  # click would take it for the end of what the user types, and for a wish to stop
            raise RuntimeError("unexpected end of a file") from error

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        set_verbosity(0)
        try:
            # A scheduler's SIGTERM ends a command like Ctrl-C does: what is open is closed, children are stopped.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            # No child of ours, and none that a library starts, takes a module from the current folder (Python 3.11).
            os.environ["PYTHONSAFEPATH"] = "1"
            code = super().main(arguments, **extra)
            sys.exit(code if isinstance(code, int) else 0)
        except click.ClickException as error:
            name = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else self.name
            code, message = error.exit_code, f"{error.format_message().rstrip('.')} (see {name} --help)"
            failure: Exception = error
        except CaffebenchError as error:
            code, message, failure = error.exit_code, str(error), error
        except OSError as error:
            where = f": {error.filename}" if error.filename is not None else ""
            code, message, failure = 1, f"{error.strerror or error}{where}", error
        except Exception as error:
            code, message = 1, f"internal error, {type(error).__name__}: {error} (--debug shows where)"
            failure = error
        if "--debug" in arguments:
            from traceback import format_exception  # 2 ms that nothing else pays

            click.echo("".join(format_exception(failure)), err=True, nl=False)
        click.echo(f"{self.name}: {printable(' '.join(message.split()))}", err=True)
        sys.exit(code)


class _Group(_Frame, click.Group):
    """A command with commands of its own; only this outermost one has to end in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order given, where click would sort them

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}': choose from {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version  # 10 ms that only --version pays

        click.echo(f"{ctx.find_root().info_name} {version('caffebench')}")
        ctx.exit()


def _set_verbosity(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        set_verbosity(-1 if param.name == "quiet" else 1)


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def _common_options() -> list[click.Option]:
    return [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_set_verbosity,
            help="Print only results and errors; show no progress.",
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=_set_verbosity,
            help="Also print what is done on the way.",
        ),
        click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error."),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        ),
    ]


def command(name: str, *, examples: str) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a function a command called ``name``; what it returns, an ``int`` or None, is the exit code.

    Parameters are declared below this decorator with ``click.option`` and ``click.argument``. ``examples`` is
    shown, a line each, at the end of ``--help``.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        made = click.command(name, cls=_Frame, context_settings=_SETTINGS)(function)
        made.params += _common_options()
        made.examples = examples
        return made

    return decorate


def into(
    kind: Callable[..., Options],
) -> Callable[[Callable[[Options], int | None]], Callable[..., int | None]]:
    """Have a command's function take one object, a frozen dataclass whose fields are named like its parameters.

    The lowest decorator, below all of ``click.option``. This is the one place where options are loose names.
    """

    def decorate(function: Callable[[Options], int | None]) -> Callable[..., int | None]:
        @wraps(function)
        def call(**values: object) -> int | None:
            return function(kind(**values))

        return call

    return decorate


def group(name: str, commands: Sequence[click.Command], *, summary: str, examples: str) -> click.Command:
    """A command called ``name`` that is nothing but the choice between ``commands``, shown in this order."""
    by_name = {str(one.name): one for one in commands}
    made = _Group(name, by_name, help=summary, no_args_is_help=False, context_settings=_SETTINGS)
    made.params += _common_options()
    made.examples = examples
    return made
