"""The sweeps and profiles that come with caffebench, and files of a user's own."""

from __future__ import annotations

import difflib
import re
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from caffebench.common.errors import InputError
from caffebench.common.yamlfile import explain, parse_plain, read_yaml
from caffebench.generator.variants.schema import Profile, Sweep
from caffebench.generator.variants.settings import Settings

__all__ = ["base_of", "load_profile", "load_sweep", "parse_settings", "profile_names", "sweep_names"]

Model = TypeVar("Model", bound=BaseModel)


def sweep_names() -> list[str]:
    """The names of the sweeps that come with caffebench, in alphabetical order."""
    return _names("sweeps")


def profile_names() -> list[str]:
    """The names of the profiles that come with caffebench, in alphabetical order."""
    return _names("profiles")


def load_sweep(name: str) -> Sweep:
    """A sweep by its name, or from a user's own file by its path. Raises ``InputError``."""
    sweep = _load("sweep", "sweeps", name, Sweep)
    return sweep if sweep.sweep else sweep.model_copy(update={"sweep": re.sub(r"\W", "_", Path(name).stem, flags=re.A)})


def load_profile(name: str) -> Profile:
    """A profile by its name, or by its path: a user's own file, or a folder that ``make-lmdb`` wrote.

    Raises ``InputError``.
    """
    folder = Path(name)
    if folder.is_dir() and name not in profile_names():
        path = folder / "profile.yaml"
        if not path.is_file():
            raise InputError(f"{folder} has no profile.yaml: give a folder that make-lmdb wrote, or a profile's file")
        return read_yaml(path, Profile).model_copy(update={"folder": str(folder)})
    return _load("profile", "profiles", name, Profile)


def base_of(sweeps: list[Sweep], names: tuple[str, ...]) -> Path | None:
    """The solver that the sweeps name as their ``base``, from the working folder or beside the sweep's own file.

    Raises ``InputError`` where they name different ones.
    """
    bases = {one.base for one in sweeps}
    if bases <= {None}:
        return None
    if len(bases) > 1:
        raise InputError(f"the sweeps have different bases ({', '.join(map(str, bases))}): generate them one by one")
    path = Path(str(bases.pop()))
    beside = [Path(name).parent / path for name in names]
    return next((one for one in [path, *beside] if one.is_file()), path)


def parse_settings(assignments: tuple[str, ...]) -> Settings:
    """``("base_lr=0.02", "bn=after")`` as settings; values are YAML. Raises ``InputError``."""
    given = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {assignment}: write KEY=VALUE, as in --set base_lr=0.02")
        given[key.strip()] = parse_plain(value, f"--set {assignment}")
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise InputError(f"--set: {explain(error, Settings)}") from error


def _names(folder: str) -> list[str]:
    found = (Path(one.name) for one in files("caffebench.generator").joinpath(folder).iterdir())
    return sorted(path.stem for path in found if path.suffix == ".yaml")


def _load(what: str, folder: str, name: str, model: type[Model]) -> Model:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return read_yaml(Path(name), model)
    known = _names(folder)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise InputError(f"there is no {what} called '{name}': {hint} (or give the path of a .yaml file of your own)")
    with as_file(files("caffebench.generator") / folder / f"{name}.yaml") as path:
        return read_yaml(path, model)
