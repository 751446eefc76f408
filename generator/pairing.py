"""Which layer of one net is which of another: paired by what they do and what they are connected to."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping

from caffebench.generator.meaning import Graph, Vertex

__all__ = ["in_order", "pair_layers"]

# Layers that stand for one another at one place of a net: a change of the activation is a change of type.
_KIN = {"ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "AbsVal", "BNLL", "Power", "Exp", "Log", "Swish", "Clip"}
_LEAST_ALIKE = 2.0


def pair_layers(a: Graph, b: Graph, trained: Mapping[Vertex, Vertex] | None = None) -> dict[Vertex, Vertex]:
    """The layers of ``a`` that are layers of ``b``, settings apart; ``trained`` are those of their training nets.

    First those with the same layers all the way above them, then those with the same all the way below (a change in
    one layer leaves the one or the other whole for all others), then, from what is paired already, neighbours of
    one type, the most alike first.
    """
    pairing = _Pairing(a, b, trained or {})
    for direction in (_above, _below):
        pairing.pair_equal(direction(a), direction(b))
    pairing.grow()
    return pairing.partner


def _own(vertex: Vertex) -> str:
    return repr((vertex.type, sorted(vertex.settings.items(), key=lambda item: item[0])))


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _above(graph: Graph) -> dict[Vertex, str]:
    """A digest of each layer and of all that feeds it."""
    digests: dict[Vertex, str] = {}
    for vertex in graph.vertices:
        digests[vertex] = _digest(_own(vertex), [(digests.get(bottom, "?"), top) for bottom, top in vertex.bottoms])
    return digests


def _below(graph: Graph) -> dict[Vertex, str]:
    """A digest of each layer and of all that reads it."""
    readers = _readers(graph)
    digests: dict[Vertex, str] = {}
    for vertex in reversed(graph.vertices):
        below = [(digests[reader], slot, top) for reader, slot, top in readers[vertex] if reader in digests]
        digests[vertex] = _digest(_own(vertex), sorted(below))
    return digests


def _readers(graph: Graph) -> dict[Vertex, list[tuple[Vertex, int, int]]]:
    """Who reads each layer, at which of its bottoms, and which top."""
    readers: dict[Vertex, list[tuple[Vertex, int, int]]] = defaultdict(list)
    for vertex in graph.vertices:
        for slot, (bottom, top) in enumerate(vertex.bottoms):
            readers[bottom].append((vertex, slot, top))
    return readers


class _Pairing:
    def __init__(self, a: Graph, b: Graph, trained: Mapping[Vertex, Vertex]) -> None:
        self.a, self.b, self.trained = a, b, trained
        self.partner: dict[Vertex, Vertex] = {}
        self.taken: set[Vertex] = set()
        self.readers_a, self.readers_b = _readers(a), _readers(b)
        self.alike: dict[tuple[Vertex, Vertex], float] = {}

    def add(self, left: Vertex, right: Vertex) -> None:
        self.partner[left] = right
        self.taken.add(right)

    def pair_equal(self, a: dict[Vertex, str], b: dict[Vertex, str]) -> None:
        """Pair what is the same; among several alike those of one name, then those with paired neighbours, in order."""
        waiting: dict[str, list[Vertex]] = defaultdict(list)
        for vertex in self.b.vertices:
            if vertex not in self.taken:
                waiting[b[vertex]].append(vertex)
        for choose in (self._same_name, self._neighbours, _any):
            for vertex in [one for one in self.a.vertices if one not in self.partner]:
                mates = waiting[a[vertex]]
                mate = next((one for one in mates if choose(vertex, one)), None)
                if mate is not None:
                    mates.remove(mate)
                    self.add(vertex, mate)

    def grow(self) -> None:
        """Pair what is left by its paired neighbours, the most alike first; then what is alike without any."""
        while True:
            best: tuple[float, int, Vertex, Vertex] | None = None
            for left in self.a.vertices:
                if left in self.partner:
                    continue
                for right in self._candidates(left):
                    score = self._score(left, right)
                    if score >= _LEAST_ALIKE and (best is None or score > best[0]):
                        best = (score, left.number, left, right)
            if best is None:
                best = self._seed()
            if best is None:
                return
            self.add(best[2], best[3])

    def _candidates(self, left: Vertex) -> set[Vertex]:
        found: set[Vertex] = set()
        for bottom, _ in left.bottoms:
            if bottom in self.partner:
                found |= {reader for reader, _, _ in self.readers_b[self.partner[bottom]]}
        for reader, _, _ in self.readers_a[left]:
            if reader in self.partner:
                found |= {bottom for bottom, _ in self.partner[reader].bottoms if bottom.number >= 0}
        return {one for one in found if one not in self.taken}

    def _score(self, left: Vertex, right: Vertex) -> float:
        above, below = self._shared(left, right)
        if left.type != right.type and not ({left.type, right.type} <= _KIN and (above or not left.bottoms) and below):
            return 0.0
        if (left, right) not in self.alike:
            self.alike[left, right] = _likeness(left, right)
        return self.alike[left, right] + above + below

    def _shared(self, left: Vertex, right: Vertex) -> tuple[float, float]:
        """Which part of the bottoms, and of the readers, are paired with one another."""
        slots = sum(
            self.partner.get(one) is other and i == j
            for (one, i), (other, j) in zip(left.bottoms, right.bottoms, strict=False)
        )
        above = slots / max(len(left.bottoms), len(right.bottoms), 1)
        mates = {(reader, slot) for reader, slot, _ in self.readers_b[right]}
        ours = self.readers_a[left]
        below = sum((self.partner.get(reader), slot) in mates for reader, slot, _ in ours)
        return above, below / max(len(ours), len(mates), 1)

    def _seed(self) -> tuple[float, int, Vertex, Vertex] | None:
        """The first layer with nothing paired about it that has its like in the other net."""
        for left in self.a.vertices:
            if left not in self.partner:
                mates = [one for one in self.b.vertices if one not in self.taken and one.type == left.type]
                for right in sorted(mates, key=lambda one: -_likeness(left, one)):
                    if _likeness(left, right) >= _LEAST_ALIKE - 0.3:
                        return 0.0, left.number, left, right
        return None

    def _same_name(self, left: Vertex, right: Vertex) -> bool:
        if left.trained is not None and left.trained in self.trained:
            return self.trained[left.trained] is right.trained
        return left.name == right.name

    def _neighbours(self, left: Vertex, right: Vertex) -> bool:
        above, below = self._shared(left, right)
        return above + below > 0


def _any(left: Vertex, right: Vertex) -> bool:
    return True


def _likeness(left: Vertex, right: Vertex) -> float:
    """1 for the type, up to 1 for the settings, a little for the name and the number of bottoms."""
    names = left.settings.keys() | right.settings.keys()
    same = sum(left.settings.get(name) == right.settings.get(name) for name in names)
    alike = same / len(names) if names else 1.0
    named = 0.4 if left.name == right.name else 0.0
    return (1.0 if left.type == right.type else 0.5) + alike + named + 0.2 * (len(left.bottoms) == len(right.bottoms))


def in_order(a: Graph, b: Graph, partner: dict[Vertex, Vertex]) -> Iterator[tuple[Vertex | None, Vertex | None]]:
    """All layers of both nets, pairs together, what only one has after that which feeds it."""
    back = {right: left for left, right in partner.items()}
    alone = [one for one in b.vertices if one not in back]

    def place(vertex: Vertex) -> float:
        return max((back[one].number if one in back else place(one) for one, _ in vertex.bottoms), default=-1.0) + 0.5

    rows: list[tuple[float, Vertex | None, Vertex | None]]
    rows = [(float(left.number), left, partner.get(left)) for left in a.vertices]
    rows += [(place(right), None, right) for right in alone]
    for _, left, right in sorted(rows, key=lambda row: row[0]):
        yield left, right
