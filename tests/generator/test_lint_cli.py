"""``gen-prototxt --lint`` and ``--compare`` as users run them: output, exit codes, and the pages that show them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import in_process
import pytest

ROOT = Path(__file__).parents[2]
GOOD = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }\n'


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return in_process.run("gen-prototxt", *arguments, cwd=folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.prototxt").write_text(GOOD)
    (tmp_path / "bad.prototxt").write_text(GOOD + 'layer { name: "r" type: "Relu" bottom: "x" top: "r" }\n')
    (tmp_path / "none.prototxt").write_text("layer {\n  name: }\n")
    return tmp_path


def test_lint_without_findings(folder: Path) -> None:
    done = run(folder, "--lint", "good.prototxt")
    shown = "good.prototxt: deploy net, judged in TEST\n0 findings in 1 file\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")


def test_lint_with_a_finding(folder: Path) -> None:
    done = run(folder, "--lint", "good.prototxt", "bad.prototxt")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "good.prototxt, bad.prototxt: deploy net, judged in TEST",
        "bad.prototxt:2: error unknown-type: layer r: type 'Relu' is not in BVLC Caffe",
        "  why: Caffe refuses the net: 'Unknown layer type'",
        '  fix: type: "ReLU"',
        "1 finding in 2 files",
    ]


def test_lint_of_what_is_no_prototxt(folder: Path) -> None:
    done = run(folder, "--lint", "good.prototxt", "none.prototxt")
    assert done.returncode == 1, "the other file was judged"
    assert "none.prototxt:2: error unreadable: 2:9: no value for name" in done.stdout
    alone = run(folder, "--lint", "none.prototxt")
    assert (alone.returncode, alone.stderr) == (2, "")


def test_compare(folder: Path) -> None:
    same = run(folder, "--compare", "good.prototxt", "good.prototxt")
    assert (same.returncode, same.stdout) == (0, "the same in meaning\n")
    other = run(folder, "--compare", "good.prototxt", "bad.prototxt")
    assert (other.returncode, other.stdout) == (1, "r (Relu): only in B, after x\n1 difference\n")


def test_compare_tells_the_lines_of_unknown_fields(folder: Path) -> None:
    (folder / "fork.prototxt").write_text(GOOD.replace("input_param", "\nfork_param { x: 1 } input_param"))
    done = run(folder, "--compare", "good.prototxt", "fork.prototxt")
    assert (done.returncode, done.stdout) == (
        1,
        "x (Input): fork_param (unknown to Caffe) none -> x: 1\n1 difference\n",
    )
    assert done.stderr.startswith("note: fork.prototxt:2: BVLC Caffe knows no layer.fork_param")


@pytest.mark.parametrize(
    "arguments",
    [("--lint",), ("--compare", "good.prototxt"), ("--compare", "--lint", "a", "b"), ("--compare", "no.txt", "no.txt")],
)
def test_wrong_usage(folder: Path, arguments: tuple[str, ...]) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("page", ["lint.md", "compare.md"])
def test_the_page_shows_what_is_printed(shared: Path, page: str) -> None:
    lines = (ROOT / "docs" / page).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("    $ gen-prototxt"))
    end = next(i for i in range(start, len(lines)) if not lines[i].strip())
    shown = [line.removeprefix("    ") for line in lines[start + 1 : end]]
    folder = shared / "caffenet-benchmark" / "prototxt" / "batch_size"
    done = run(folder, *lines[start].split()[2:])
    assert done.returncode == 1
    assert done.stdout.splitlines() == shown
