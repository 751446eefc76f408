"""Reading YAML against a schema; what is wrong is told with file, line and, for a key, the nearest right one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from caffebench.common.errors import InputError

__all__ = ["explain", "read_yaml"]

Model = TypeVar("Model", bound=BaseModel)
Place = Sequence[int | str]

# libyaml's loader reads ten times faster; where PyYAML came without it the plain one reads the same.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, model: type[Model]) -> Model:
    """The file as ``model``. Raises ``InputError``: ``FILE:LINE: unknown key 'x': did you mean 'y'?``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            _refuse_duplicates(path, root)
            data = loader.construct_document(root) if root is not None else None
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: this is not YAML: {getattr(error, 'problem', None) or error}") from error
    try:
        return model.model_validate(data)
    except ValidationError as error:
        place = _place(error)
        raise InputError(f"{path}:{_line(root, place)}: {explain(error, model)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that is wrong, in one sentence."""
    first = _first(error)
    place = _place(error)
    where = ".".join(str(step) for step in place)
    if first["type"] == "extra_forbidden":
        known = _keys(model, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, 1)
        return f"unknown key '{where}': " + (f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}")
    if first["type"] == "missing":
        return f"the key '{where}' is missing"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def _first(error: ValidationError) -> Any:
    """The error to tell: an unknown key before anything else, as a misspelt key is one missing too."""
    errors = error.errors()
    return next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])


def _place(error: ValidationError) -> list[int | str]:
    return list(_first(error)["loc"])


def _line(node: yaml.Node | None, place: Place) -> int:
    """The line, counted from 1, of the deepest part of ``place`` that the file has."""
    line = 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _refuse_duplicates(path: Path, node: yaml.Node | None) -> None:
    """YAML libraries let the last of two equal keys win; in a sweep that is a copy-paste error."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise InputError(f"{path}:{key.start_mark.line + 1}: the key '{key.value}' stands here a second time")
            seen.add(key.value)
            _refuse_duplicates(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(path, value)


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that ``model`` knows at ``place``."""
    for step in place:
        if step in model.model_fields:
            model = next(iter(_models(model.model_fields[str(step)].annotation)), model)
    return sorted(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
