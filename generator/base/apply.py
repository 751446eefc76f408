"""Sweeps on a user's solver, to files: each variant's changes made in a copy, written and read back."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

from caffebench.common.errors import InputError
from caffebench.common.header import format_header, read_header
from caffebench.engine.messages import caffe_messages
from caffebench.generator.base.activations import add_maxout, set_activation
from caffebench.generator.base.draft import Draft
from caffebench.generator.base.edits import edit_layers, edit_solver, refuse_unused
from caffebench.generator.base.finetuning import freeze_up_to, renew_classifier, set_lr_mults
from caffebench.generator.base.inputs import (
    resize_pictures,
    set_batch_size,
    set_crop,
    set_input_size,
    transform_pictures,
)
from caffebench.generator.base.layers import set_dropout, set_fillers, set_pooling
from caffebench.generator.base.normalisation import set_batch_norm, set_scale, take_out_lrn
from caffebench.generator.base.resolve import BaseVariant, resolve_on_base
from caffebench.generator.base.training import set_training
from caffebench.generator.base.userfile import Base, nets_of
from caffebench.generator.base.width import set_width
from caffebench.generator.render import HEADER_SETTINGS, plain
from caffebench.generator.variants.schema import Profile, Sweep
from caffebench.generator.variants.settings import Settings
from caffebench.generator.variants.unread import see_overrides_read, see_read

__all__ = ["OnBase", "change_text", "generate_on_base"]

_OF_THE_FILE = {"sweep", "variant", "label", "comment", "default", "base", "source", "allow"}
_OF_THE_FILE |= {"published_accuracy", "published_logloss"}
_MAXOUT = Fraction("0.70711")  # two layers of 1/sqrt(2) the width have the weights of one


@dataclass(frozen=True)
class OnBase:
    """The text of each variant's file by its name, and why others have no place in the user's net."""

    texts: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def generate_on_base(
    sweeps: Iterable[Sweep],
    base: Base,
    *,
    profile: Profile | None = None,
    only: str | None = None,
    overrides: Settings | None = None,
) -> OnBase:
    """Every variant of the sweeps on the user's solver; of several, one that cannot be applied at all is refused.

    Raises ``InputError`` where that is the only one, or two variants have one name.
    """
    made = OnBase()
    names: dict[str, str] = {}
    sweeps, given = list(sweeps), overrides or Settings()
    found: list[BaseVariant] = []
    for sweep in sweeps:
        try:
            variants = resolve_on_base(sweep, base, profile, given)
        except InputError as error:
            if len(sweeps) == 1:
                raise
            made.refused[sweep.sweep] = str(error)
            continue
        for variant in variants:
            if variant.name in names:
                raise InputError(f"the sweeps {names[variant.name]} and {sweep.sweep} both have a {variant.name}")
            names[variant.name] = sweep.sweep
        found += variants
    see_overrides_read(given, [([one.variant, one.sweep.settings], one.values) for one in found if not one.refused])
    for variant in found:
        if only is not None and not fnmatchcase(variant.name, only):
            continue
        try:
            if not variant.refused:
                see_read(variant.variant, [given, variant.sweep.settings], variant.values)
            made.texts[variant.name] = _write(variant, base)
        except InputError as error:
            made.refused[variant.name] = str(error)
    if not made.texts and not made.refused:
        raise InputError(f"no variant's name matches --only '{only}': there are {', '.join(list(names)[:8])}")
    return made


def change_text(text: str, values: Mapping[str, Any], given: frozenset[str]) -> str:
    """A file of ours with ``given`` settings, which its template does not know, changed in its nets.

    Raises ``InputError`` with the layer that has no place for what is varied.
    """
    from google.protobuf import text_format

    solver = text_format.Parse(text, caffe_messages().SolverParameter())
    header = read_header(text)
    records = {"data": header["shape"]} if "shape" in header else {}
    _change_nets(solver, records, values, given)
    return f"{format_header(header)}\n{_as_text(solver)}"


def _change_nets(
    solver: Any, records: Mapping[str, list[int]], values: Mapping[str, Any], given: frozenset[str]
) -> None:
    edits = values["edit"] if "edit" in given else []
    edit_solver(solver, edits, values)
    draft = Draft(nets_of(solver), records)
    _change(draft, values, given)
    refuse_unused(edits, edit_layers(draft.wiring, edits, values), draft.wiring)
    draft.finish()


def _write(variant: BaseVariant, base: Base) -> str:
    """The text of a variant's file. Raises ``InputError`` with the layer that has no place for what is varied."""
    if variant.refused:
        raise InputError(variant.refused)
    solver = type(base.solver)()
    solver.CopyFrom(base.solver)
    values, given = variant.values, variant.given
    set_training(solver, values, given, base.recipe["max_iter"])
    _change_nets(solver, _records(base), values, given)
    solver.snapshot_prefix = f"snapshots/{variant.name}"
    header = _header(variant, base)
    text = f"{format_header(header)}\n{_as_text(solver)}"
    if read_header(text, variant.name) != header:
        raise InputError(f"{variant.name}: the header that was written is not the one that is read")
    return text


