"""Rules on names: what a file's name, its folder and its snapshot prefix say must be what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from caffebench.generator.lint.facts import batches, graph, learns
from caffebench.generator.lint.registry import Hit, rule
from caffebench.generator.meaning import Prototxt, build_graph, solver_settings

_ACTIVATIONS = {
    "relu": "ReLU",
    "prelu": "PReLU",
    "elu": "ELU",
    "tanh": "TanH",
    "sigmoid": "Sigmoid",
    "maxout": "Eltwise MAX",
}
_ACTIVATION = re.compile(
    r"(PReLU|RReLU|ReLU|ELU|TanH|Maxout|Sigmoid)"
    r"|(?<![a-z])(prelu|rrelu|relu|elu|tanh|maxout|sigmoid)(?![a-z])"
)
_BATCH = re.compile(r"(?<![a-z])bs_?(\d+)(?![\d.])", re.IGNORECASE)
_RATE = re.compile(r"(?<![a-z])lr_?(\d+(?:\.\d+)?(?:e-?\d+)?)", re.IGNORECASE)
_DROPOUT = re.compile(r"(?<![a-z])drop(?:out)?_?(\d\.\d+|0)(?![\d.])", re.IGNORECASE)
_NO = r"(?<![a-z])no[_-]?{}(?![a-z])"
_NO_LRN = re.compile(_NO.format("lrn"), re.IGNORECASE)
_NO_BN = re.compile(_NO.format("(?:bn|batch[_-]?norm)"), re.IGNORECASE)
_BN = re.compile(r"(?<![a-z])bn(?![a-z])|batch[_-]?norm", re.IGNORECASE)


@cache
def _contents(file: Prototxt) -> tuple[frozenset[str], frozenset[float]]:
    """The layer types of the nets (a maximum over layers as ``Eltwise MAX``) and the dropout ratios."""
    types, ratios = set(), set()
    for net in file.phases:
        for vertex in graph(net).vertices:
            maximum = vertex.settings.get("eltwise_param.operation") == "MAX"
            types.add("Eltwise MAX" if maximum else vertex.type)
            if vertex.type == "Dropout":
                ratios.add(round(vertex.settings["dropout_param.dropout_ratio"], 4))
    return frozenset(types), frozenset(ratios)


def _rate(text: str) -> float | None:
    """The learning rate that a name gives: ``0.005``, or ``0005`` for the same where dots were avoided."""
    if "." in text or "e" in text:
        return float(text)
    return float(f"0.{text[1:]}") if text.startswith("0") and len(text) > 1 else None


def contradictions(name: str, file: Prototxt) -> Iterator[tuple[str, str]]:
    """What a name says and the file does not do, as (what the name says, what the file holds)."""
    types, ratios = _contents(file)
    if file.solver is not None:
        sizes = batches(file)
        for match in _BATCH.finditer(name):
            if sizes and int(match[1]) not in sizes:
                yield match[0], f"batch_size {' or '.join(map(str, sorted(sizes)))}"
        rates = [file.solver.base_lr]
        phases = file.header.get("phases")
        rates += [one["base_lr"] for one in phases if "base_lr" in one] if isinstance(phases, list) else []
        for match in _RATE.finditer(name):
            said = _rate(match[1])
            if said is not None and all(abs(said - rate) > 0.01 * rate for rate in rates):
                yield match[0], f"base_lr {file.solver.base_lr:g}"
    if not types:
        return
    for match in _ACTIVATION.finditer(name):
        word = match[0].lower()
        if word in _ACTIVATIONS and _ACTIVATIONS[word] not in types:
            held = ", ".join(sorted(types & set(_ACTIVATIONS.values()))) or "no activation"
            yield match[0], f"{held}, no {_ACTIVATIONS[word]}"
    for match in _DROPOUT.finditer(name):
        if (ratios or {0.0}) != {float(match[1])}:
            yield match[0], f"dropout_ratio {' and '.join(map(str, sorted(ratios))) or 'nowhere'}"
    if _NO_LRN.search(name) and "LRN" in types:
        yield "no LRN", "LRN layers"
    if _NO_BN.search(name):
        if "BatchNorm" in types:
            yield "no BatchNorm", "BatchNorm layers"
    elif (said_bn := _BN.search(name)) and not any(re.search("BN|BatchNorm", one) for one in types):
        yield said_bn[0], "no BatchNorm layer"


@rule("file-name", "warning", why="results are filed under this name: they would be another experiment's")
def file_name(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """The file's name, or its folder's, says something else than the file does."""
    if file.solver is None and learns(file) is None:
        return  # a net for inference may have had its BatchNorm or dropout merged away
    for said, held in contradictions(file.path.stem, file):
        yield Hit(f"the file's name says {said}, the file holds {held}", "correct the file or its name")
    folder = file.path.absolute().parent.name
    if folder.lower() in _ACTIVATIONS:
        for said, held in contradictions(folder, file):
            yield Hit(f"the folder's name says {said}, the file holds {held}", "correct or move the file")


@cache
def _prefix(file: Prototxt) -> str | None:
    """Where the snapshots go: as written, else the file's own path without suffix, as in Caffe.

    A relative prefix counts from the folder that the file is run from. None where no snapshot is written.
    """
    if file.solver is None or not (file.solver.snapshot or file.solver.snapshot_after_train):
        return None
    written = str(file.solver.snapshot_prefix)
    if not written:
        return str(file.path.with_suffix("").absolute())
    prefix = (file.home if file.home is not None else file.path.parent) / written
    return str((prefix / file.path.stem if prefix.is_dir() else prefix).absolute())


@rule("snapshot-shared", "warning", why="the runs overwrite each other's snapshots, and one resumes from the other's")
def snapshot_shared(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Two solvers write to one snapshot prefix, as seen from the folders that they are run from."""
    prefix = _prefix(file)
    others = [one for one in files if one is not file and prefix is not None and _prefix(one) == prefix]
    others = [one for one in others if one.path.resolve() != file.path.resolve()]
    if others:
        named = [str(one.path) for one in others]
        shown = ", ".join(named if len(named) < 4 else [*named[:2], f"{len(named) - 2} more"])
        written = file.solver.snapshot_prefix or file.path.stem
        yield Hit(
            f"snapshot_prefix {written!r} is that of {shown} too",
            f'a prefix of its own: "{Path(written).with_name(file.path.stem)}"',
            node=file.root.at("snapshot_prefix"),
        )


@cache
def _fingerprint(file: Prototxt) -> str:
    solver = None if file.solver is None else sorted(solver_settings(file.solver).items(), key=lambda item: item[0])
    train, loaded = file.phase("TRAIN"), file.loads_weights
    training = build_graph(train, loaded=loaded) if train is not None else None
    nets = [(net.name, build_graph(net, None if net is train else training, loaded=loaded)) for net in file.phases]
    return repr([solver, _prefix(file), *((name, net.form) for name, net in nets)])


@rule("same-content", "warning", why="one experiment under two names: one of the files was copied and never changed")
def same_content(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Two solver files mean the same, down to the snapshot prefix."""
    if file.solver is None:
        return
    for other in files:
        if other is not file and _fingerprint(other) == _fingerprint(file):
            how = "is byte for byte" if other.text == file.text else "means the same as"
            yield Hit(f"{how} {other.path}", "change what should differ, or delete one of them")
