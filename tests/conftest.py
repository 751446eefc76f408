"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real logs and hand-written prototxt of the published work, which are no part of this project."""
    folder = ROOT.parent / "shared"
    if not (folder / "published.csv").is_file():
        pytest.skip(f"the published originals are not beside this checkout ({folder})")
    return folder


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the digits LMDBs in it, made once: ``<root>/digits/{train,test}_lmdb``."""
    from caffebench.datasets.digits import make_digits

    root = tmp_path_factory.mktemp("data")
    make_digits(root / "digits")
    return root


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clean clone would hold: the tracked files and the new ones that are not ignored."""
    folder = tmp_path_factory.mktemp("clone")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a clean clone."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(clone)]
    subprocess.run(command, check=True)
    return next(folder.glob("caffebench-*.whl"))


@pytest.fixture(scope="session")
def have_programs() -> Callable[[Sequence[str], Sequence[str]], None]:
    """Sees to it that programs are there which only the tests use: from Debian's packages, where we are root.

    Takes the programs and the packages that they are in; skips the test, saying why, where they cannot be had.
    """

    def have(programs: Sequence[str], packages: Sequence[str]) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if not missing:
            return
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip(f"{', '.join(missing)} missing: as root, apt-get install {' '.join(packages)}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode != 0:
                pytest.skip(f"{' '.join(command)} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")

    return have


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a test's own."""

    folder: Path

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next(self.folder.glob("lib/python3*/site-packages"))

    def run(self, *command: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run one of its own programs, from an empty folder unless ``cwd`` says otherwise."""
        (self.folder / "empty").mkdir(exist_ok=True)
        options = {"cwd": self.folder / "empty", "capture_output": True, "text": True} | options
        return subprocess.run([str(self.folder / "bin" / command[0]), *command[1:]], **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment that was empty before the wheel was installed into it with pip; Caffe is not in it."""
    made = Environment(tmp_path_factory.mktemp("environment"))
    subprocess.run([sys.executable, "-m", "venv", str(made.folder)], check=True)
    assert made.run("python", "-m", "pip", "install", "--quiet", str(wheel)).returncode == 0
    return made
