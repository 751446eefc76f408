"""A worked-out variant to the text of its file, and a check that Caffe's own format takes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.header import format_header, read_header
from caffebench.engine.messages import caffe_messages
from caffebench.generator.variants.resolve import Resolved
from caffebench.generator.variants.settings import DEFAULTS

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

__all__ = ["HEADER_SETTINGS", "header_of", "parse_back", "plain", "render"]

# Header keys that are settings, in the order in which they stand in a file.
HEADER_SETTINGS = ("init", "weights", "seed", "deterministic", "lr_schedule", "phases")
# Settings that are nothing unusual at these values, so that a header says only what there is to say.
_SILENT: dict[str, Any] = {"init": "none", "deterministic": False}
# Settings that a template need not read, and what would.
_OF_NETS = {
    **dict.fromkeys(
        ("activation", "bn", "pool", "dropout", "width"), "sweep a file of {architecture}, with --base, to change it"
    ),
    "bn_scale": "with bn: before or after, those that know 'bn' do",
    "factorize": "that of googlenet128 does",
}


def header_of(variant: Resolved) -> dict[str, Any]:
    """What stands in the ``# caffebench:`` lines of the variant's file."""
    sweep, profile, published = variant.sweep, variant.profile, variant.variant.published
    header: dict[str, Any] = {"sweep": sweep.sweep, "variant": variant.name, "label": variant.label}
    if variant.comment:
        header["comment"] = variant.comment
    if variant.default:
        header["default"] = True
    header |= {"profile": profile.profile, "train_size": profile.train_size, "test_size": profile.test_size}
    new = variant.settings.get("classifier") == "new"
    header["classes"] = plain(variant.settings["classes"]) if new and "classes" in variant.settings else profile.classes
    if not variant.settings["crop_size"]:  # with a crop, images of any size that is large enough will do
        header["shape"] = [profile.channels, profile.image_size, profile.image_size]
    for key in HEADER_SETTINGS:
        value = variant.settings.get(key)
        if value is not None and value != _SILENT.get(key):
            header[key] = plain(value)
    if "workers" in variant.settings:
        header["loader"] = {"workers": plain(variant.settings["workers"])}
    if published is not None and sweep.published_on == profile.profile:
        header |= {"published_accuracy": published.accuracy, "published_logloss": published.logloss}
    if allow := sweep.allow | variant.variant.allow:
        header["allow"] = allow
    return header | ({"source": variant.source} if variant.source else {})


def render(variant: Resolved) -> str:
    """The text of the variant's file: header, solver, and the net inside. Raises ``InputError``."""
    import jinja2
    from markupsafe import Markup

    s = _Asked(variant.settings)
    whole = int(s["crop_size"] or variant.profile.image_size)
    if s["resize"] and whole % s["resize"]:
        raise InputError(
            f"{variant.name}: resize: the net can reduce pictures of {whole} pixels a side to a half, a third, ... of "
            f"that, not to {s['resize']}: make an LMDB of that size and vary 'data'"
        )
    try:
        template = _environment(variant.templates).get_template(f"{s['architecture']}.prototxt.j2")
        text = template.render(
            header=Markup(format_header(header_of(variant))),  # noqa: S704, prototxt, not HTML
            variant=variant.name,
            s=s,
            profile=variant.profile,
            folder=_folder(variant),
            size=variant.size,
            input={"top": "resize" if s["resize"] else "data", "side": variant.side},
        )
        _see_read_of(variant, s.asked)
        return text
    except jinja2.TemplateNotFound as error:
        where = (
            f"{variant.templates} or among ours" if variant.templates else "among ours (--templates DIR for your own)"
        )
        raise InputError(f"{variant.name}: there is no template {error.name} in {where}") from error
    except jinja2.UndefinedError as error:
        architecture = s["architecture"]
        raise InputError(
            f"{variant.name}: the template of {architecture} asks for a value that is not there: {error.message} "
            f"(sizes stand beside the template and in the profile {variant.profile.profile}, under "
            f"architectures.{architecture}.size)"
        ) from error
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise InputError(f"{variant.name}: the template of {s['architecture']}{line}: {error}") from error


class _Asked(Mapping[str, Any]):
    """The settings of a variant, and the names of those that its template has asked for."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return self._settings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)


def _see_read_of(variant: Resolved, asked: set[str]) -> None:
    """Raise ``InputError`` for what a variant itself asks of the net and its template has not asked for."""
    architecture = variant.settings["architecture"]
    for name, otherwise in _OF_NETS.items():
        given = getattr(variant.variant, name) is not None and variant.settings[name] != getattr(DEFAULTS, name)
        if given and name not in asked:
            way_out = otherwise.format(architecture=architecture)
            raise InputError(f"{variant.name}: {name}: the template of {architecture} does not read it here: {way_out}")


def parse_back(variant: Resolved, text: str) -> Any:
    """The file's ``SolverParameter``.

    Raises ``InputError`` where a value of the header is none of the header's, and ``CaffebenchError`` where Caffe's
    format does not take the file, or the header does not read back to what was meant.
    """
    from google.protobuf import text_format

    name = variant.name
    if read_header(text, f"{name}.prototxt") != header_of(variant):
        raise CaffebenchError(f"{name}: the header that was written is not the one that is read")

    try:
        return text_format.Parse(text, caffe_messages().SolverParameter())
    except text_format.ParseError as error:
        raise CaffebenchError(f"{name}: Caffe's format does not take the generated file: {error}") from error


def _folder(variant: Resolved) -> str:
    """The folder of the two LMDBs."""
    if "data" in variant.settings:
        return f"data/{variant.settings['data']}"
    return variant.profile.folder or f"data/{variant.profile.profile}"


def plain(value: Any) -> Any:
    """A value as YAML writes it best: whole numbers plainly."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def _as_text(value: Any) -> str:
    """A value as prototxt writes it. Caffe reads floats; the shortest digits that give the float back are enough."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | Fraction):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value)


def _finalize(value: Any) -> Any:
    """What stands between ``{{ }}``: a macro's text as it is, a value escaped as a prototxt's strings are."""
    from markupsafe import Markup

    if hasattr(value, "__html__"):
        return value
    text = _as_text(value).replace("\\", r"\\").replace('"', r"\"")
    return Markup(re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found[0]):03o}", text))  # noqa: S704


@cache
def _environment(templates: Path | None) -> SandboxedEnvironment:
    """Our templates, behind those of the user's own folder where there is one."""
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    folder = files("caffebench.templates")
    own = [jinja2.FileSystemLoader(templates)] if templates is not None else []

    class Missing(jinja2.StrictUndefined):
        """A value that is not there: an entry that lacks it is shown, as a size may have many."""

        @property
        def _undefined_message(self) -> str:
            if isinstance(self._undefined_obj, dict | list | str | int | float):
                return f"{self._undefined_obj} has no '{self._undefined_name}'"
            return super()._undefined_message

    return SandboxedEnvironment(
        loader=jinja2.ChoiceLoader([*own, jinja2.FunctionLoader(lambda name: _source(folder / name))]),
        undefined=Missing,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,  # only to tell what a macro wrote from a value, which must not leave its quotes
    )


def _source(template: Any) -> str | None:
    return template.read_text(encoding="utf-8") if template.is_file() else None
