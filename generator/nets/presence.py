"""In which nets a layer is: those that a solver builds of its file, and those of other stages and levels in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from caffebench.common.netstate import included

__all__ = ["PHASES", "Presence", "keep_to_phase"]

PHASES = ("TRAIN", "TEST")


class Presence:
    """The layers of a solver's nets and where each is. A net is a number here; its layers are told by ``id``."""

    def __init__(self, parts: Iterable[tuple[Sequence[Any], Sequence[Any]]], new_state: Any) -> None:
        """``parts``: layers of a file with each ``NetState`` that the solver builds; ``new_state``: the class."""
        self._nets: list[tuple[int, Any]] = []  # the part that a net is of, and its state
        self._built: set[int] = set()
        self._layers: dict[int, tuple[Any, int]] = {}  # the layer too, or its id could come again
        self._known: dict[int, tuple[frozenset[int], frozenset[int]]] = {}  # asked often, so it is kept
        for part, (layers, states) in enumerate(parts):
            self._layers |= {id(layer): (layer, part) for layer in layers}
            self._built |= set(range(len(self._nets), len(self._nets) + len(states)))
            others = [state for state in _named_states(layers, new_state) if state not in states]
            self._nets += [(part, state) for state in (*states, *others)]

    @property
    def built(self) -> list[int]:
        """The nets that the solver builds."""
        return sorted(self._built)

    def phase(self, net: int) -> str:
        """``TRAIN`` or ``TEST``."""
        return PHASES[self._nets[net][1].phase]

    def part(self, layer: Any) -> int:
        """The number of the part that a layer is of."""
        return self._layers[id(layer)][1]

    def add(self, layers: Iterable[Any], like: Any) -> None:
        """Take in new layers, of the same part as ``like``."""
        for layer in layers:
            self._layers.setdefault(id(layer), (layer, self.part(like)))

    def everywhere(self, layer: Any) -> frozenset[int]:
        """The nets that a layer is in, also those of stages that the solver does not build."""
        return self._of(layer)[0]

    def nets(self, layer: Any) -> frozenset[int]:
        """The nets with this layer that the solver builds."""
        return self._of(layer)[1]

    def _of(self, layer: Any) -> tuple[frozenset[int], frozenset[int]]:
        if id(layer) not in self._known:
            part, nets = self.part(layer), enumerate(self._nets)
            found = frozenset(number for number, (of, state) in nets if of == part and included(layer, state))
            self._known[id(layer)] = (found, found & self._built)
        return self._known[id(layer)]


def _named_states(layers: Sequence[Any], new_state: Any) -> Iterator[Any]:
    """Every phase with no stage and with each alone, at each level, where rules of the layers name such."""
    rules = [rule for layer in layers for rule in (*layer.include, *layer.exclude)]
    stages = dict.fromkeys(stage for rule in rules for stage in (*rule.stage, *rule.not_stage))
    levels = {rule.min_level for rule in rules} | {rule.max_level for rule in rules} | {0}
    if stages or levels != {0}:
        for phase, stage, level in itertools.product(range(len(PHASES)), [[], *([one] for one in stages)], levels):
            yield new_state(phase=phase, level=level, stage=stage)


def keep_to_phase(layer: Any, phase: str) -> None:
    """Narrow a layer's rules to one of the phases that it is in. Caffe takes include or exclude rules, not both."""
    number = PHASES.index(phase)
    if layer.exclude:
        layer.exclude.add(phase=1 - number)
        return
    rules = [rule for rule in layer.include if not rule.HasField("phase") or rule.phase == number]
    kept = [type(rule).FromString(rule.SerializeToString()) for rule in rules]
    del layer.include[:]
    layer.include.extend(kept)
    for rule in layer.include or [layer.include.add()]:
        rule.phase = number
