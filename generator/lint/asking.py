"""What Caffe itself says of a file: solver and nets are built in a child process, and a CHECK that fails is translated.

Data layers are replaced by ``Input`` layers of the shapes that they would give. Where the data are not here, several
sizes of images are tried, and a stop that may come from the guess is none. Python layers, layers of a fork, and all
that depends on them are left out: nothing of a stranger's is executed.
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import IO, Any

from google.protobuf import text_format

from caffebench.common.caffe_facts import FILLERS, SOLVER_TYPES
from caffebench.common.errors import CaffebenchError
from caffebench.common.isolated import module_command
from caffebench.engine.features import caffe_is_there
from caffebench.engine.messages import caffe_messages
from caffebench.generator.lint.facts import find, first_datum
from caffebench.generator.lint.image_sizes import GUESSES, DataShape, data_shape, needs_the_size
from caffebench.generator.lint.registry import Hit, rule
from caffebench.generator.meaning import LAYER_TYPES, PhaseNet, Prototxt

__all__ = ["asking_caffe"]

_STOP = re.compile(r"^F\d{4,8} [\d:.]+\s+\d+ (\S+?:\d+)\] (.*)$", re.MULTILINE)
_LAYER = re.compile(r"net\.cpp:\d+\] (?:Creating Layer|Setting up) (.+)$", re.MULTILINE)
_NAMED = re.compile(r"[Ll]ayer '?([^\s',]+)'?")
_TOO_LARGE = "blob size exceeds INT_MAX"
# What Caffe's words mean, and what to do: the first that matches.
_FIXES = (
    (r"shape\[i\] >= 0", "a smaller kernel, or more pad: the input of the layer is smaller"),
    (r"Unknown bottom blob", "correct the name of the bottom, or put the layer that makes it before"),
    (r"produced by multiple sources", "a top of its own"),
    (r"Cannot share param|Cannot copy param|shape mismatch|Shared parameter", "the same shape on both sides"),
    (
        r"pooled_height|pooled_width|output_h|height_out|kernel|pad_",
        "a smaller kernel, or more pad: the input is smaller",
    ),
    (r"channels_ % group|num_output_ % group|group", "a group that divides the channels of bottom and num_output"),
    (r"All inputs must have the same shape|same shape|bottom\[i\]->shape\(\)|Eltwise", "bottoms of one shape"),
    (
        r"Number of labels must match|label",
        "scores and labels of one number: check axis, and what the label layer gives",
    ),
    (r"top_k|classes", "a top_k of at most the number of classes"),
    (r"axis", "an axis that the bottom has"),
    (r"count\(\)|must match|same|Dimension", "bottoms whose dimensions fit the layer"),
)


_asking = False


@contextmanager
def asking_caffe() -> Iterator[None]:
    """While this lasts, the rule ``caffe`` asks."""
    global _asking
    _asking = caffe_is_there()
    try:
        yield
    finally:
        _asking = False


@rule("caffe", "error", why="Caffe stops here when it builds the solver and its nets")
def caffe(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Anything else that Caffe refuses: asked where it is installed, told in its own words with file and layer."""
    if not _asking or not file.phases:
        return
    stops = []
    for guess in GUESSES:
        job, exact = _job(file, guess)
        if job is None:
            return
        answer = _ask(job)
        if answer["status"] != "stopped":
            return
        if exact or _TOO_LARGE not in answer["log"]:
            stops.append(answer["log"])
        if exact:
            break
    parsed = [_parsed(log) for log in stops]
    if not parsed or parsed[0] is None or any(one is None or one[0] != parsed[0][0] for one in parsed):
        return  # other stops for other sizes: it is the guess that does not fit
    place, words, name = parsed[0]
    layer = next((one for net in file.phases for one in net.layers if one.name == name), None)
    if not exact and any(needs_the_size(net, _data_shapes(file, net, guess), name) for net in file.phases):
        return
    fix = next((fix for pattern, fix in _FIXES if re.search(pattern, words)), "change what Caffe's words name")
    what = f"{words} ({place})"
    if layer is None:
        yield Hit(what, fix)
    else:
        yield Hit(what, fix, layer.name, layer.node, layer.path)


def _parsed(log: str) -> tuple[str, str, str] | None:
    """(file and line in Caffe's source, what it said, the layer); None where it is no word of Caffe's."""
    stop = _STOP.search(log)
    if stop is None:
        return None
    layers = _LAYER.findall(log[: stop.start()])
    named = _NAMED.search(stop[2])
    name = named[1] if named and any(named[1] == layer for layer in layers) else (layers[-1] if layers else "")
    return stop[1], " ".join(stop[2].split()), name


