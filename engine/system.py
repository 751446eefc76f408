"""What the system must bring before Caffe can be built, and bringing it when we are root."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from caffebench.common.errors import CaffebenchError
from caffebench.common.isolated import module_command
from caffebench.common.messages import Announce
from caffebench.engine.wheel import DISTRIBUTION

__all__ = [
    "WITHOUT_ROOT",
    "pip_install",
    "pip_uninstall_wheel",
    "require_boost_python",
    "require_space",
    "require_system_packages",
    "wheel_is_installed",
]


WITHOUT_ROOT = (
    '; or, without root, for the CPU: "install-caffe --wheel DIR" on a machine that has them, with Python '
    f'{sys.version_info.major}.{sys.version_info.minor} too, and "install-caffe WHEEL" here'
)
"""What a user does who may not install the system packages of Caffe."""


def require_system_packages(announce: Announce, packages: Sequence[str], way_out: str = "") -> None:
    """Install the missing ones of ``packages`` when root on a Debian-like system, else say how.

    On a system without dpkg only the tools can be checked; CMake names a missing library there. Raises
    ``CaffebenchError`` with the one line for the administrator, and ``way_out`` behind it.
    """
    if shutil.which("dpkg-query") is None:
        tools = [tool for tool in ("g++", "make", "cmake", "protoc") if shutil.which(tool) is None]
        if tools:
            raise CaffebenchError(
                f"missing: {', '.join(tools)}; install them with your package manager, "
                f"with what Debian calls: {' '.join(packages)}{way_out}"
            )
        return
    missing = [package for package in packages if not _is_installed(package)]
    if not missing:
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CaffebenchError(f"system packages are missing; have the administrator run: sudo {line}{way_out}")
    announce(f"installing system packages: {' '.join(missing)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in ("apt-get update", line):
        done = subprocess.run(command.split(), env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no output"]
        raise CaffebenchError(f"apt-get could not install the system packages ({reason[0]}); by hand: {line}")


def _is_installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def require_boost_python() -> None:
    """Refuse early where Boost.Python was built for another Python than this one.

    CMake would quietly take the library of the distribution's own Python, and the result would not import.
    Raises ``CaffebenchError`` that names the Pythons there are libraries for.
    """
    wanted = f"libboost_python{sys.version_info.major}{sys.version_info.minor}.so"
    folders = [Path(sys.base_prefix, "lib"), Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib")]
    folders += Path("/usr/lib").glob("*-linux-gnu")
    found = {path.name for folder in folders for path in folder.glob("libboost_python*.so")}
    if wanted in found:
        return
    there = sorted(re.sub(r"^libboost_python(\d)(\d+)\.so$", r"\1.\2", name) for name in found)
    raise CaffebenchError(
        f"this is Python {sys.version_info.major}.{sys.version_info.minor} and there is no Boost.Python for it: "
        + (f"there is one for {', '.join(there)}; make the virtual environment with that" if there else "install one")
    )


def require_space(folder: Path, megabytes: int) -> None:
    """Refuse to begin what would fill the disk below ``folder`` (the nearest one that exists)."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free // 2**20
    if free < megabytes:
        raise CaffebenchError(
            f"{folder} has {free} MiB free of the {megabytes} MiB needed: make room, or set CAFFEBENCH_CACHE"
        )


def pip_install(packages: Sequence[str], way_out: str, *options: str) -> None:
    """Install Python packages into this environment; ``CaffebenchError`` with pip's reason and ``way_out``."""
    command = module_command("pip", "install", "--quiet", "--disable-pip-version-check", *options, *packages)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no word"]
        said = [line for line in lines if "ERROR" in line] or lines
        raise CaffebenchError(f"pip could not install {' '.join(packages)} ({said[-1].strip()}): {way_out}")
    importlib.invalidate_caches()


def wheel_is_installed() -> bool:
    """Whether pip put the Caffe of a wheel of ours (`engine.wheel`) into this environment."""
    try:
        return Path(sys.prefix) in Path(str(metadata.distribution(DISTRIBUTION).locate_file(""))).parents
    except metadata.PackageNotFoundError:
        return False


def pip_uninstall_wheel() -> None:
    """Remove the Caffe of a wheel; ``CaffebenchError`` where pip cannot."""
    command = module_command("pip", "uninstall", "--yes", "--quiet", "--disable-pip-version-check", DISTRIBUTION)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise CaffebenchError(
            f"pip could not remove {DISTRIBUTION} ({(done.stderr.strip() or 'no word').splitlines()[-1]})"
        )
