"""Starting from the weights of another training, and telling which layers took part in that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caffebench.common.events import CopiedWeights, WeightsEvent
from caffebench.launcher.state.weights import check_shapes, read_weights

__all__ = ["describe_weights", "load_weights"]

SHOWN = 6
"""Layers that are named of a longer list."""


def load_weights(caffe: Any, net: Any, names: tuple[str, ...]) -> WeightsEvent:
    """Copy layers by their names from ``.caffemodel`` files, as Caffe does: the event that lists them.

    Raises ``InputError`` where a layer of the same name has other shapes, or no layer is common to both.
    """
    at_start, files = list(net.params), []
    for name in names:
        check_shapes(net, Path(name), must_all_fit=False)
        saved = read_weights(Path(name)).shapes
        caffe.log(f"Finetuning from {name}")
        net.copy_from(name)
        copied = tuple(layer for layer in net.params if layer in saved)
        at_start = [layer for layer in at_start if layer not in copied]
        files.append(CopiedWeights(name, copied, tuple(one for one in saved if one not in net.params)))
    return WeightsEvent(tuple(files), tuple(at_start))


def describe_weights(event: WeightsEvent) -> list[str]:
    """What the event of ``load_weights`` says, a sentence for each file."""
    sentences = []
    for place, file in enumerate(event.files, 1):
        parts = [f"copied {_list(file.copied)}"]
        if file.left_out:
            parts.append(f"left out {_list(file.left_out)}, of which this net has no layer")
        if event.at_start and place == len(event.files):
            parts.append(f"left at their start {_list(event.at_start)}, which no file has")
        sentences.append(f"weights of {file.file}: {'; '.join(parts)}")
    return sentences


def _list(layers: tuple[str, ...]) -> str:
    shown = ", ".join(layers[:SHOWN]) + (", ..." if len(layers) > SHOWN else "")
    return f"{len(layers)} layer{'s' if len(layers) != 1 else ''} ({shown})"