def _job(file: Prototxt, guess: tuple[int, int, int]) -> tuple[dict[str, Any] | None, bool]:
    """What to build, and whether nothing in it is a guess."""
    nets, exact = [], True
    for net in file.phases:
        message, known = _replaced(file, net, guess)
        exact &= known
        if message is not None:
            nets.append((net, message))
    if not nets:
        return None, True
    if file.solver is None:
        texts = [[net.phase, text_format.MessageToString(message)] for net, message in nets]
        return {"nets": texts}, exact
    if nets[0][0].phase != "TRAIN":
        return None, True
    solver = type(file.solver)()
    solver.CopyFrom(file.solver)
    for name in ("net", "net_param", "train_net", "train_net_param", "test_net", "test_net_param", "train_state"):
        solver.ClearField(name)
    for name in ("test_state", "test_iter", "snapshot", "snapshot_prefix", "weights"):
        if name in solver.DESCRIPTOR.fields_by_name:
            solver.ClearField(name)
    solver.snapshot_after_train = False
    solver.solver_mode = 0
    solver.test_interval = solver.test_interval or 1
    solver.train_net_param.CopyFrom(nets[0][1])
    for _, message in nets[1:]:
        solver.test_net_param.add().CopyFrom(message)
        solver.test_iter.append(1)
    if solver.type not in SOLVER_TYPES:
        solver.type = "SGD"  # said by solver-type
    return {"solver": text_format.MessageToString(solver)}, exact


def _replaced(file: Prototxt, net: PhaseNet, guess: tuple[int, int, int]) -> tuple[Any, bool]:
    """The net with shapes for data and without what cannot be built here; None where nothing is left."""
    pb = caffe_messages()
    message = pb.NetParameter(state=pb.NetState(phase=pb.Phase.Value(net.phase)))
    gone: set[str] = set()
    exact, shapes = True, _data_shapes(file, net, guess)
    for layer in net.layers:
        if layer.type not in LAYER_TYPES or layer.type in ("Python", "HDF5Data", "HDF5Output"):
            gone |= set(layer.message.top)
            continue
        if gone & set(layer.message.bottom):
            gone |= set(layer.message.top)
            continue
        gone -= set(layer.message.top)
        copy = message.layer.add()
        shape = shapes.get(layer.message.top[0]) if layer.message.top and not layer.message.bottom else None
        if shape is None:
            copy.CopyFrom(layer.message)
            copy.ClearField("include")
            copy.ClearField("exclude")
            _lighten(copy)
            continue
        exact &= not shape.guessed
        copy.name, copy.type = layer.name, "Input"
        copy.top.extend(layer.message.top)
        for dims in shape.tops[: len(layer.message.top)]:
            copy.input_param.shape.add(dim=dims)
    return (message if message.layer else None), exact


def _data_shapes(file: Prototxt, net: PhaseNet, guess: tuple[int, int, int]) -> dict[str, DataShape]:
    """The shapes of a net's layers of data, by their first top."""
    shapes = {}
    for layer in net.layers:
        source = layer.message.data_param.source if layer.type == "Data" else ""
        place = find(file, source) if source else None
        shape = data_shape(layer, first_datum(place) if place is not None else None, guess)
        if shape is not None and layer.message.top:
            shapes[layer.message.top[0]] = shape
    return shapes


def _lighten(message: Any) -> None:
    """Constant fillers instead of random ones, which take their time on large layers and change no shape."""
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for one in [value] if hasattr(value, "ListFields") else value:
            if descriptor.message_type.name == "FillerParameter":
                if one.type in FILLERS and one.type != "bilinear":
                    one.Clear()
            else:
                _lighten(one)


@cache
def _prober() -> tuple[subprocess.Popen[str], IO[str], IO[str]]:
    folder = tempfile.TemporaryDirectory(prefix="caffebench-lint-")
    process = subprocess.Popen(
        module_command("caffebench.generator.lint.probe", folder.name),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder.name,
    )

    def end() -> None:
        if process.stdin is not None:
            process.stdin.close()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    if process.stdin is None or process.stdout is None:
        raise CaffebenchError("no pipe to the process that asks Caffe")
    return process, process.stdin, process.stdout


def _ask(job: dict[str, Any]) -> dict[str, str]:
    _, questions, answers = _prober()
    try:
        print(json.dumps(job), file=questions, flush=True)
        line = answers.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        return {"status": "absent", "log": ""}
    answer: dict[str, str] = json.loads(line)
    return answer
