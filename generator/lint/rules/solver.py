"""Rules on the solver: numbers that must fit the data set, the batch size and each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache

from caffebench.generator.lint.facts import (
    batch_size,
    data_size,
    epochs,
    graph,
    images_seen,
    samples_per_iteration,
)
from caffebench.generator.lint.registry import Hit, rule
from caffebench.generator.meaning import Prototxt

_FEWEST_EPOCHS, _MOST_EPOCHS = 1, 1000
_LEAST_RATE = 1e-8


@rule(
    "test-iter",
    "warning",
    why="a test that leaves images out, or counts some twice, gives another accuracy than the whole test set's",
)
def test_iter(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``test_iter`` times the TEST batch leaves test images out, or counts whole batches of them twice."""
    for net in file.phases:
        size, batch = data_size(file, net), batch_size(net)
        if net.phase != "TEST" or not size or not batch or net.test_iter is None:
            continue
        covered = net.test_iter * batch
        if covered < size or covered >= size + batch:
            whole = next(one for one in range(min(batch, size), 0, -1) if size % one == 0)
            yield Hit(
                f"test_iter {net.test_iter} x batch_size {batch} = {covered:,} of {size:,} test images",
                f"test_iter: {size // whole} with a TEST batch_size of {whole}",
                node=file.root.at("test_iter"),
            )


@rule(
    "epochs",
    "note",
    why="below one epoch some images are never seen, far above the run is not the one that was meant",
)
def epoch_count(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Batch x ``iter_size`` x ``max_iter`` is less than one epoch or more than 1,000."""
    count, update = epochs(file), samples_per_iteration(file)
    if count is not None and update and not _FEWEST_EPOCHS <= count <= _MOST_EPOCHS:
        size = data_size(file, file.phase("TRAIN")) or 0
        yield Hit(
            f"{update} images an iteration for {file.solver.max_iter:,} iterations are {count:.3g} epochs"
            f" of {size:,} images",
            f"one epoch is max_iter: {-(-size // update)}",
            node=file.root.at("max_iter"),
        )


@rule(
    "batch-over-data",
    "warning",
    why="one update then averages over the same images twice, and an epoch is shorter than an iteration",
)
def batch_over_data(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Batch x ``iter_size`` is more than the training set holds."""
    size, update = data_size(file, file.phase("TRAIN")), samples_per_iteration(file)
    if size and update and update > size:
        yield Hit(
            f"batch x iter_size = {update:,} of {size:,} training images",
            "a smaller batch_size or iter_size",
            node=file.root.at("iter_size"),
        )


@rule(
    "step-scale",
    "warning",
    why="the learning rate then drops never, too early or into nothing: steps must scale with 1 / batch size",
)
def step_scale(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``stepsize`` or ``stepvalue`` is out of scale with ``max_iter``, the batch size and the data set."""
    solver = file.solver
    if solver is None or solver.lr_policy not in ("step", "multistep"):
        return
    field = "stepsize" if solver.lr_policy == "step" else "stepvalue"
    steps = [solver.stepsize] if field == "stepsize" else list(solver.stepvalue)
    node = file.root.at(field)
    if not steps or min(steps) <= 0:
        return  # said by rate-steps
    if steps != sorted(set(steps)):
        yield Hit(f"stepvalue {steps} does not ascend", "ascending values", node=node)
    if solver.max_iter and steps[-1] >= solver.max_iter:
        yield Hit(
            f"{field} {steps[-1]:,} is not before max_iter {solver.max_iter:,}: that drop never comes",
            f"a {field} below {solver.max_iter:,}",
            node=node,
        )
    size, update = data_size(file, file.phase("TRAIN")), samples_per_iteration(file)
    if size and update and steps[0] * update < size and steps[0] < solver.max_iter:
        yield Hit(
            f"{field} {steps[0]:,} x {update} images is {steps[0] * update / size:.2g} of an epoch:"
            " the rate drops before every image was seen once",
            f"a {field} of several times {-(-size // update):,} (one epoch)",
            node=node,
        )
    drops = max(solver.max_iter - 1, 0) // steps[0] if field == "stepsize" else len(steps)
    if 0 < solver.gamma < 1 and solver.gamma**drops < _LEAST_RATE:
        yield Hit(
            f"{drops} drops by {solver.gamma:g} leave {solver.gamma**drops:.1g} of the learning rate",
            f"a larger {field}",
            node=node,
        )


@cache
def _study(file: Prototxt) -> tuple[object, ...] | None:
    """What files of one study share: folder, sweep, policy, and the net but for its batch size."""
    net = file.phase("TRAIN")
    if file.solver is None or net is None:
        return None
    form = [
        (v.type, tuple((k, v) for k, v in v.settings.items() if not k.endswith("batch_size")))
        for v in graph(net).vertices
    ]
    return file.path.parent, file.header.get("sweep"), file.solver.lr_policy, repr(form)


def _odd_one_out(file: Prototxt, value: dict[Prototxt, float]) -> float | None:
    """The value that most files of the study have, where this file's is off by more than 5 %."""
    study = _study(file)
    if study is None or file not in value or len(value) < 3:
        return None
    mates = [one for one in value if _study(one) == study]
    common, count = Counter(float(f"{value[one]:.2g}") for one in mates).most_common(1)[0]
    if len(mates) < 3 or 2 * count <= len(mates) or abs(value[file] / common - 1) <= 0.05:
        return None
    return common


@rule(
    "epochs-differ",
    "warning",
    why="files that differ in batch size are compared at equal epochs: max_iter scales with 1 / batch size",
)
def epochs_differ(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``max_iter`` is out of scale with the batch size: most files of this net train for other epochs."""
    value = {one: float(count) for one in files if (count := images_seen(one))}
    common = _odd_one_out(file, value)
    if common is not None and file.solver is not None:
        iterations = round(file.solver.max_iter * common / value[file])
        yield Hit(
            f"{file.solver.max_iter:,} iterations x {samples_per_iteration(file)} images are"
            f" {value[file] / common:.3g} times the images that most files of this net train on",
            f"max_iter: {iterations}",
            node=file.root.at("max_iter"),
        )


@rule(
    "steps-differ",
    "warning",
    why="the drops of the learning rate come at another part of training than in the files it is compared with",
)
def steps_differ(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``stepsize`` is out of scale: most files of this net have it at another part of ``max_iter``."""
    value = {
        one: one.solver.stepsize / one.solver.max_iter
        for one in files
        if one.solver is not None and one.solver.lr_policy == "step" and one.solver.stepsize * one.solver.max_iter
    }
    common = _odd_one_out(file, value)
    if common is not None and file.solver is not None:
        yield Hit(
            f"stepsize is {value[file]:.3g} of max_iter, {common:.3g} in most files of this net",
            f"stepsize: {round(common * file.solver.max_iter)}",
            node=file.root.at("stepsize"),
        )
