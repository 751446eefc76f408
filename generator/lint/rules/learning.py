"""Rules on what Caffe runs without a word and what does not learn, or not what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from caffebench.generator.lint.facts import batch_size, data_layers, graph, learns
from caffebench.generator.lint.registry import Hit, named, of_layer, rule
from caffebench.generator.lint.roles import has_loss
from caffebench.generator.meaning import LAYER_TYPES, Layer, PhaseNet, Prototxt, Vertex, layer_settings, parameter_count

_WEIGHTED = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "Embed": "embed_param",
    "RNN": "recurrent_param",
    "LSTM": "recurrent_param",
}
_PROBABILITIES = {"Softmax": "SoftmaxWithLoss", "Sigmoid": "SigmoidCrossEntropyLoss"}
_SCALE_FREE = {"AdaGrad", "RMSProp", "AdaDelta", "Adam"}


def _starts_at_zero(layer: Layer) -> bool:
    """Whether all weights of a layer are filled with 0, which is what Caffe does where nothing is said."""
    if layer.type not in _WEIGHTED:
        return False
    filler = getattr(layer.message, _WEIGHTED[layer.type]).weight_filler
    return bool(filler.type == "constant" and filler.value == 0)


def _frozen(layer: Layer) -> bool:
    rates = [value for name, value in layer_settings(layer, "TRAIN").items() if name.endswith(".lr_mult")]
    return bool(rates) and not any(rates)


def _filled_elsewhere(file: Prototxt, net: PhaseNet) -> bool:
    """Whether the weights come from elsewhere: a model to fine-tune, our initializers, a program around the net."""
    python = any(layer.type == "Python" for layer in net.layers)
    return file.loads_weights or bool(file.header.get("init")) or python


@rule("zero-weights", "warning", why="all its outputs and gradients are 0 for ever: what lies before it cannot learn")
def zero_weights(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Weights that start at 0 (no ``weight_filler``) before a ReLU or before other such weights.

    The last layer of weights alone may start at 0: its gradient is not. Weights that are loaded (``weights``, a
    net around which a Python program is written) are no matter of fillers.
    """
    net = learns(file)
    if net is None or _filled_elsewhere(file, net):
        return
    vertices = graph(net).vertices
    zero = [v for v in vertices if v.layer is not None and _starts_at_zero(v.layer)]
    stuck = [v.layer for v in zero if v.layer is not None and _blocks(v, vertices)]
    if stuck:
        stuck = [v.layer for v in zero if v.layer is not None]
        name = _WEIGHTED[stuck[0].type]
        fix = f'{name} {{ weight_filler {{ type: "xavier" }} }}, or "msra" before a ReLU'
        yield Hit("weights start at 0: no weight_filler", fix, named(stuck), stuck[0].node.at(name), stuck[0].path)


def _blocks(vertex: Vertex, vertices: list[Vertex]) -> bool:
    """Whether what a layer of zero weights puts out goes through a ReLU or through other weights of 0."""
    behind, waiting = set(), [vertex]
    while waiting:
        current = waiting.pop()
        for other in vertices:
            if other not in behind and any(bottom is current for bottom, _ in other.bottoms):
                if other.type == "ReLU" or (other.layer is not None and _starts_at_zero(other.layer)):
                    return True
                behind.add(other)
                if other.type not in _WEIGHTED:
                    waiting.append(other)
    return False


