"""Caffe into the current Python environment: one folder, published by one rename."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from caffebench.common.errors import CaffebenchError
from caffebench.common.messages import Announce
from caffebench.engine.build import MANIFEST, cached_build, is_whole, lock
from caffebench.engine.build_spec import FAST_PACKAGES, PYTHON_PACKAGES, BuildSpec, leveldb_is_here, opencv_is_here
from caffebench.engine.cards import cards
from caffebench.engine.cuda import choose_architectures, find_kit, require_libraries, runs_on
from caffebench.engine.fast import LIBRARY
from caffebench.engine.fast.build import build_fast_layers
from caffebench.engine.probe import Probe, probe
from caffebench.engine.system import (
    WITHOUT_ROOT,
    pip_install,
    pip_uninstall_wheel,
    require_space,
    require_system_packages,
    wheel_is_installed,
)

__all__ = ["BuildOptions", "install", "require_python_packages", "require_writable"]


@dataclass(frozen=True)
class BuildOptions:
    """What is asked of the Caffe to be installed; the default asks for any Caffe that works."""

    cuda: bool = False
    cudnn: bool = False
    nccl: bool = False
    arch: tuple[str, ...] = ()
    """The cards' architectures ("90"); empty for those of the cards present."""
    portable: bool = False
    """Whether the fast layers are to run on any processor of this kind, not on this one alone."""
    opencv: bool | None = None
    """With OpenCV or without; None as it is in the Caffe that is there, else with it where the system has it."""
    leveldb: bool | None = None
    """The same for LevelDB."""


def install(
    asked: BuildOptions, jobs: int, announce: Announce, advance: Callable[[float], None], *, force: bool = False
) -> Probe:
    """Make ``import caffe`` and the ``caffe`` tool work in this environment; return the trial of what is there now.

    Nothing is done where a Caffe that gives what is ``asked`` works already, be it ours or foreign, unless
    ``force``. Raises ``CaffebenchError`` with what is missing and how to get it. Interrupted anywhere, the
    environment has the Caffe that it had, or none.
    """
    packages = Path(sysconfig.get_paths()["platlib"])
    target = packages / "caffe"
    found = probe()
    ours = target.is_dir() and (target / MANIFEST).is_file()
    if found.error is None and not ours and not force:
        foreign = "the Caffe of a wheel" if wheel_is_installed() else "a Caffe that is not from here"
        lacks = {
            "is for the CPU only": asked.cuda and found.cuda is None,
            "is without OpenCV": asked.opencv and not found.opencv,
            "is without LevelDB": asked.leveldb and not found.leveldb,
        }
        if what := next((what for what, lacking in lacks.items() if lacking), None):
            raise CaffebenchError(f"{foreign} works already and {what}: replace it with --force")
        announce(f"{foreign} works already: it is left alone")
        return found
    if found.error is None and not force and is_whole(target) and _serves(target, asked):
        _link_tool(target, announce)
        added = _add_fast_layers(target, asked, jobs, announce)
        announce("already installed")
        return probe() if added else found
    if target.exists() and not ours and not force:
        raise CaffebenchError(
            f"{target} is there but is not from here and does not work ({found.error}): "
            "remove it, or replace it with install-caffe --force"
        )
    require_writable(packages)
    require_space(packages, 50)
    asked = _completed(asked, _was(target) if ours and not force else BuildOptions())
    spec, kit = BuildSpec(opencv=bool(asked.opencv), leveldb=bool(asked.leveldb)), None
    if asked.cuda:
        kit = find_kit(announce)
        arch = choose_architectures(asked.arch, [card.arch for card in cards()], kit)
        spec = replace(spec, cuda=kit.release, cudnn=asked.cudnn, nccl=asked.nccl, arch=arch)
        require_libraries(spec, kit, announce)
    product, built = cached_build(spec, kit, jobs, announce, advance, fresh=force)
    if not built:
        announce(f"taking the Caffe built earlier: {product}")
        # The cache may have come from a machine with more libraries than this one.
        require_system_packages(announce, spec.packages, WITHOUT_ROOT)
    require_python_packages(announce)
    tried = _publish(product, target, announce)
    if tried.error is not None and not built:
        announce(f"the cached Caffe does not work here ({tried.error}): building it anew")
        product, built = cached_build(spec, kit, jobs, announce, advance, fresh=True)
        tried = _publish(product, target, announce)
    if tried.error is not None:
        raise CaffebenchError(f"Caffe was built, but it does not work: {tried.error}")
    return probe() if _add_fast_layers(target, asked, jobs, announce) else tried


