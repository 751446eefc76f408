"""The ``# caffebench:`` lines at the top of a generated file: what Caffe's own format cannot say.

Caffe ignores them as comments. Each is ``# caffebench: key: value``; what follows the mark is YAML, and all the
lines together are one mapping. Anybody can edit them, so they are read against a schema: `Header`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from caffebench.common.caffe_facts import InitMethod
from caffebench.common.errors import InputError
from caffebench.common.yamlfile import Lines, parse_yaml

__all__ = ["MARK", "Header", "Loader", "Phase", "Schedule", "format_header", "header_lines", "read_header"]

MARK = "# caffebench: "
MAX_CHARACTERS = 64 * 1024

Count = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
Rate = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False, strict=True)]
Figure = StrictStr | StrictInt | Annotated[float, Field(allow_inf_nan=False, strict=True)]
Text = Annotated[StrictStr, Field(max_length=4096)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Strict):
    """A learning-rate schedule that Caffe lacks; run-caffe applies it."""

    policy: Literal["cosine"]
    warmup: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)] = 0
    min_lr: Rate = 0.0


class Phase(_Strict):
    """A stretch of training up to iteration ``until``; weights and momentum are handed on to the next."""

    until: Count
    batch_size: Count | None = None
    iter_size: Count | None = None
    base_lr: Rate | None = None


class Loader(_Strict):
    """The processes that load data, in the place of Caffe's one thread."""

    workers: Annotated[StrictInt, Field(ge=1, le=1024)]


class Header(_Strict):
    """Every key that a header may have; docs/sweeps.md says what each means."""

    sweep: Text | None = None
    variant: Text | None = None
    label: Text | None = None
    comment: Text | None = None
    default: StrictBool | None = None
    base: Text | None = Field(default=None, description="the solver that the sweep was applied to")
    profile: Text | None = None
    train_size: Count | None = None
    test_size: Count | None = None
    classes: Count | None = None
    shape: Annotated[list[Count], Field(min_length=3, max_length=3)] | None = None
    init: InitMethod | None = None
    weights: Text | None = None
    seed: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)] | None = None
    deterministic: StrictBool | None = None
    lr_schedule: Schedule | None = None
    phases: Annotated[list[Phase], Field(min_length=1, max_length=1000)] | None = None
    loader: Loader | None = None
    published_accuracy: Figure | None = None
    published_logloss: Figure | None = None
    allow: Annotated[dict[Text, Text], Field(max_length=100)] | None = None
    source: Text | None = None


def read_header(text: str, path: Path | str = "header") -> dict[str, Any]:
    """The header of a prototxt's text, as valid as `Header` says; empty for a file that was not generated here.

    Raises ``InputError`` with ``path`` and line where a header line was edited into something else.
    """
    found = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.startswith(MARK)]
    if not found:
        return {}
    lines = Lines(path, [number for number, _ in found])
    body = "\n".join(line.rstrip("\r")[len(MARK) :] for _, line in found)
    if len(body) > MAX_CHARACTERS:
        raise InputError(f"{lines.at(0)}: the '{MARK.strip()}' lines are longer than {MAX_CHARACTERS >> 10} KB")
    if not body.strip():
        return {}
    try:
        return parse_yaml(body, lines, Header, aliases=False).model_dump(exclude_unset=True)
    except InputError as error:
        raise InputError(f"{error} (in the '{MARK.strip()}' lines)") from error


def header_lines(text: str) -> dict[str, int]:
    """The line of the file, from 1, on which each key of its header stands: to say where a value does not fit."""
    numbered = enumerate(text.split("\n"), 1)
    return {line[len(MARK) :].partition(":")[0].strip(): number for number, line in numbered if line.startswith(MARK)}


def format_header(header: Mapping[str, Any]) -> str:
    """The lines for ``header``, one line per key in the order given, each ending in a newline."""
    lines = []
    for key, value in header.items():
        # Only the outermost mapping is spread over lines: nested values stay on their key's line.
        flow = yaml.dump(
            value, Dumper=_Dumper, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True
        )
        value_text = flow.removesuffix("\n").removesuffix("\n...")  # YAML ends a bare scalar with a mark of its own
        lines.append(f"{MARK}{key}: {value_text}\n")
    return "".join(lines)


class _Dumper(yaml.SafeDumper):
    """Writes a text that has line breaks in quotes, with the breaks as ``\\n``: it must not leave its comment."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, '"' if len(f"{value}.".splitlines()) > 1 else None)


_Dumper.add_representer(str, _text)
