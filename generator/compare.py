"""What differs in meaning between two prototxt files, layer by layer, in Caffe's terms."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.axes import note_shapes, settings_of
from caffebench.generator.inference import inference_graph
from caffebench.generator.meaning import (
    Graph,
    PhaseNet,
    Prototxt,
    Vertex,
    build_graph,
    net_in_state,
    solver_settings,
    written,
)
from caffebench.generator.pairing import in_order, pair_layers

__all__ = ["Difference", "compare", "compare_as_deploy"]

# What caffe.proto cannot say and our header does; comparable only where both files have a header.
_HEADER = ("init", "weights", "lr_schedule", "phases", "loader", "deterministic", "seed")

# Settings that say whether others are there at all.
_SWITCHES = (".bias_term", ".global_pooling", ".operation")


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

    Paths, snapshot prefixes, the order of independent layers, in-place or not, and old forms have no meaning, nor have
    names of layers, except where weights go by them: from TRAIN to TEST, and out of a file. Where one file is a bare
    net only the nets are compared, in the states that the solver of the other builds. Raises ``InputError`` where a
    solver's net file is missing.
    """
    _check(a, b)
    differences: list[Difference] = []
    if a.solver is not None and b.solver is not None:
        differences += _settings("solver", solver_settings(a.solver), solver_settings(b.solver))
    if a.header and b.header:
        differences += _settings("header", *({k: h.get(k) for k in _HEADER} for h in (a.header, b.header)))
    return [*differences, *_nets(a, b)]


def compare_as_deploy(a: Prototxt, b: Prototxt) -> list[Difference]:
    """Every difference between what ``a`` and ``b`` compute in TEST, from the images to the scores.

    Asks whether a deploy net is the net that was trained: data, losses, dropout, fillers and learning rates do not
    count, nor do branches of ``a`` that only a loss reads. Raises ``InputError`` where one has no TEST net.
    """
    _check(a, b)
    graphs = []
    for file in (a, b):
        net = file.phase("TEST") or file.phase("TRAIN")
        if net is None or not net.layers:
            raise InputError(f"{file.path}: no net in it")
        graphs.append(inference_graph(net))
    images = [vertex for graph in graphs for vertex in graph.vertices if vertex.type == "Image"]
    if not all(vertex.settings["size"] for vertex in images):  # one of them does not say it
        for vertex in images:
            vertex.settings = {}
    return [Difference(layer, what) for layer, what in _graphs(graphs[0], graphs[1], {}, training_branches=True)]


def _check(*files: Prototxt) -> None:
    for file in files:
        for name, node in file.missing:
            raise InputError(f"{file.path}:{node.line}: no net file {name}, from the working folder or beside it")


def _settings(where: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Difference]:
    for name in [*a, *(name for name in b if name not in a)]:
        one, other = a.get(name), b.get(name)
        if one == other or (one in (None, ()) and other in (None, ())):
            continue
        said = written(one), written(other)
        if said[0] == said[1]:  # never two equal sides
            said = repr(one), repr(other)
        yield Difference(where, f"{name} {said[0]} -> {said[1]}")


def _nets(a: Prototxt, b: Prototxt) -> Iterator[Difference]:
    """Differences of the nets of each phase; those that all phases share are told once."""
    nets_a, nets_b = _states(a, b)
    phases = [name for name in nets_a if name in nets_b]
    found: dict[tuple[str, str], list[str]] = {}
    loaded = a.loads_weights and b.loads_weights  # where one does, that is told of the solver
    training: tuple[Graph | None, Graph | None] = (None, None)
    trained: dict[Vertex, Vertex] = {}
    for name in sorted(phases, key=lambda name: nets_a[name].phase != "TRAIN"):
        one, other = (
            build_graph(nets[name], net, loaded=loaded) for nets, net in zip((nets_a, nets_b), training, strict=True)
        )
        note_shapes(one, nets_a[name])
        note_shapes(other, nets_b[name])
        for key in _graphs(one, other, trained):
            found.setdefault(key, []).append(name)
        if training == (None, None) and nets_a[name].phase == "TRAIN":
            training, trained = (one, other), pair_layers(one, other)
    for (layer, what), where in found.items():
        tag = "" if len(where) == len(phases) and len(phases) > 1 else f" in {', '.join(where)}"
        yield Difference(layer + tag, what)
    both_solvers = a.solver is not None and b.solver is not None
    for name in [*nets_a, *(name for name in nets_b if name not in nets_a)] if both_solvers else []:
        if name not in phases:
            yield Difference(f"{name} net", "only in A" if name in nets_a else "only in B")


