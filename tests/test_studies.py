"""The pages of the studies say what the logs that are kept say: made again, without training, they are the same."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from studying.declared import LOGS, PAGES, studies  # noqa: E402
from studying.numbers import Difference, versus  # noqa: E402
from studying.page import read_arms  # noqa: E402
from studying.training import thinned  # noqa: E402

DONE = [study for study in studies() if (PAGES / f"{study.name}.md").is_file()]


@pytest.mark.slow
def test_the_pages_are_what_the_logs_give() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "studies", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("study", DONE, ids=lambda one: one.name)
def test_a_page_has_its_pictures_and_seeds(study) -> None:
    page = (PAGES / f"{study.name}.md").read_text()
    for picture in re.findall(r"\]\((images/[^)]+)\)", page):
        assert (PAGES / picture).is_file()
    assert all(len(arm.group.runs) >= study.seeds for arm in read_arms(study))


@pytest.mark.slow
def test_a_changed_log_is_noticed(tmp_path: Path) -> None:
    """A copy of the project in which one kept log tells another accuracy."""
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    shutil.copytree(ROOT / "docs" / "studies", copy / "docs" / "studies")
    shutil.copytree(LOGS, copy / "logs" / "studies")
    shutil.copytree(ROOT / "prototxt", copy / "prototxt")
    shutil.copy(ROOT / "README.md", copy)
    command = [sys.executable, copy / "scripts" / "studies", "--check"]
    path = sorted((copy / "logs" / "studies" / DONE[0].name).glob("*.log.gz"))[0]
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(re.sub(rb"accuracy = 0\.8", b"accuracy = 0.5", text)))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    changed = re.findall(r"docs/studies/(\w+)\.md is not what the logs give", done.stdout)
    assert changed == [DONE[0].name, "index"], "its own page and the overview, and no other"


def test_the_logs_are_small() -> None:
    assert sum(path.stat().st_size for path in LOGS.rglob("*") if path.is_file()) < 12e6


def test_what_is_thrown_away_of_a_log_tells_no_result() -> None:
    lines = [
        b"I0101 00:00:00.000000 1 layer_factory.hpp:77] Creating layer data\n",
        b"I0101 00:00:00.000000 1 net.cpp:84] Creating Layer data\n",
        b"I0101 00:00:00.000000 1 net.cpp:53] Initializing net from parameters: \n",
        b'name: "net"\n',
        b"I0101 00:00:00.000000 1 solver.cpp:347] Iteration 0, Testing net (#0)\n",
    ]
    assert thinned(b"".join(lines)) == b"".join(lines[2:])


def test_intervals_are_welchs() -> None:
    """Against scipy's own interval, and on both sides of what an interval can say."""
    from scipy import stats

    one, other = [0.86, 0.87, 0.88], [0.80, 0.84, 0.83]
    found = versus(one, other)
    assert found is not None
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert versus(one, [0.8]) is None
    assert [Difference(0.01, low, 0.02, said).verdict for low, said in ((0.005, 0.1), (0.005, -0.1), (-0.01, 0.1))] == [
        "agrees",
        "disagrees",
        "inside the spread",
    ]
