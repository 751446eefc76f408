"""``gen-prototxt --lint``: each file is read and judged, whatever the others are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from caffebench.common.errors import CaffebenchError
from caffebench.common.terminal import wrapped
from caffebench.generator.lint.asking import asking_caffe
from caffebench.generator.lint.registry import RULES, Finding, lint
from caffebench.generator.lint.roles import judged, read_as
from caffebench.generator.meaning import Prototxt, load_prototxt

__all__ = ["lint_paths"]

_PLACE = re.compile(r"(.+?):(\d+)(:\d+)?: ?")


def lint_paths(paths: Sequence[Path]) -> int:
    """Print what every file was read as and what is wrong with it; return the exit code.

    0: no error or warning, 1: some, 2: none of the files could be read.
    """
    files: list[Prototxt] = []
    unreadable: list[Finding] = []
    for path in paths:
        try:
            files.append(load_prototxt(path))
        except CaffebenchError as error:
            unreadable.append(_unreadable(path, str(error)))
        except OSError as error:
            unreadable.append(_unreadable(path, f"{path}: {error.strerror}"))
    with asking_caffe():
        findings = lint(files)
    roles: dict[str, list[str]] = {}
    for file in files:
        roles.setdefault(read_as(judged(file, files), files), []).append(str(file.path))
    for role, names in roles.items():
        shown = ", ".join(names if len(names) < 4 else [*names[:2], f"{len(names) - 2} more"])
        click.echo(wrapped(f"{shown}: {role}"))
    for finding in [*unreadable, *findings]:
        click.echo("\n".join(map(wrapped, str(finding).splitlines())))
    found = [one for one in [*unreadable, *findings] if one.severity != "note"]
    notes = len(unreadable) + len(findings) - len(found)
    said = f"{_count(len(found), 'finding')} in {_count(len(paths), 'file')}"
    click.echo(said + (f", {_count(notes, 'note')}" if notes else ""))
    return (2 if not files else 1) if found else 0


def _unreadable(path: Path, message: str) -> Finding:
    place = _PLACE.match(message)  # of the file itself, or of the net file that it names
    rule = RULES["unreadable"]
    where, line = (Path(place[1]), int(place[2])) if place else (path, 0)
    what = message.removeprefix(f"{where}:").strip()
    return Finding(where, line, "", rule.id, rule.severity, what, rule.why, "correct it there")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
