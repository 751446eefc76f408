"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
# What a test needs beyond Python follows from its fixtures; modules that need Caffe without one say so (pytestmark).
NEEDS = {
    "bench": "caffe",
    "caffe": "caffe",
    "clone": "wheel",
    "wheelhouse": "wheel",
    "cluster": "slurm",
    "browser": "browser",
}
ALONE = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
NO_NETWORK = ["--disable-quic", "--proxy-server=127.0.0.1:9", "--proxy-bypass-list=<-loopback>"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with what it needs, so that ``make check`` can do without."""
    for item in items:
        for marker in {NEEDS[name] for name in getattr(item, "fixturenames", ()) if name in NEEDS}:
            item.add_marker(marker)


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
def every_file() -> Callable[[str], dict[str, str]]:
    """``every_file(profile)``: the texts of all bundled sweeps' files on a profile by their names, made once."""
    from caffebench.generator.generate import generate
    from caffebench.generator.variants.catalog import load_profile, load_sweep, sweep_names

    @cache
    def texts(profile: str) -> dict[str, str]:
        sweeps = [sweep for sweep in map(load_sweep, sweep_names()) if profile not in sweep.refuse]
        return generate(sweeps, load_profile(profile))

    return texts


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
def wheelhouse() -> Path:
    """The folder of the locked packages, from which tests fill environments of their own; nothing is downloaded."""
    folder = Path(sys.prefix) / "wheels"
    if not (folder / ".ready").is_file():
        pytest.skip(f"the locked packages are not in {folder}: make setup-tests puts them there")
    return folder


@pytest.fixture(scope="session")
def without_index(wheelhouse: Path) -> dict[str, str]:
    """The variables with which pip takes packages from ``wheelhouse`` and asks no index."""
    return {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheelhouse), "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="session")
def wheel(clone: Path, without_index: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as ``make wheel`` does: a test of the build, and the only thing that is built in here."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [str(ROOT / "scripts" / "wheel"), sys.prefix, str(folder)]
    if sys.version_info < (3, 11):  # its headers do not do for every Python
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(clone)]
    subprocess.run(command, check=True, env=without_index)
    return next(folder.glob("caffebench-*.whl"))


@pytest.fixture(scope="session")
def have_programs() -> Callable[[Sequence[str], Sequence[str]], None]:
    """Skips the test, saying why, where programs are missing. Takes them and the Debian packages that they are in."""

    def have(programs: Sequence[str], packages: Sequence[str]) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if missing:
            pytest.skip(f"{', '.join(missing)} missing: as root, make setup-tests installs {' '.join(packages)}")

    return have


@pytest.fixture(scope="module")
def browser(
    have_programs: Callable[[Sequence[str], Sequence[str]], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Chromium without a network, driven by Selenium; skips the test, saying why, where it is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    have_programs(("chromium", "chromedriver"), ("chromium", "chromium-driver"))
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    profile = tmp_path_factory.mktemp("profile")
    size = ["--window-size=1400,1600", f"--user-data-dir={profile}"]
    for argument in ["--headless", "--no-sandbox", "--disable-gpu", *ALONE, *NO_NETWORK, *size]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a test's own."""

    folder: Path
    variables: dict[str, str]

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next(self.folder.glob("lib/python3*/site-packages"))

    def run(self, *command: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run one of its own programs, from an empty folder unless ``cwd`` says otherwise; pip asks no index."""
        (self.folder / "empty").mkdir(exist_ok=True)
        defaults = {"cwd": self.folder / "empty", "env": self.variables}
        options = {**defaults, "capture_output": True, "text": True} | options
        return subprocess.run([str(self.folder / "bin" / command[0]), *command[1:]], **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="session")
def environment(wheel: Path, without_index: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment that was empty before pip put the wheel and what it asks for into it; Caffe is not in it."""
    made = Environment(tmp_path_factory.mktemp("environment"), without_index)
    subprocess.run([sys.executable, "-m", "venv", str(made.folder)], check=True)
    done = made.run("python", "-m", "pip", "install", "--quiet", str(wheel))
    assert done.returncode == 0, done.stderr
    return made