def _states(a: Prototxt, b: Prototxt) -> tuple[dict[str, PhaseNet], dict[str, PhaseNet]]:
    """The nets of both files by name; of a bare net in the states of the other's solver, or in each that is named."""
    solvers = [file for file in (a, b) if file.solver is not None]
    if len(solvers) == 2 or not (a.staged or b.staged):
        nets = [{net.name: net for net in file.phases} for file in (a, b)]
        return nets[0], nets[1]
    states = {net.name: net.state for net in solvers[0].phases} if solvers else _named_states(a, b)
    built = [
        {
            name: (net_in_state(file.layers, state, file.path, name) if file.solver is None else _named(file, name))
            for name, state in states.items()
        }
        for file in (a, b)
    ]
    return built[0], built[1]


def _named(file: Prototxt, name: str) -> PhaseNet:
    return next(net for net in file.phases if net.name == name)


def _named_states(a: Prototxt, b: Prototxt) -> dict[str, Any]:
    """The states that tell apart what the rules of two bare nets tell apart, by name: ``TEST (stage val)``."""
    rules = [r for file in (a, b) for one in file.layers for r in (*one.message.include, *one.message.exclude)]
    stages = list(dict.fromkeys(stage for rule in rules for stage in (*rule.stage, *rule.not_stage)))
    together = [tuple(rule.stage) for rule in rules if len(rule.stage) > 1]
    levels = sorted({0, *(rule.min_level for rule in rules), *(rule.max_level for rule in rules)})
    states: dict[str, Any] = {}
    choices = dict.fromkeys([(), *((stage,) for stage in stages), *together])
    for base, chosen, level in itertools.product(a.phases, choices, levels):
        state = type(base.state)()
        state.CopyFrom(base.state)
        state.stage.extend(chosen)
        state.level = level
        words = ", ".join([*(f"stage {stage}" for stage in chosen), *([f"level {level}"] if level else [])])
        states[f"{base.name} ({words})" if words else base.name] = state
    return states


def _graphs(
    a: Graph, b: Graph, trained: Mapping[Vertex, Vertex], *, training_branches: bool = False
) -> Iterator[tuple[str, str]]:
    """(layer, what differs) for each difference between two graphs; ``trained`` pairs those of the training nets."""
    if a.form == b.form:
        return
    partner = pair_layers(a, b, trained)
    partners = set(partner.values())
    aside = _training_only(a, partner) if training_branches else set()
    for left, right in in_order(a, b, partner):
        if left is not None and right is not None:
            for what in _pair(left, right, partner, partners):
                yield left.label, what
            yield from _weights(left, right, trained)
            continue
        for lone, side in ((left, "A"), (right, "B")):
            if lone is not None and lone not in aside:
                after = ", ".join(bottom.name for bottom, _ in lone.bottoms)
                yield lone.label, f"only in {side}" + (f", after {after}" if after else "")


def _training_only(graph: Graph, partner: dict[Vertex, Vertex]) -> set[Vertex]:
    """The layers that feed none that the other net has: of a branch that is there for a loss."""
    needed: set[Vertex] = set()
    for vertex in reversed(graph.vertices):
        if vertex in partner or vertex in needed:
            needed |= {bottom for bottom, _ in vertex.bottoms}
    return {vertex for vertex in graph.vertices if vertex not in partner and vertex not in needed}


