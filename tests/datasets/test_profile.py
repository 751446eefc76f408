"""The profile.yaml that make-lmdb writes is one that gen-prototxt takes, and says what is in the LMDBs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image as Pillow

from caffebench.datasets.cli import main
from caffebench.datasets.fashion import make_fashion

TOOLS = Path(sys.executable).parent


def make(*arguments: object) -> None:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output


def pictures(src: Path, *sizes: tuple[int, int]) -> Path:
    for number in range(40):
        width, height = sizes[number % len(sizes)]
        path = src / f"c{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.RandomState(number).randint(0, 200, (height, width, 3))
        Pillow.fromarray(noise.astype(np.uint8)).save(path)
    return src


@pytest.mark.slow
def test_what_it_says(tmp_path: Path) -> None:
    src = pictures(tmp_path / "src", (20, 24), (30, 24))
    make("folder", src, tmp_path / "my-pictures", "--test-share", "0.25")
    found = yaml.safe_load((tmp_path / "my-pictures" / "profile.yaml").read_text())
    assert found["profile"] == "my_pictures"
    assert (found["train_size"], found["test_size"], found["classes"], found["channels"]) == (30, 10, 2, 3)
    assert (found["image_size"], found["crop_size"], found["mirror"]) == (20, 20, True)
    assert found["mean_value"] == pytest.approx([99.5] * 3, abs=2)
    make("folder", src, tmp_path / "square", "--gray", "--small-side", "16")
    make("digits", tmp_path / "digits")
    found = yaml.safe_load((tmp_path / "digits" / "profile.yaml").read_text())
    assert (found["image_size"], "crop_size" in found, found["mirror"], found["channels"]) == (8, False, False, 1)


def test_an_edited_one_is_left_alone_until_the_data_are_others(tmp_path: Path) -> None:
    src, out = pictures(tmp_path / "src", (16, 16)), tmp_path / "out"
    make("folder", src, out)
    profile = out / "profile.yaml"
    profile.write_text(profile.read_text() + "settings: {dropout: 0.2}\n")
    make("folder", src, out)
    assert "dropout" in profile.read_text()
    make("folder", src, out, "--force", "--seed", "3")
    assert "dropout" not in profile.read_text()


@pytest.mark.caffe
@pytest.mark.parametrize("where", ["data/birds", "elsewhere/birds"])
def test_every_architecture_trains_on_it_at_once(tmp_path: Path, where: str) -> None:
    pictures(tmp_path / "src", (33, 28), (28, 28), (40, 28))
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}

    def run(command: str) -> str:
        done = subprocess.run(command.split(), cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    run(f"make-lmdb folder src {where}")
    (tmp_path / "nets.yaml").write_text(
        "grid: {architecture: [caffenet, googlenet128, mobilenetv2, proxylessnas_mobile]}\nsettings: {epochs: 1}\n"
    )
    run(f"gen-prototxt nets.yaml --profile {where} --set width=0.25")
    files = sorted(str(path) for path in (tmp_path / "prototxt").iterdir())
    assert len(files) == 4
    assert f'source: "{where}/train_lmdb"' in Path(files[0]).read_text()
    trained = files if where.startswith("data/") else files[:1]
    assert run(f"run-caffe {' '.join(trained)} --cpu").count("done at iteration") == len(trained)


def test_a_folder_without_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [TOOLS / "gen-prototxt", "bn_order", "--profile", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"gen-prototxt: {tmp_path} has no profile.yaml: give a folder that make-lmdb wrote, or a profile's file\n"
    )


def test_fashion_mnist_that_cannot_be_had(tmp_path: Path) -> None:
    """As somebody who is not root, and as root where there is no network: what to do is said, nothing is written."""
    program = (
        "import os, sys; from pathlib import Path; from caffebench.datasets import fashion; USER\n"
        "fashion.make_fashion(Path('out'), folder=Path('nowhere'))"
    )
    no_dpkg = tmp_path / "bin"
    no_dpkg.mkdir()
    (no_dpkg / "dpkg-query").write_text("#!/bin/sh\n")
    (no_dpkg / "apt-get").write_text("#!/bin/sh\necho 'E: Temporary failure resolving deb.debian.org' >&2; exit 100\n")
    for tool in no_dpkg.iterdir():
        tool.chmod(0o755)
    said = []
    for user in ("os.geteuid = lambda: 1000", "os.geteuid = lambda: 0"):
        command = [sys.executable, "-c", program.replace("USER", user)]
        environment = {**os.environ, "PATH": f"{no_dpkg}:{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        said.append(done.stderr.splitlines()[-1])
    assert "sudo apt-get install -y --no-install-recommends dataset-fashion-mnist" in said[0]
    assert "could not install" in said[1]
    assert "Temporary failure resolving" in said[1]
    assert all("make-lmdb mnist FOLDER OUT" in line for line in said)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_fashion_mnist_from_the_package(tmp_path: Path, have_debian_package) -> None:  # type: ignore[no-untyped-def]
    have_debian_package("dataset-fashion-mnist")
    made = make_fashion(tmp_path / "out")
    assert [one.summary.records for one in made] == [60_000, 10_000]
    assert [one.summary.means for one in made] == [pytest.approx((72.94,), abs=0.01), pytest.approx((73.15,), abs=0.01)]
