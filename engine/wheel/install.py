"""A wheel of Caffe into the current Python environment, by pip: no root, no compiler, no system packages."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import sysconfig
from pathlib import Path

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.messages import Announce
from caffebench.engine.build import MANIFEST, lock
from caffebench.engine.install import require_python_packages, require_writable
from caffebench.engine.probe import Probe, probe
from caffebench.engine.system import pip_install, wheel_is_installed

__all__ = ["install_wheel"]


def install_wheel(wheel: Path, announce: Announce, *, force: bool = False) -> Probe:
    """Install the ``wheel`` that `make_wheel` made and return the trial of it; Caffe's Python packages come from pip.

    A Caffe that ``install-caffe`` put here before makes way for it, a foreign one only with ``force``. Raises
    ``InputError`` where the file is no such wheel or not for here, ``CaffebenchError`` where it cannot be installed or
    does not work. Where it cannot be installed, the environment keeps the Caffe that it had.
    """
    _require_fit(wheel)
    packages = Path(sysconfig.get_paths()["platlib"])
    require_writable(packages)
    target, leaving = packages / "caffe", packages / ".caffe.leaving"
    ours = (target / MANIFEST).is_file()
    if target.exists() and not ours and not wheel_is_installed() and not force:
        raise CaffebenchError(f"{target} is there but is not from here: remove it, or replace it with --force")
    require_python_packages(announce)
    with lock(packages, announce):
        shutil.rmtree(leaving, ignore_errors=True)
        link = Path(sysconfig.get_paths()["scripts"]) / "caffe"
        linked = link.readlink() if link.is_symlink() else None
        if linked is not None:
            link.unlink()  # or pip writes the tool's script through it
        aside = target.exists() and not wheel_is_installed()
        if aside:
            target.rename(leaving)
        try:
            pip_install([str(wheel)], "is the file whole?", "--no-index", "--no-deps", "--force-reinstall")
        except BaseException:
            if aside:
                shutil.rmtree(target, ignore_errors=True)
                leaving.rename(target)
            if linked is not None and not link.exists():
                link.symlink_to(linked)
            raise
        shutil.rmtree(leaving, ignore_errors=True)
    found = probe()
    if found.error is not None:
        raise CaffebenchError(f"the wheel is installed, but its Caffe does not work: {found.error}")
    return found


def _require_fit(wheel: Path) -> None:
    """Say why ``wheel`` is not for here, where its name tells; pip would only say that it is not."""
    if not wheel.is_file():
        raise InputError(f"{wheel} is not there: give the file that install-caffe --wheel made")
    named = re.fullmatch(r"caffebench_caffe-[^-]+-cp(\d)(\d+)-cp\d+-(.+)\.whl", wheel.name)
    if named is None:
        raise InputError(f"{wheel} is no wheel of Caffe as install-caffe --wheel makes it")
    python = f"{named[1]}.{named[2]}"
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python != here:
        raise InputError(f"{wheel} is for Python {python}, and this is Python {here}: make it with the same")
    if not named[3].endswith(f"_{platform.machine()}"):
        raise InputError(f"{wheel} is for another kind of processor than this one ({platform.machine()})")
    wanted = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_", named[3])]
    library, version = platform.libc_ver()
    if library == "glibc" and wanted and int(version.split(".")[1]) < min(wanted):
        raise InputError(
            f"{wheel} is for glibc 2.{min(wanted)} or newer, and this system has {version}: make it on an older system"
        )