def _pair(a: Vertex, b: Vertex, partner: dict[Vertex, Vertex], partners: set[Vertex]) -> Iterator[str]:
    if a.type != b.type:
        yield f"type {a.type} -> {b.type}"
    else:
        ours, theirs = settings_of(a, b)
        if any(name in ours and ours[name] != theirs.get(name) for name in ours if name.endswith(_SWITCHES)):
            # What only one side has, it has because of the switch: that is told, its consequences are not.
            both = ours.keys() & theirs.keys()
            ours, theirs = ({name: one[name] for name in both} for one in (ours, theirs))
        for difference in _settings("", ours, theirs):
            yield difference.what
    for index in sorted(a.shared.keys() | b.shared.keys()):
        owner, mate = a.shared.get(index), b.shared.get(index)
        if (None if owner is None else (partner.get(owner[0]), owner[1])) != mate:
            one, other = _owner(owner), _owner(mate)
            yield f"param[{index}] shared with {one} -> {other}" + (" of another place" if one == other else "")
    yield from _bottoms(a, b, partner, partners)


def _weights(a: Vertex, b: Vertex, trained: Mapping[Vertex, Vertex]) -> Iterator[tuple[str, str]]:
    """Where two layers of test nets have other weights than each other: Caffe gives them those of TRAIN by name."""
    one, other = a.trained, b.trained
    if one is other or (one is not None and trained.get(one) is other):
        return
    if one is None or other is None or one in trained or other in trained.values():  # else TRAIN tells it
        names = [f"those of {v.name} in TRAIN" if v is not None else "none of TRAIN's" for v in (one, other)]
        yield a.label, f"weights {names[0]} -> {names[1]}"


def _owner(shared: tuple[Vertex, int] | None) -> str:
    return "none" if shared is None else f"param[{shared[1]}] of {shared[0].name}"


def _bottoms(a: Vertex, b: Vertex, partner: dict[Vertex, Vertex], partners: set[Vertex]) -> Iterator[str]:
    if len(a.bottoms) != len(b.bottoms):
        yield f"{len(a.bottoms)} bottoms -> {len(b.bottoms)}"
    ours = [{(partner.get(v, v), top) for v, top in _sources(one, i, partner)} for one, i in a.bottoms]
    theirs = [_sources(other, j, partners) for other, j in b.bottoms]
    if _any_order(a) and _any_order(b) and _matched(ours, theirs):
        return
    wrong = [
        slot
        for slot, (one, other) in enumerate(zip(ours, theirs, strict=False))
        if one.isdisjoint(other) and not a.bottoms[slot][0].type == b.bottoms[slot][0].type == "?"
    ]
    if len(wrong) > 1 and len(a.bottoms) == len(b.bottoms) and _matched(ours, theirs):
        orders = [", ".join(_source(vertex, top) for vertex, top in one.bottoms) for one in (a, b)]
        yield f"bottoms in another order: {orders[0]} -> {orders[1]}"
        return
    for slot in wrong:
        (one, i), (other, j) = a.bottoms[slot], b.bottoms[slot]
        yield f"bottom from {_source(one, i, other)} -> from {_source(other, j, one)}"


def _any_order(vertex: Vertex) -> bool:
    """Whether a layer computes the same whatever the order of its bottoms."""
    return vertex.type == "Eltwise" and not vertex.settings.get("eltwise_param.coeff")


def _matched(ours: list[set[tuple[Vertex, int]]], theirs: list[set[tuple[Vertex, int]]]) -> bool:
    left = list(theirs)
    for one in ours:
        mate = next((other for other in left if not one.isdisjoint(other)), None)
        if mate is None:
            return False
        left.remove(mate)
    return not left


def _source(vertex: Vertex, top: int, other: Vertex | None = None) -> str:
    """A bottom's layer by name; with its type and its top where the other side has the same name."""
    if top == 0 and (other is None or vertex.name != other.name):
        return vertex.name
    kind = f" ({vertex.type})" if other is not None and vertex.type != other.type else ""
    place = f" at place {vertex.number}" if other is not None and not kind and vertex.number != other.number else ""
    return f"{vertex.name}{kind}{place}" if kind or (place and top == 0) else f"top {top} of {vertex.name}"


def _sources(vertex: Vertex, index: int, known: Container[Vertex]) -> set[tuple[Vertex, int]]:
    """Where a bottom comes from, past layers that only one of the two nets has."""
    if vertex in known or not vertex.bottoms:
        return {(vertex, index)}
    return set().union(*(_sources(bottom, top, known) for bottom, top in vertex.bottoms))
