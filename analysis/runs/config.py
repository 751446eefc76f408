"""What a run was configured to do, recovered from the log alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from caffebench.analysis.runs.losses import Losses, printed_losses, wired_losses
from caffebench.analysis.runs.text_format import Message, first, is_whole, parse, parts
from caffebench.common.caffe_facts import IMAGENET_CLASSES, IMAGENET_TRAIN

__all__ = ["NO_NET", "TRAIN_SIZES", "BuiltNet", "Config", "read_config"]

TRAIN_SIZES = {IMAGENET_CLASSES: IMAGENET_TRAIN}
"""Number of classes -> training images, where the number of classes says it: ILSVRC 2012 only."""


_OF_ONE_RUN = (
    *("random_seed", "device_id", "solver_mode", "debug_info", "display", "net_param"),
    *("snapshot", "snapshot_after_train", "snapshot_diff", "snapshot_format", "snapshot_prefix"),
)
"""Fields of the solver in which runs of one group may differ, and the net, which is looked at apart."""
_GLOG_LIMIT = 30_000  # characters at which glog cuts a message, with what stands before this text


@dataclass(frozen=True)
class Config:
    """The configuration of a run; None (or an empty message) where the log does not say.

    ``batch_size`` is what one solver iteration sees of one process: images a forward times ``iter_size`` times GPUs.
    """

    batch_size: int | None = None
    iter_size: int = 1
    gpus: int = 1
    max_iter: int | None = None
    base_lr: float | None = None
    display: int | None = None
    average_loss: int = 1
    test_iter: tuple[int, ...] = ()
    test_interval: int | None = None
    test_batch_size: int | None = None
    snapshot_prefix: str | None = None
    classes: int | None = None
    guessing: float | None = None
    """The training loss of a net that guesses (``losses.Losses``)."""
    losses_told: bool = False
    """The log tells the losses of the net, ``guessing`` or that it cannot be compared."""
    train_source: str | None = None
    train_images: int | None = None
    """Images of an epoch, where a layer counted them (``ImageData``)."""
    solver: Message = field(default_factory=dict)
    """Every field of the solver block (``net_param`` included where the log has it)."""
    net: Message = field(default_factory=dict)
    """The net: ``net_param``, or the block after ``Initializing net from parameters``."""
    net_key: str = "{}"
    """A text that is the same of equal nets."""
    test_key: str | None = ""
    """The same of the test nets, as they were built; None where glog cut one."""
    cut: bool = False
    """The log has only the beginning of solver or net."""
    iter_size_lost: bool = False
    """Where the log should tell ``iter_size`` it is cut."""

    @cached_property
    def solver_key(self) -> str:
        """A text that is the same of solvers that differ in their seed at most, and in what changes no weights."""
        return str(sorted((key, some) for key, some in self.solver.items() if key not in _OF_ONE_RUN))

    @property
    def test_images(self) -> int | None:
        """Images of one test of the first test net."""
        return self.test_iter[0] * self.test_batch_size if self.test_iter and self.test_batch_size else None


_COUNTED = re.compile(rb"image_data_layer\.cpp:\d+\] A total of (\d{1,12}) images")


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == number and abs(number) < 2**53 else None


def _layers(net: Message) -> list[Message]:
    """Layers in order; ``layers`` is the field's name in the first format of Caffe (V1)."""
    return [one for name in ("layer", "layers") for one in net.get(name, []) if isinstance(one, dict)]


def _in_phase(layer: Message, phase: str) -> bool:
    included, excluded = (
        [first(rule, "phase") for rule in layer.get(name, []) if isinstance(rule, dict)]
        for name in ("include", "exclude")
    )
    return phase in included if included else phase not in excluded


def _batch_and_source(layers: list[Message], phase: str) -> tuple[int | None, str | None]:
    """The batch size is in ``data_param``, ``image_data_param``, ``hdf5_data_param``...: whichever has one."""
    for layer in layers:
        if not _in_phase(layer, phase):
            continue
        for name, values in layer.items():
            for value in values:
                if name.endswith("_param") and isinstance(value, dict) and "batch_size" in value:
                    source = first(value, "source")
                    return _integer(first(value, "batch_size")), source if isinstance(source, str) else None
    return None, None


class BuiltNet(NamedTuple):
    """A net that Caffe says it built."""

    text: str = ""
    """The net without the layers of other phases, in text format, whole or cut."""
    wiring: bytes = b""
    """The lines that Caffe writes while it sets the net up."""