def _add_fast_layers(target: Path, asked: BuildOptions, jobs: int, announce: Announce) -> bool:
    """Put the fast layers for the CPU beside the Caffe of ours in ``target``: True where they were not there.

    A Caffe that is built for GPUs goes without.
    """
    if _was(target).cuda:
        return False
    try:
        require_system_packages(announce, FAST_PACKAGES)
        built = build_fast_layers(target, jobs, announce, portable=asked.portable)
    except CaffebenchError as error:
        announce(f"without the fast layers for the CPU, Caffe's own do all: {error}")
        return False
    placed = target / LIBRARY
    if placed.is_file() and placed.read_bytes() == built.read_bytes():
        return False
    arriving = placed.with_suffix(".arriving")
    shutil.copy2(built, arriving)
    arriving.replace(placed)
    return True


def _was(target: Path) -> BuildOptions:
    """What the Caffe of ours in ``target`` was built to give, working or not."""
    try:
        manifest = json.loads((target / MANIFEST).read_text())
        cuda = manifest.get("cuda") is not None
        return BuildOptions(
            cuda,
            manifest.get("cudnn", False),
            manifest.get("nccl", False),
            tuple(manifest.get("arch", ())),
            opencv=manifest.get("opencv", False),
            leveldb=manifest.get("leveldb", False),
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return BuildOptions()


def _completed(asked: BuildOptions, has: BuildOptions) -> BuildOptions:
    """``asked``, where it says nothing, as in the Caffe that is there: what is damaged is made again as it was."""
    made = asked if asked.cuda else replace(has, portable=asked.portable)
    return replace(
        made,
        opencv=_chosen(asked.opencv, has.opencv, opencv_is_here),
        leveldb=_chosen(asked.leveldb, has.leveldb, leveldb_is_here),
    )


def _chosen(asked: bool | None, has: bool | None, is_here: Callable[[], bool]) -> bool:
    if asked is not None:
        return asked
    return is_here() if has is None else has


def _serves(target: Path, asked: BuildOptions) -> bool:
    """Whether the Caffe of ours in ``target`` gives what is asked, on the cards of this machine too."""
    has = _was(target)
    if asked.opencv not in (None, has.opencv) or asked.leveldb not in (None, has.leveldb):
        return False
    if not asked.cuda:
        return True
    libraries = has.cuda and has.cudnn >= asked.cudnn and has.nccl >= asked.nccl
    if asked.arch:
        return libraries and {one.replace(".", "") for one in asked.arch} <= set(has.arch)
    return libraries and all(runs_on(has.arch, card.arch) for card in cards())


def require_writable(packages: Path) -> None:
    """Raises ``CaffebenchError`` where nothing can be installed into the folder ``packages``."""
    if not os.access(packages, os.W_OK):
        raise CaffebenchError(
            f"{packages} is not writable: make a virtual environment (python3 -m venv .venv) and use it"
        )


def require_python_packages(announce: Announce) -> None:
    """Install those that Caffe imports and that are missing; ``CaffebenchError`` where pip cannot."""
    missing = [package for module, package in PYTHON_PACKAGES.items() if not _importable(module)]
    if not missing:
        return
    announce(f"installing Python packages that Caffe imports: {' '.join(missing)}")
    pip_install(missing, "check the network and pip's index")


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _publish(product: Path, target: Path, announce: Announce) -> Probe:
    """Put ``product`` in ``target``'s place and try it there."""
    arriving, leaving = target.with_name(".caffe.arriving"), target.with_name(".caffe.leaving")
    with lock(target.parent, announce):
        for remains in (arriving, leaving):  # of an install that was killed
            shutil.rmtree(remains, ignore_errors=True)
        shutil.copytree(product, arriving)
        if wheel_is_installed():
            pip_uninstall_wheel()
        if target.exists():
            target.rename(leaving)
        arriving.rename(target)
        shutil.rmtree(leaving, ignore_errors=True)
    _link_tool(target, announce)
    return probe()


def _link_tool(target: Path, announce: Announce) -> None:
    """Put the ``caffe`` tool on this environment's PATH; its run path is relative to the real file."""
    link, tool = Path(sysconfig.get_paths()["scripts"]) / "caffe", target / "bin" / "caffe"
    if link.is_symlink() and link.resolve() == tool.resolve():
        return
    if link.exists() and not link.is_symlink():
        announce(f"{link} is there and is not from here: left alone; Caffe's own tool is {tool}")
        return
    link.unlink(missing_ok=True)
    link.symlink_to(tool)
