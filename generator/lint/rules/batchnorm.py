"""Rules on BatchNorm: its Scale, its statistics, and dropout behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caffebench.generator.lint.facts import graph, learns
from caffebench.generator.lint.registry import Hit, named, rule
from caffebench.generator.meaning import Graph, Layer, PhaseNet, Prototxt, Vertex

# Layers behind which a linear layer can still take over the scale and shift of a BatchNorm.
_PASSING = {"Dropout", "Pooling", "Concat", "Flatten", "Reshape", "Slice", "LRN", "Crop"}
_LINEAR = {"Convolution", "Deconvolution", "InnerProduct", "Bias"}
# Layers between a BatchNorm and a Dropout that leave them one block: everything without weights to learn from.
_BLOCK = {"Scale", "Bias", "ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "Swish", "Pooling", "Concat", "Flatten", "LRN"}
_MOST_DROPOUT = 0.2


def _readers(net: Graph) -> dict[Vertex, list[Vertex]]:
    readers: dict[Vertex, list[Vertex]] = {vertex: [] for vertex in net.vertices}
    for vertex in net.vertices:
        for bottom, _ in vertex.bottoms:
            if bottom in readers:
                readers[bottom].append(vertex)
    return readers


def _lacks_scale(vertex: Vertex, readers: dict[Vertex, list[Vertex]]) -> bool:
    """Whether no layer can learn the scale and shift of what ``vertex`` puts out before it is bent."""
    for reader in readers[vertex]:
        if reader.type == "Scale":
            if not reader.settings["scale_param.bias_term"] and _lacks_scale(reader, readers):
                return True
        elif reader.type in _PASSING:
            if _lacks_scale(reader, readers):
                return True
        elif reader.type not in _LINEAR:
            return True
    return not readers[vertex]


@rule(
    "batchnorm-scale",
    "note",
    why="Caffe's BatchNorm only normalizes: without Scale (bias_term: true) the activation cannot learn where to bend"
    " (published for CaffeNet128: 0.474 without, 0.478 with)",
)
def batchnorm_scale(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A BatchNorm without its Scale, where no linear layer behind it can stand in for one."""
    found: dict[str, Layer] = {}
    for net in [net for net in file.phases if net is learns(file)]:
        readers = _readers(graph(net))
        for vertex in graph(net).vertices:
            if vertex.type == "BatchNorm" and vertex.layer is not None and _lacks_scale(vertex, readers):
                found.setdefault(vertex.name, vertex.layer)
    bare = list(found.values())
    if bare:
        yield Hit(
            "no Scale with bias_term: true between BatchNorm and what reads it",
            'layer { type: "Scale" scale_param { bias_term: true } } behind each',
            named(bare),
            bare[0].node,
            bare[0].path,
        )


@rule(
    "batchnorm-learns",
    "error",
    why="mean and variance are counted, not learned: Caffe stops: 'Cannot configure batch normalization statistics'",
)
def batchnorm_learns(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A BatchNorm whose statistics have a learning rate (``lr_mult`` not 0, or an empty ``param {}``).

    Three ``param`` are a form of old: Caffe then sets their rates to 0 itself.
    """
    learning = []
    for layer in file.layers:
        if layer.type == "BatchNorm" and any(spec.lr_mult for spec in layer.message.param):
            learning.append(layer)
    if learning:
        fix = "param { lr_mult: 0 decay_mult: 0 } three times, or no param at all"
        yield Hit(
            "lr_mult of the statistics is not 0", fix, named(learning), learning[0].node.at("param"), learning[0].path
        )


@rule(
    "batchnorm-statistics",
    "error",
    why="the statistics of the batch in TEST: a result hangs on which images share its batch",
)
def batchnorm_statistics(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``use_global_stats`` is false in TEST, or true in TRAIN: a note where the layers are frozen to be fine-tuned."""
    for net in file.phases:
        wrong: list[Layer] = [
            vertex.layer
            for vertex in graph(net).vertices
            if vertex.type == "BatchNorm"
            and vertex.layer is not None
            and vertex.settings["batch_norm_param.use_global_stats"] == (net.phase == "TRAIN")
        ]
        if not wrong:
            continue
        train = net.phase == "TRAIN"
        tuned = train and _is_frozen(net, wrong)
        why = "no statistics are gathered: trained from the start, nothing is normalized" if train else ""
        yield Hit(
            f"use_global_stats is {str(train).lower()} in {net.phase}",
            "leave use_global_stats out: Caffe then chooses by phase",
            named(wrong),
            wrong[0].node.at("batch_norm_param.use_global_stats"),
            wrong[0].path,
            severity="note" if tuned else ("warning" if train else None),
            why="frozen for fine-tuning: right where the weights are loaded, wrong where they are not"
            if tuned
            else why,
        )


def _is_frozen(net: PhaseNet, layers: Sequence[Layer]) -> bool:
    """Whether a net's BatchNorms are held still on purpose: what scales one of them has no learning rate either."""
    if any(layer.type == "Python" for layer in net.layers):
        return True  # trained by a program, which loads what it resumes from
    for vertex in graph(net).vertices:
        if vertex.type == "Scale" and any(bottom.layer in layers for bottom, _ in vertex.bottoms):
            rates = [value for name, value in vertex.settings.items() if name.endswith(".lr_mult")]
            if not any(rates):
                return True
    return False


@rule(
    "dropout-after-batchnorm",
    "note",
    why="BatchNorm regularizes already, both together are too much"
    " (published for CaffeNet128: 0.499 with dropout 0.5, 0.527 with 0.2, 0.513 without)",
)
def dropout_after_batchnorm(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Dropout of more than 0.2 behind a BatchNorm, with no layer of weights between."""
    found: dict[str, Layer] = {}
    ratios = set()
    for net in file.phases:
        for vertex in graph(net).vertices:
            ratio = vertex.settings.get("dropout_param.dropout_ratio", 0.0)
            if ratio > _MOST_DROPOUT + 1e-6 and vertex.layer is not None and _behind_batchnorm(vertex):
                found.setdefault(vertex.name, vertex.layer)
                ratios.add(f"{ratio:.3g}")
    layers = list(found.values())
    if layers:
        yield Hit(
            f"dropout_ratio {' and '.join(sorted(ratios))} behind a BatchNorm",
            f"dropout_ratio: {_MOST_DROPOUT} or no dropout",
            named(layers),
            layers[0].node,
            layers[0].path,
        )


def _behind_batchnorm(vertex: Vertex) -> bool:
    for bottom, _ in vertex.bottoms:
        if bottom.type == "BatchNorm" or (bottom.type in _BLOCK and _behind_batchnorm(bottom)):
            return True
    return False