NO_NET = BuiltNet()


def read_config(
    solver_text: str,
    train: BuiltNet = NO_NET,
    tests: tuple[BuiltNet, ...] = (),
    gpus: int = 1,
    settings: str = "",
) -> Config:
    """Recover the configuration from the solver block of a log, and from the training net and the test nets as built.

    ``solver_text`` is protobuf text, whole or cut; ``gpus`` is the number of GPUs of the session. What is printed of a
    net counts before what the solver has of it, and the lines of its setting up count where both are cut (glog cuts a
    message at 30,000 characters). ``settings`` is the solver without its net, as our launcher tells it: it has what
    stands behind a net that is cut. Any text is taken.
    """
    config = _printed(solver_text, train.text, tuple(one.text for one in tests), gpus, settings)
    if config.batch_size is None or not config.losses_told:
        wired = wired_losses(train.wiring)
        batch_size = config.batch_size or (wired.images or 0) * config.iter_size * gpus or None
        config = replace(config, batch_size=batch_size, classes=config.classes or wired.classes)
        if not config.losses_told:
            config = replace(config, guessing=wired.guessing, losses_told=wired.told)
    if (counted := _COUNTED.search(train.wiring)) is not None:
        config = replace(config, train_images=int(counted[1]))
    if config.test_batch_size is None and config.test_iter and tests:
        config = replace(config, test_batch_size=wired_losses(tests[0].wiring).images)
    return config


class _Net(NamedTuple):
    """What a net says, which many runs of a folder have."""

    message: Message
    key: str
    images: int | None
    source: str | None
    test_images: int | None
    losses: Losses


@lru_cache(maxsize=64)
def _net(text: str) -> _Net:
    return _net_facts(parse(text))


def _net_facts(net: Message) -> _Net:
    layers = _layers(net)
    images, source = _batch_and_source(layers, "TRAIN")
    test_images, _ = _batch_and_source(layers, "TEST")
    key = json.dumps(net, sort_keys=True, default=str)
    trained = [one for one in layers if _in_phase(one, "TRAIN")]
    return _Net(net, key, images, source, test_images, printed_losses(trained))


def _is_cut(text: str) -> bool:
    """Whether there was more: a message has no end, or it is as long as glog lets one be."""
    return not is_whole(text) or _GLOG_LIMIT - 300 < len(text) <= _GLOG_LIMIT


@lru_cache(maxsize=16)
def _printed(solver_text: str, train_text: str, test_texts: tuple[str, ...], gpus: int, settings: str) -> Config:
    """What the texts say; what several sessions or runs have in common is read once."""
    solver, cut = parse(solver_text), _is_cut(solver_text)
    if cut and settings:
        solver = {**parse(settings), **solver}
    net = built = _net(train_text)
    inside = first(solver, "net_param") or first(solver, "train_net_param")
    if isinstance(inside, dict) and _layers(inside):
        apart = parts(solver_text)[1]
        net = _net(apart) if apart and parse(apart) is inside else _net_facts(inside)
    images = built.images or net.images
    built_cut = _is_cut(train_text)
    losses = built.losses if built.losses.told else net.losses
    iter_size = max(1, _integer(first(solver, "iter_size")) or 1)
    prefix = first(solver, "snapshot_prefix")
    return Config(
        batch_size=images * iter_size * gpus if images is not None and images > 0 else None,
        iter_size=iter_size,
        gpus=gpus,
        max_iter=_integer(first(solver, "max_iter")),
        base_lr=_number(first(solver, "base_lr")),
        display=_integer(first(solver, "display")),
        average_loss=_integer(first(solver, "average_loss")) or 1,
        test_iter=tuple(n for n in map(_integer, solver.get("test_iter", [])) if n is not None),
        test_interval=_integer(first(solver, "test_interval")),
        test_batch_size=(_net(test_texts[0]).test_images if test_texts else None) or net.test_images,
        snapshot_prefix=prefix if isinstance(prefix, str) else None,
        classes=losses.classes,
        guessing=losses.guessing,
        losses_told=losses.told and not (built_cut if built.losses.told else cut),
        train_source=built.source or net.source,
        solver=solver,
        net=net.message,
        net_key=net.key,
        test_key=None if any(map(_is_cut, test_texts)) else "".join(_net(one).key for one in test_texts),
        cut=cut or built_cut,
        iter_size_lost=cut and not settings,
    )
