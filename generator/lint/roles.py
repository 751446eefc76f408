"""What a file is: solver, deploy net, one half of a pair, one stage; and the nets in which it is therefore judged."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from caffebench.common.errors import CaffebenchError
from caffebench.generator.meaning import Layer, PhaseNet, Prototxt, load_prototxt, net_in_state

__all__ = ["has_loss", "is_data", "is_deploy", "judged", "read_as"]

_FED = {"Input", "Parameter", "DummyData"}
_NAMES_NET = re.compile(r'^\s*(?:train_net|test_net|net)\s*:\s*["\']([^"\']+)["\']', re.MULTILINE)
_ENDS = (".prototxt", ".pt", ".txt")
_MOST_SIBLINGS, _LARGEST_SIBLING = 200, 100_000


def is_data(layer: Layer) -> bool:
    """Whether a layer brings data of its own into the net."""
    return not layer.message.bottom and layer.type not in _FED and bool(layer.message.top)


def has_loss(layers: Iterable[Layer]) -> bool:
    """Whether any of the layers is a loss, or may be one that only a fork knows."""
    return any(layer.type.endswith("Loss") or any(layer.message.loss_weight) for layer in layers)


def is_deploy(net: PhaseNet) -> bool:
    """Whether a net is one for inference: fed from outside, and without a loss."""
    return not any(map(is_data, net.layers)) and not has_loss(net.layers)


def judged(file: Prototxt, files: Sequence[Prototxt]) -> Prototxt:
    """The file with just the nets that Caffe builds of it: those of the solver that names it, or of its own role."""
    if file.solver is not None or not file.layers:
        return file
    users = list(_users(file, files))
    if users:
        nets = [net for user in users for net in user.phases if _same(net.path, file.path)]
        return replace(file, phases=[replace(net, path=file.path) for net in nets], home=users[0].home)
    return replace(file, phases=list(_own_nets(file)))


def read_as(file: Prototxt, files: Sequence[Prototxt]) -> str:
    """What a file was taken for, in words: ``deploy net, judged in TEST``."""
    phases = " and ".join(_with_stages(net) for net in file.phases) or "no phase"
    if file.solver is not None:
        nets = list(dict.fromkeys(str(net.path) for net in file.phases if net.path != file.path))
        return f"solver with {' and '.join(nets) or 'its net inside'}, judged in {phases}"
    users = list(dict.fromkeys(str(user.path) for user in _users(file, files)))
    if users:
        return f"net of {', '.join(users)}, judged in {phases}"
    kinds = {net.phase for net in file.phases}
    if file.phases and all(map(is_deploy, file.phases)):
        kind = "deploy net"
    elif kinds == {"TRAIN", "TEST"}:
        kind = "train_val net"
    else:
        kind = {"TRAIN": "training net", "TEST": "test net"}["".join(kinds) or "TEST"]
    return f"{kind}, judged in {phases}"


def _with_stages(net: PhaseNet) -> str:
    stages = [f"stage {stage}" for stage in net.state.stage] if net.state is not None else []
    level = [f"level {net.state.level}"] if net.state is not None and net.state.level else []
    more = ", ".join([*stages, *level])
    return f"{net.phase} ({more})" if more else net.phase


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _users(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Prototxt]:
    """The solvers that name a net: those given with it, else those in its folder."""
    given = [one for one in files if one.solver is not None and any(_same(net.path, file.path) for net in one.phases)]
    yield from given or _siblings(file)


def _siblings(file: Prototxt) -> Iterator[Prototxt]:
    for place, names in _solvers_in(file.path.parent):
        if file.path.name in names and place != file.path:
            try:
                solver = load_prototxt(place)
            except CaffebenchError:
                continue
            if any(_same(net.path, file.path) for net in solver.phases):
                yield solver


@cache
def _solvers_in(folder: Path) -> tuple[tuple[Path, frozenset[str]], ...]:
    """The files of a folder that name nets, each with the bare names of those."""
    found = []
    for place in [place for end in _ENDS for place in sorted(folder.glob(f"*{end}"))][:_MOST_SIBLINGS]:
        if place.is_file() and place.stat().st_size <= _LARGEST_SIBLING:
            names = frozenset(Path(name).name for name in _NAMES_NET.findall(place.read_text(errors="replace")))
            if names:
                found.append((place, names))
    return tuple(found)


def _own_nets(file: Prototxt) -> Iterator[PhaseNet]:
    """The nets that a bare file can stand for, by what feeds it in each phase and stage."""
    nets = [net for net in (_in_states(file) if file.staged else file.phases) if _is_whole(net)]
    if not nets:
        return
    own = file.root.at("state.phase").text
    if own in ("TRAIN", "TEST"):
        nets = [net for net in nets if net.phase == own]
    elif all(map(is_deploy, nets)):
        nets = [net for net in nets if net.phase == "TEST"]
    elif any(any(map(is_data, net.layers)) for net in nets):
        nets = [net for net in nets if any(map(is_data, net.layers)) or (file.staged and is_deploy(net))]
        if len(nets) == 2 and not file.staged and [*nets[0].layers] == [*nets[1].layers]:
            hint = _phase_in_name(file.path.stem)
            nets = [net for net in nets if hint in (None, net.phase)]
    if file.staged:  # a deploy net in TRAIN is nobody's
        nets = [net for net in nets if net.phase == "TEST" or not is_deploy(net)]
    yield from nets


def _phase_in_name(stem: str) -> str | None:
    """The phase that the name of one half of a pair says."""
    train = re.search(r"(?<![a-z])(?:train|trn)", stem, re.IGNORECASE)
    test = re.search(r"(?<![a-z])(?:test|val|tst)", stem, re.IGNORECASE)
    return None if bool(train) == bool(test) else ("TRAIN" if train else "TEST")


def _is_whole(net: PhaseNet) -> bool:
    """Whether something feeds the net in this state: a source, and not bottoms that only another state makes."""
    return any(not layer.message.bottom and layer.message.top for layer in net.layers)


def _in_states(file: Prototxt) -> Iterator[PhaseNet]:
    """The nets of a staged file in each phase, with no stage and with each alone, at each level that is named."""
    rules: list[Any] = [rule for layer in file.layers for rule in (*layer.message.include, *layer.message.exclude)]
    stages = list(dict.fromkeys(stage for rule in rules for stage in (*rule.stage, *rule.not_stage)))
    levels = list(dict.fromkeys([0, *(rule.min_level for rule in rules), *(rule.max_level for rule in rules)]))
    told: set[tuple[int, ...]] = set()
    for base, stage, level in itertools.product(file.phases, ["", *stages], levels):
        state = type(base.state)()
        state.CopyFrom(base.state)
        state.level = level
        if stage:
            state.stage.append(stage)
        net = net_in_state(file.layers, state, file.path, base.phase)
        key = (state.phase, *map(id, net.layers))
        made = {top for layer in net.layers for top in layer.message.top}
        if key not in told and all(bottom in made for layer in net.layers for bottom in layer.message.bottom):
            told.add(key)
            yield net