def _change(draft: Draft, values: Mapping[str, Any], given: frozenset[str]) -> None:
    """What a variant gives, in an order in which one change finds what the one before it left."""
    if given & {"batch", "batch_size"}:
        set_batch_size(draft, int(values["batch_size"]))
    if "crop_size" in given:
        set_crop(draft, int(values["crop_size"]))
    if "resize" in given:
        resize_pictures(draft, int(values["resize"]))
    of_pictures = sorted(given & {"mirror", "scale", "mean_file"})
    if of_pictures:
        transform_pictures(draft, {key: values[key] for key in of_pictures})
    if "input_size" in given:
        set_input_size(draft, int(values["input_size"]))
    if "lrn" in given and not values["lrn"]:
        take_out_lrn(draft)
    if "pool" in given:
        set_pooling(draft, values["pool"])
    if "bn" in given:
        set_batch_norm(draft, values["bn"], values["bn_scale"] if "bn_scale" in given else None)
    elif "bn_scale" in given:
        set_scale(draft, values["bn_scale"])
    if "dropout" in given:
        set_dropout(draft, float(values["dropout"]))
    _widths(draft, values, given)
    if "activation" in given and values["activation"] != "maxout":
        set_activation(draft, values["activation"])
    if "filler" in given or "filler_std" in given:
        std = float(values["filler_std"]) if "filler_std" in values else None
        set_fillers(draft, values.get("filler", "gaussian"), std)
    if "classifier" in given and values["classifier"] == "new":
        renew_classifier(draft, _classes(values))
    if "freeze" in given and values["freeze"] != "none":
        freeze_up_to(draft, values["freeze"])
    if "lr_mults" in given:
        set_lr_mults(draft, values["lr_mults"])


def _classes(values: Mapping[str, Any]) -> int | None:
    """The classes of a new classifier: those that are set, else the profile's."""
    classes = values["classes"] if "classes" in values else values["profile"].get("classes")
    return None if classes is None else int(classes)


def _widths(draft: Draft, values: Mapping[str, Any], given: frozenset[str]) -> None:
    doubled: set[int] = set()
    if "activation" in given and values["activation"] == "maxout":
        before = {id(layer) for layer in draft.wiring.layers}
        names = {layer.name for layer in draft.wiring.layers}
        add_maxout(draft)
        doubled = {id(one) for one in draft.wiring.layers if id(one) not in before or one.name not in names}
    width = Fraction(values["width"]) if "width" in given else Fraction(1)
    if doubled or width != 1:
        set_width(draft, lambda layer: width * (_MAXOUT if id(layer) in doubled else 1))


def _records(base: Base) -> dict[str, list[int]]:
    """The stored size of pictures by data layer, where the header says it."""
    shape, nets = base.header.get("shape"), nets_of(base.solver)
    return {layer.name: shape for net, _ in nets for layer in net.layer if layer.type == "Data"} if shape else {}


def _header(variant: BaseVariant, base: Base) -> dict[str, Any]:
    """The user's own header, with what the variant is and what it sets."""
    header: dict[str, Any] = {"sweep": variant.sweep.sweep, "variant": variant.name, "label": variant.label}
    if variant.comment:
        header["comment"] = variant.comment
    if variant.default:
        header["default"] = True
    header["base"] = str(base.path)
    header |= {key: value for key, value in base.header.items() if key not in _OF_THE_FILE}
    if "lr_schedule" not in variant.values:  # the sweep's lr_policy is in its place
        header.pop("lr_schedule", None)
    for key in HEADER_SETTINGS:
        if key in variant.given or (key in header and key in ("lr_schedule", "phases")):
            header[key] = plain(variant.values[key])
    if "workers" in variant.given:
        header["loader"] = {"workers": plain(variant.values["workers"])}
    if header.get("init") == "none":
        del header["init"]
    if header.get("deterministic") is False:
        del header["deterministic"]
    if "crop_size" in variant.given and variant.values["crop_size"]:
        header.pop("shape", None)
    if variant.values.get("classifier") == "new" and (classes := _classes(variant.values)) is not None:
        header["classes"] = classes
    if allow := {**base.header.get("allow", {}), **variant.sweep.allow, **variant.variant.allow}:
        header["allow"] = allow
    return header | ({"source": variant.source} if variant.source else {})


def _as_text(solver: Any) -> str:
    """The solver, its own fields first and its nets behind them."""
    from google.protobuf import text_format

    bare = type(solver)()
    bare.CopyFrom(solver)
    for name in ("net_param", "train_net_param", "test_net_param"):
        bare.ClearField(name)
    parts = [text_format.MessageToString(bare, as_utf8=True)]
    for name in ("net_param", "train_net_param"):
        if solver.HasField(name):
            parts.append(_block(name, text_format.MessageToString(getattr(solver, name), as_utf8=True)))
    parts += [_block("test_net_param", text_format.MessageToString(net, as_utf8=True)) for net in solver.test_net_param]
    return "".join(parts)


def _block(name: str, text: str) -> str:
    return f"{name} {{\n{textwrap.indent(text, '  ')}}}\n"
