"""Reading YAML against a schema; what is wrong is told with file, line and, for a key, the nearest right one.

Files of strangers are read too: what a text would grow to is known, and refused, before anything is built of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from caffebench.common.errors import InputError

__all__ = ["Lines", "explain", "parse_plain", "parse_yaml", "read_yaml"]

Model = TypeVar("Model", bound=BaseModel)
Place = Sequence[int | str]

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_NODES = 200_000
"""Values in a file, each counted as often as aliases repeat it."""

# libyaml's loader reads ten times faster; where PyYAML came without it the plain one reads the same.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Lines:
    """Where a YAML text stands: its file, and the file's line of each of its lines (None: the same)."""

    path: Path | str
    numbers: Sequence[int] | None = None

    def at(self, index: int) -> str:
        """``FILE:LINE`` of the text's line ``index``, counted from 0."""
        if self.numbers is None:
            return f"{self.path}:{index + 1}"
        return f"{self.path}:{self.numbers[min(index, len(self.numbers) - 1)]}" if self.numbers else str(self.path)


def read_yaml(path: Path, model: type[Model]) -> Model:
    """The file as ``model``. Raises ``InputError``: ``FILE:LINE: unknown key 'x': did you mean 'y'?``."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file: give the path of a .yaml file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MB: that is no sweep or profile")
    return parse_yaml(text, Lines(path), model)


def parse_yaml(text: str, lines: Lines, model: type[Model], *, aliases: bool = True) -> Model:
    """The text as ``model``; ``aliases`` says whether it may have any. Raises ``InputError`` with file and line."""
    root, data = _parse(text, lines, aliases)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{lines.at(_line(root, _place(error)))}: {explain(error, model)}") from error


def parse_plain(text: str, where: str) -> Any:
    """A short text's value, without a schema, bounded like a file. Raises ``InputError``."""
    return _parse(text, Lines(where), aliases=False)[1]


def _parse(text: str, lines: Lines, aliases: bool) -> tuple[yaml.Node | None, Any]:
    """The tree of a text and its value."""
    try:
        _bound(text, lines, aliases)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            _refuse_duplicates(lines, root, set())
            return root, loader.construct_document(root) if root is not None else None
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = lines.at(mark.line) if mark else str(lines.path)
        problem = getattr(error, "problem", None) or error
        raise InputError(f"{where}: this is not YAML: {' '.join(str(problem).split())}") from error
    except (ValueError, OverflowError, RecursionError) as error:  # a number of 5000 digits, the 31st of February
        where = lines.at(_line_of_bad_value(text))
        raise InputError(f"{where}: a value in it cannot be read: {' '.join(str(error).split())}") from error


def _line_of_bad_value(text: str) -> int:
    """The line, from 0, of the first scalar that YAML takes for a number or a date and can make none of."""
    nodes = [yaml.compose(text, Loader=_Loader)]
    for node in nodes:  # which grows meanwhile
        if isinstance(node, yaml.MappingNode):
            nodes += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.ScalarNode):
            try:
                yaml.SafeLoader("").construct_object(node)
            except (ValueError, OverflowError):
                return int(node.start_mark.line)
    return 0


def _bound(text: str, lines: Lines, aliases: bool) -> None:
    """Refuse a text that is nested too deep or would grow too large, by a look at its events alone."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line if event.start_mark else 0
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):  # what YAML makes of !!bool maybe is a KeyError
            raise InputError(f"{lines.at(line)}: the tag {tag}: leave it out, no tags here")
        if isinstance(event, yaml.AliasEvent):
            if not aliases:
                raise InputError(f"{lines.at(line)}: the alias *{event.anchor}: write the value out, no aliases here")
            if event.anchor not in sizes:
                raise InputError(f"{lines.at(line)}: the alias *{event.anchor} stands for nothing before it")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
            if len(open_nodes) > MAX_DEPTH:
                raise InputError(f"{lines.at(line)}: nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if total > MAX_NODES:
            name = f"the alias *{event.anchor}" if isinstance(event, yaml.AliasEvent) else "this"
            raise InputError(f"{lines.at(line)}: {name} makes more than {MAX_NODES} values of the file")


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
    if first["type"] == "model_type" and not where:
        return "'key: value' lines are wanted"
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    return f"{where}: {message}" if where else message


def _first(error: ValidationError) -> Any:
    """The error to tell: an unknown key before anything else, as a misspelt key is one missing too."""
    errors = error.errors()
    return next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])


def _place(error: ValidationError) -> list[int | str]:
    return list(_first(error)["loc"])


def _line(node: yaml.Node | None, place: Place) -> int:
    """The line, counted from 0, of the deepest part of ``place`` that the text has."""
    line = 0
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line
        else:
            break
    return line


def _refuse_duplicates(lines: Lines, node: yaml.Node | None, seen: set[int]) -> None:
    """YAML libraries let the last of two equal keys win; in a sweep that is a copy-paste error."""
    if id(node) in seen:  # an alias: looked at where it was written
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{lines.at(line)}: a key must be a word, not a list or a mapping")
            if key.value in keys and key.value != "<<":
                raise InputError(f"{lines.at(line)}: the key '{key.value}' stands here a second time")
            keys.add(key.value)
            _refuse_duplicates(lines, value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(lines, value, seen)


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