@rule(
    "equal-weights", "warning", why="all outputs of the layer compute the same and get the same gradient: they stay one"
)
def equal_weights(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Weights that all start at one value other than 0, in a layer of several outputs that learns."""
    net = learns(file)
    if net is None or _filled_elsewhere(file, net):
        return
    for layer in net.layers:
        inner: Any = getattr(layer.message, _WEIGHTED.get(layer.type, "convolution_param"))
        filler = inner.weight_filler
        equal = layer.type in _WEIGHTED and filler.type == "constant" and filler.value and inner.num_output > 1
        grouped = layer.type in ("Convolution", "Deconvolution") and inner.group > 1
        if equal and not grouped and not _frozen(layer):
            path = f"{_WEIGHTED[layer.type]}.weight_filler"
            yield of_layer(layer, f"all weights start at {filler.value:g}", 'type: "xavier" or "msra"', path)


@rule(
    "zero-rate", "warning", why="the learning rate is 0, from the start or from the first drop on: nothing is learned"
)
def zero_rate(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """No ``base_lr``, or no ``gamma`` where the policy multiplies by it."""
    solver = file.solver
    if solver is None:
        return
    if not solver.base_lr > 0:
        what = f"base_lr {solver.base_lr:g}" if solver.HasField("base_lr") else "no base_lr, which is 0"
        yield Hit(what, "base_lr: 0.01, or what the net needs", node=file.root.at("base_lr"))
    if solver.lr_policy in ("step", "multistep", "exp") and not solver.gamma:
        what = f"lr_policy {solver.lr_policy} without a gamma, which is 0"
        yield Hit(what, "gamma: 0.1, or what each drop multiplies by", node=file.root.at("lr_policy"))


@rule("clip-gradients", "warning", why="every gradient is scaled to that length, 0: nothing is learned")
def clip_gradients(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``clip_gradients: 0``, which is no way to turn it off."""
    if file.solver is not None and file.solver.clip_gradients == 0:
        fix = "leave it out, or clip_gradients: 10, the length that gradients may have"
        yield Hit("clip_gradients 0", fix, node=file.root.at("clip_gradients"))


@rule("negative-rate", "warning", why="these weights are moved up the loss, away from what the net is to learn")
def negative_rate(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """An ``lr_mult`` below 0."""
    net = learns(file)
    for layer in net.layers if net is not None else ():
        rate = min((spec.lr_mult for spec in layer.message.param), default=0)
        if rate < 0:
            yield of_layer(layer, f"lr_mult {rate:g}", f"lr_mult: {-rate:g}, or 0 to freeze them", "param.lr_mult")


@rule("constant-rate", "warning", why="the learning rate never changes: it is that of lr_policy fixed")
def constant_rate(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """No ``power`` or ``gamma`` where the policy lives by it: poly, inv and sigmoid then stay at one rate."""
    solver = file.solver
    if solver is None:
        return
    node = file.root.at("lr_policy")
    lacking = [
        name
        for name in {"poly": ("power",), "inv": ("gamma", "power"), "sigmoid": ("gamma",)}.get(solver.lr_policy, ())
        if not getattr(solver, name)
    ]
    if lacking:
        what = f"lr_policy {solver.lr_policy} without {' and '.join(lacking)}, which is 0"
        yield Hit(what, f'give {" and ".join(lacking)}, or lr_policy: "fixed"', node=node)
    if solver.lr_policy in ("step", "multistep", "exp") and solver.gamma > 1:
        what = f"gamma {solver.gamma:g} makes the rate grow"
        yield Hit(what, "a gamma below 1", node=file.root.at("gamma"), why="the learning rate explodes")


@rule("momentum", "warning", why="each update is larger than the last: the loss becomes nan")
def momentum(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A momentum of 1 or more, or below 0."""
    solver = file.solver
    if solver is not None and not 0 <= solver.momentum < 1:
        yield Hit(f"momentum {solver.momentum:g}", "momentum: 0.9", node=file.root.at("momentum"))


@rule("no-iterations", "warning", why="Caffe trains for 0 iterations and says that it is done")
def no_iterations(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """No ``max_iter``. A net with Python layers may be trained by a program that counts for itself."""
    solver = file.solver
    if solver is not None and solver.max_iter <= 0:
        python = any(layer.type == "Python" for layer in file.layers)
        fix = "max_iter: the number of updates"
        yield Hit("no max_iter above 0", fix, node=file.root.at("max_iter"), severity="note" if python else None)


@rule("no-display", "warning", why="the log has no line of the training loss: whether it learns is not seen")
def no_display(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``display`` is 0 or not given. A net with Python layers may be trained by a program that prints for itself."""
    solver = file.solver
    if solver is not None and solver.display <= 0:
        python = any(layer.type == "Python" for layer in file.layers)
        yield Hit("display 0", "display: 100", node=file.root.at("display"), severity="note" if python else None)


@rule("test-interval", "warning", why="no figure of the log is that of the weights that training ends with")
def test_interval(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``test_interval`` is longer than the training, or there is no ``test_iter``; a note where it does not divide it.

    With ``test_initialization: false`` beside it a test net was meant to be there and not to be used.
    """
    solver = file.solver
    if solver is None or solver.max_iter <= 0:
        return
    node, interval, last = file.root.at("test_interval"), solver.test_interval, solver.max_iter
    tests = len(solver.test_iter)
    if interval > 0 and not tests and not solver.test_net and not solver.test_net_param:
        yield Hit(
            "test_interval without a test_iter: nothing is ever tested",
            "test_iter: test images / TEST batch_size",
            node=node,
            why="Caffe builds a test net for each test_iter, here none",
        )
    elif tests and interval > last and (solver.test_initialization or interval < 10 * last):
        what = f"test_interval {interval:,} is longer than max_iter {last:,}: nothing that was learned is tested"
        yield Hit(what, f"test_interval: {max(last // 10, 1)}", node=node)
    elif tests and 0 < interval <= last and last % interval:
        what = f"the last test is {last % interval:,} iterations before the end: test_interval {interval:,} does not"
        fix = f"a test_interval that divides {last} (run-caffe ends with a test)"
        yield Hit(f"{what} divide max_iter {last:,}", fix, node=node, severity="note")


@rule("loss-input", "warning", why="the loss applies it itself: applied twice, gradients all but vanish")
def loss_input(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Softmax before SoftmaxWithLoss, Sigmoid before SigmoidCrossEntropyLoss, or a ReLU before either."""
    for net in file.phases:
        for vertex in graph(net).vertices:
            if vertex.type not in _PROBABILITIES.values() or not vertex.bottoms or vertex.layer is None:
                continue
            before = vertex.bottoms[0][0]
            if _PROBABILITIES.get(before.type) == vertex.type:
                what = f"{before.type} {before.name} before {vertex.type}"
                fix = f"the bottom of {before.name} as the bottom of the loss"
                yield of_layer(vertex.layer, what, fix, "bottom")
            elif before.type in ("ReLU", "Softmax", "Sigmoid", "Dropout"):
                yield of_layer(
                    vertex.layer,
                    f"{before.type} {before.name} before {vertex.type}",
                    f"the bottom of {before.name} as the bottom of the loss",
                    "bottom",
                    why="scores below 0 are cut off, and once all are the net stops to learn"
                    if before.type == "ReLU"
                    else "the scores cannot become what the loss needs",
                )


@rule("all-frozen", "warning", why="no parameter has a learning rate: the weights stay as they are filled or loaded")
def all_frozen(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Every ``lr_mult`` of the training net is 0."""
    net = learns(file)
    layers = [layer for layer in net.layers if parameter_count(layer.message) != 0] if net is not None else []
    weighted = [layer for layer in layers if layer.type != "BatchNorm"]
    if weighted and all(map(_frozen, weighted)) and all(layer.type in LAYER_TYPES for layer in weighted):
        what, first = "lr_mult is 0 in every layer", weighted[0]
        yield of_layer(first, what, "lr_mult: 1 where it is to learn", "param")


@rule("no-loss", "warning", why="nothing is minimized: the weights never change")
def no_loss(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A training net without a loss (or with all of them at ``loss_weight: 0``)."""
    net = learns(file)
    if net is None or any(layer.type not in LAYER_TYPES for layer in net.layers):
        return
    weighted = [layer for layer in net.layers if has_loss([layer]) and _weight(layer) != 0]
    if not weighted and (file.solver is not None or any(parameter_count(one.message) for one in net.layers)):
        yield Hit(
            f"no loss in {net.name}",
            'a layer of type "SoftmaxWithLoss", for a Python layer loss_weight: 1',
            node=net.layers[-1].node,
            path=net.layers[-1].path,
        )


def _weight(layer: Layer) -> float:
    weights = list(layer.message.loss_weight)
    return sum(map(abs, weights)) if weights else float(layer.type.endswith("Loss"))


@rule("loss-weight", "warning", why="with one loss its weight does nothing but multiply the learning rate")
def loss_weight(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """The only loss of a training net has a ``loss_weight`` other than 1 (solvers that are free of scale aside)."""
    net = learns(file)
    if net is None or file.solver is None or file.solver.type in _SCALE_FREE:
        return
    losses = [layer for layer in net.layers if _weight(layer)]
    if len(losses) == 1 and _weight(losses[0]) != 1:
        weight = _weight(losses[0])
        what = f"loss_weight {weight:g}: the rate is {file.solver.base_lr * weight:g}, not {file.solver.base_lr:g}"
        yield of_layer(losses[0], what, f"loss_weight: 1, and base_lr: {file.solver.base_lr * weight:g}", "loss_weight")


@rule("dropout-all", "warning", why="everything is dropped: the loss stays where it is or becomes nan")
def dropout_all(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A ``dropout_ratio`` of 1 or more, or below 0."""
    for layer in dict.fromkeys(layer for net in file.phases for layer in net.layers):
        ratio = layer.message.dropout_param.dropout_ratio
        if layer.type == "Dropout" and not 0 <= ratio < 1:
            field = "dropout_param.dropout_ratio"
            yield of_layer(layer, f"dropout_ratio {ratio:g}", "dropout_ratio: 0.5, the part that is dropped", field)


@rule(
    "batchnorm-one", "warning", why="the mean and variance of one image say little: training is noise, and TEST differs"
)
def batchnorm_one(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """BatchNorm with a TRAIN batch of 1."""
    net = learns(file)
    if net is None or batch_size(net) != 1:
        return
    for vertex in graph(net).vertices:
        if vertex.type == "BatchNorm" and not vertex.settings["batch_norm_param.use_global_stats"]:
            if vertex.layer is not None:
                first, name = next(data_layers(net))
                yield of_layer(first, "batch_size 1 with BatchNorm", "a larger batch_size", f"{name}.batch_size")
            return


@rule("batchnorm-decay", "warning", why="the decay pulls the scale of a normalized activation to 0, or does nothing")
def batchnorm_decay(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A ``decay_mult`` above 0 that is written in a BatchNorm or in the Scale behind it."""
    net = learns(file)
    found = []
    for vertex in graph(net).vertices if net is not None else ():
        behind = vertex.type == "Scale" and any(bottom.type == "BatchNorm" for bottom, _ in vertex.bottoms)
        specs = vertex.layer.message.param if vertex.layer is not None else ()
        decays = any(spec.HasField("decay_mult") and spec.decay_mult for spec in specs)
        if (behind or vertex.type == "BatchNorm") and decays and vertex.layer is not None:
            found.append(vertex.layer)
    if found and (file.solver is None or file.solver.weight_decay):
        fix = "decay_mult: 0"
        yield Hit("weight decay on BatchNorm", fix, named(found), found[0].node.at("param.decay_mult"), found[0].path)
