"""Sweeps and a profile to files: what would be written, writing it, and comparing it with what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.files import write_whole
from caffebench.common.header import read_header
from caffebench.generator.nets.inplace import put_in_place
from caffebench.generator.render import parse_back, render
from caffebench.generator.variants.architectures import recipe_on
from caffebench.generator.variants.resolve import Resolved, facts, resolve
from caffebench.generator.variants.schema import Profile, Sweep
from caffebench.generator.variants.settings import Settings
from caffebench.generator.variants.unread import see_overrides_read, see_read

__all__ = ["generate", "outdated", "write"]

# Settings for which any net is changed as a user's is (`caffebench.generator.base`).
_BEYOND_TEMPLATES = {"lrn", "filler", "filler_std", "input_size", "classifier", "freeze", "lr_mults", "edit"}


def generate(
    sweeps: Iterable[Sweep],
    profile: Profile,
    *,
    only: str | None = None,
    overrides: Settings | None = None,
    templates: Path | None = None,
) -> dict[str, str]:
    """The text of every variant's file by the variant's name; each has been parsed back with Caffe's own format.

    ``only`` is a shell pattern for names, ``templates`` a folder of the user's own. Raises ``InputError`` where a sweep
    cannot be made on the profile or a name occurs twice, and ``CaffebenchError`` where Caffe's format refuses what was
    made.
    """
    texts: dict[str, str] = {}
    sweep_of: dict[str, str] = {}
    given = overrides or Settings()
    resolved = [(sweep, resolve(sweep, profile, given, templates)) for sweep in sweeps]
    see_overrides_read(
        given, [([one.variant, *_beside(one)], one.settings) for _, variants in resolved for one in variants]
    )
    for sweep, variants in resolved:
        for variant in variants:
            if variant.name in sweep_of:
                raise InputError(
                    f"the sweeps {sweep_of[variant.name]} and {sweep.sweep} both have a variant {variant.name}: "
                    "names are those of files, change one"
                )
            sweep_of[variant.name] = sweep.sweep
            if only is None or fnmatchcase(variant.name, only):
                try:
                    see_read(variant.variant, [given, *_beside(variant)], variant.settings)
                except InputError as error:
                    raise InputError(f"{variant.name}: {error}") from error
                text = render(variant)
                solver = parse_back(variant, text)
                if _BEYOND_TEMPLATES & variant.settings.keys():
                    text = _transformed(variant, text)
                    solver = parse_back(variant, text)
                texts[variant.name] = put_in_place(text, solver)
    if not texts:
        near = ", ".join(sorted(sweep_of)[:8])
        raise InputError(f"no variant's name matches --only '{only}': there are {near}{', ...' * (len(sweep_of) > 8)}")
    return texts


def _beside(variant: Resolved) -> list[Settings]:
    """What the sweep sets of all its variants on this profile."""
    sweep = variant.sweep
    return [sweep.on_profile.get(variant.profile.profile, Settings()), sweep.settings]


def _transformed(variant: Resolved, text: str) -> str:
    """The file with what no template knows changed in its net. Raises ``InputError``."""
    from caffebench.generator.base.apply import change_text

    known = facts(variant.profile)
    recipe = recipe_on(variant.profile, variant.settings["architecture"], known, variant.templates)
    values = {**variant.settings, "profile": known, "recipe": recipe}
    try:
        return change_text(text, values, frozenset(_BEYOND_TEMPLATES & variant.settings.keys()))
    except InputError as error:
        raise InputError(f"{variant.name}: {error}") from error


def write(texts: Mapping[str, str], out: Path) -> int:
    """Write each file that is not there as it should be; the number written. Raises ``CaffebenchError``."""
    changed = [name for name, text in texts.items() if _read(_path(out, name)) != text]
    try:
        for name in changed:
            write_whole(_path(out, name), texts[name])
    except OSError as error:
        raise CaffebenchError(f"cannot write to {out}: {error.strerror}") from error
    return len(changed)


def outdated(texts: Mapping[str, str], out: Path, *, every: bool) -> list[str]:
    """What is wrong with the files on disk, a line each; ``every``: there should be no other generated ones."""
    lines = []
    for name, text in texts.items():
        there = _read(_path(out, name))
        if there != text:
            lines.append(f"{_path(out, name)} {'is missing' if there is None else 'differs'}")
    for path in sorted(out.glob("*.prototxt")) if every else ():
        if path.stem not in texts and read_header(_read(path) or ""):
            lines.append(f"{path} is of no sweep")
    return lines


def _path(out: Path, name: str) -> Path:
    return out / f"{name}.prototxt"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""
