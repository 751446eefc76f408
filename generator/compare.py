"""What differs in meaning between two prototxt files, layer by layer, in Caffe's terms."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.meaning import Graph, Prototxt, Vertex, build_graph, solver_settings, written

__all__ = ["Difference", "compare"]

# What caffe.proto cannot say and our header does; comparable only where both files have a header.
_HEADER = ("init", "weights", "lr_schedule", "phases", "loader", "deterministic", "seed")
_GAP = 1.0
_ELEMENTWISE = {"ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "AbsVal", "BNLL", "Power", "Exp", "Log", "Swish"}


@dataclass(frozen=True)
class Difference:
    """One difference: where (``solver``, ``header``, or a layer, with its phase if in one only) and what."""

    where: str
    what: str

    def __str__(self) -> str:
        """The difference in one line."""
        return f"{self.where}: {self.what}"


def compare(a: Prototxt, b: Prototxt) -> list[Difference]:
    """Every difference in meaning from ``a`` to ``b``; an empty list where Caffe would do the same.

    Layer names, paths, snapshot prefixes, the order of independent layers, in-place or not, and old forms
    have no meaning. Where one file is a bare net only the nets are compared. Raises ``InputError`` where a
    solver's net file is missing.
    """
    for file in (a, b):
        for name, node in file.missing:
            raise InputError(f"{file.path}:{node.line}: no net file {name}, from the working folder or beside it")
    differences: list[Difference] = []
    if a.solver is not None and b.solver is not None:
        differences += _settings("solver", solver_settings(a.solver), solver_settings(b.solver))
    if a.header and b.header:
        differences += _settings("header", *({k: h.get(k) for k in _HEADER} for h in (a.header, b.header)))
    return [*differences, *_nets(a, b)]


def _settings(where: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Difference]:
    for name in [*a, *(name for name in b if name not in a)]:
        if a.get(name) != b.get(name):
            yield Difference(where, f"{name} {written(a.get(name))} -> {written(b.get(name))}")


def _nets(a: Prototxt, b: Prototxt) -> Iterator[Difference]:
    """Differences of the nets of each phase; those that all phases share are told once."""
    nets_a, nets_b = ({net.name: net for net in file.phases} for file in (a, b))
    phases = [name for name in nets_a if name in nets_b]
    found: dict[tuple[str, str], list[str]] = {}
    for name in phases:
        for key in _graphs(build_graph(nets_a[name]), build_graph(nets_b[name])):
            found.setdefault(key, []).append(name)
    for (layer, what), where in found.items():
        tag = "" if len(where) == len(phases) and len(phases) > 1 else f" in {', '.join(where)}"
        yield Difference(layer + tag, what)
    both_solvers = a.solver is not None and b.solver is not None
    for name in [*nets_a, *(name for name in nets_b if name not in nets_a)] if both_solvers else []:
        if name not in phases:
            yield Difference(f"{name} net", "only in A" if name in nets_a else "only in B")


def _graphs(a: Graph, b: Graph) -> Iterator[tuple[str, str]]:
    """(layer, what differs) for each difference between two graphs."""
    if a.form == b.form:
        return
    pairs = list(_aligned(a.vertices, b.vertices))
    partner = {left: right for left, right in pairs if left is not None and right is not None}
    partners = set(partner.values())
    told = False
    for left, right in pairs:
        if left is not None and right is not None:
            for what in _pair(left, right, partner, partners):
                told = True
                yield left.label, what
        for lone, side in ((left, "A"), (right, "B")):
            if lone is not None and (left is None or right is None):
                told = True
                after = ", ".join(bottom.name for bottom, _ in lone.bottoms)
                yield lone.label, f"only in {side}" + (f", after {after}" if after else "")
    if not told:
        yield "net", "the same layers, connected in another way"


def _pair(a: Vertex, b: Vertex, partner: dict[Vertex, Vertex], partners: set[Vertex]) -> Iterator[str]:
    if a.type != b.type:
        yield f"type {a.type} -> {b.type}"
    else:
        for difference in _settings("", a.settings, b.settings):
            yield difference.what
    if len(a.bottoms) != len(b.bottoms):
        yield f"{len(a.bottoms)} bottoms -> {len(b.bottoms)}"
    for (one, i), (other, j) in zip(a.bottoms, b.bottoms, strict=False):
        sources = {(partner.get(v, v), top) for v, top in _sources(one, i, partner)}
        if sources.isdisjoint(_sources(other, j, partners)) and not one.type == other.type == "?":
            yield f"bottom from {one.name} -> from {other.name}"


def _sources(vertex: Vertex, index: int, known: Container[Vertex]) -> set[tuple[Vertex, int]]:
    """Where a bottom comes from, past layers that only one of the two nets has."""
    if vertex in known or not vertex.bottoms:
        return {(vertex, index)}
    return set().union(*(_sources(bottom, top, known) for bottom, top in vertex.bottoms))


def _cost(a: Vertex, b: Vertex) -> float:
    """How badly two layers fit together: 0 for the same, over two gaps for layers of another kind."""
    if a.type != b.type:
        return 1.2 if {a.type, b.type} <= _ELEMENTWISE else 3 * _GAP
    names = a.settings.keys() | b.settings.keys()
    differing = sum(a.settings.get(name) != b.settings.get(name) for name in names)
    return (0.1 + 0.8 * differing / len(names) if differing else 0.0) + (0.01 if a.name != b.name else 0.0)


def _aligned(a: list[Vertex], b: list[Vertex]) -> Iterator[tuple[Vertex | None, Vertex | None]]:
    """The cheapest pairing of two lists in order (Needleman and Wunsch 1970); None opposite a lone layer."""
    rows = [[_GAP * j for j in range(len(b) + 1)]]
    for i, left in enumerate(a, 1):
        above, row = rows[-1], [_GAP * i]
        for j, right in enumerate(b, 1):
            row.append(min(above[j - 1] + _cost(left, right), above[j] + _GAP, row[-1] + _GAP))
        rows.append(row)
    i, j = len(a), len(b)
    backwards: list[tuple[Vertex | None, Vertex | None]] = []
    while i or j:
        if i and j and rows[i][j] == rows[i - 1][j - 1] + _cost(a[i - 1], b[j - 1]):
            i, j = i - 1, j - 1
            backwards.append((a[i], b[j]))
        elif i and rows[i][j] == rows[i - 1][j] + _GAP:
            i -= 1
            backwards.append((a[i], None))
        else:
            j -= 1
            backwards.append((None, b[j]))
    yield from reversed(backwards)
