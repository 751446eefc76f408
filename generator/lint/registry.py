"""The one registry of lint rules: what a rule is, what it finds, and running them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from caffebench.generator.meaning import Layer, Node, Prototxt

__all__ = ["RULES", "Finding", "Hit", "Rule", "Severity", "lint", "named", "of_layer", "rule"]

Severity = Literal["error", "warning", "note"]
_ORDER: dict[str, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Hit:
    """What a rule found in a file: the fact, what to write instead, and where it stands if that is known.

    ``severity`` and ``why`` are the rule's own unless this case is another.
    """

    what: str
    fix: str
    layer: str = ""
    node: Node | None = None
    path: Path | None = None
    severity: Severity | None = None
    why: str = ""


def of_layer(layer: Layer, what: str, fix: str, field: str = "", **more: Any) -> Hit:
    """What a rule found in a layer, or in its field at a dotted path."""
    return Hit(what, fix, layer.name, layer.node.at(field) if field else layer.node, layer.path, **more)


@dataclass(frozen=True)
class Finding:
    """A hit with its place and its rule. ``line`` is 0 where a file as a whole is meant."""

    path: Path
    line: int
    layer: str
    rule: str
    severity: Severity
    what: str
    why: str
    fix: str

    def __str__(self) -> str:
        """Three lines: place, rule and fact; why it matters; the fix."""
        place = f"{self.path}:{self.line}" if self.line else str(self.path)
        layer = f" layer {self.layer}:" if self.layer else ""
        return f"{place}: {self.severity} {self.rule}:{layer} {self.what}\n  why: {self.why}\n  fix: {self.fix}"


Check = Callable[[Prototxt, Sequence[Prototxt]], Iterator[Hit]]


@dataclass(frozen=True)
class Rule:
    """A rule: a function of one file among those given together. ``doc`` is its line in the docs."""

    id: str
    severity: Severity
    doc: str
    why: str
    check: Check


RULES: dict[str, Rule] = {}


def rule(name: str, severity: Severity, *, why: str) -> Callable[[Check], Check]:
    """Register a function as the rule ``name``; the first line of its docstring is its documentation."""

    def register(check: Check) -> Check:
        RULES[name] = Rule(name, severity, (check.__doc__ or "").strip().splitlines()[0], why, check)
        return check

    return register


def named(layers: Sequence[Layer]) -> str:
    """Names of layers for one finding on all of them: ``a, b and 67 more``."""
    names = list(dict.fromkeys(layer.name for layer in layers))
    return ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]} and {len(names) - 2} more"


def lint(files: Sequence[Prototxt]) -> list[Finding]:
    """Every finding of every rule on the files, which are looked at together, in the order of the files.

    A file that means what a rule objects to says so itself, with the reason, in a comment line
    ``# caffebench: allow: {rule-id: why it is meant}``; those findings are left out.
    """
    from caffebench.generator.lint.roles import judged

    files = [judged(file, files) for file in files]
    findings = []
    for file in files:
        allowed = file.header.get("allow") or {}
        found = []
        for one in RULES.values():
            if one.id not in allowed:
                for hit in dict.fromkeys(one.check(file, files)):
                    line = hit.node.line if hit.node is not None else 0
                    path = hit.path or file.path
                    severity, why = hit.severity or one.severity, hit.why or one.why
                    found.append(Finding(path, line, hit.layer, one.id, severity, hit.what, why, hit.fix))
        findings += sorted(found, key=lambda finding: (_ORDER[finding.severity], finding.line))
    findings = [one for one in findings if one.rule != "caffe" or not _explained(one, findings)]
    return list(dict.fromkeys(findings))  # a net's findings are told once, though it and its solver were given


def _explained(said: Finding, findings: Sequence[Finding]) -> bool:
    """Whether a rule has found an error where Caffe stopped: at the same layer, or if it names none in the file."""
    others = [one for one in findings if one.rule != "caffe" and one.severity == "error" and one.path == said.path]
    if not said.layer:
        return bool(others)
    names = [re.split(", | and ", one.layer) for one in others]
    return any(said.layer in some for some in names) or any(one.line == said.line for one in others if one.line)
