"""What the rules find in the published hand-written files, and that no file whatever makes them fail."""

from __future__ import annotations

import random
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffebench.common.errors import InputError
from caffebench.generator.compare import compare
from caffebench.generator.lint import Finding, lint
from caffebench.generator.lint.page import examples
from caffebench.generator.meaning import Prototxt, load_prototxt


@pytest.fixture(scope="module")
def originals(shared: Path) -> Path:
    return shared / "caffenet-benchmark" / "prototxt"


@pytest.fixture(scope="module")
def findings(originals: Path) -> list[Finding]:
    return lint([load_prototxt(path) for path in sorted(originals.rglob("*.prototxt"))])


def of(findings: list[Finding], rule: str) -> dict[str, str]:
    """What a rule found, by the end of the file's path."""
    return {"/".join(one.path.parts[-2:]): one.what for one in findings if one.rule == rule}


def test_the_two_wrong_bs256_files(findings: list[Finding]) -> None:
    assert of(findings, "file-name") == {
        "batch_size/caffenet128_lsuv_bs256.prototxt": "the file's name says bs256, the file holds batch_size 64",
        "tanh/caffenet128_lsuv_bs256.prototxt": "the folder's name says tanh, the file holds ReLU, no TanH",
    }
    twins = of(findings, "same-content")
    assert set(twins) == {
        "batch_size/caffenet128_lsuv_bs256.prototxt",
        "batch_size/caffenet128_lsuv_bs64_lr00025.prototxt",
    }
    assert all(what.startswith("is byte for byte") for what in twins.values())


def test_colliding_prefixes(findings: list[Finding], originals: Path) -> None:
    found = of(findings, "snapshot-shared")
    names = {path.name for path in originals.glob("batch_size/*.prototxt")}
    same = {path.name for path in originals.glob("batch_size/tanh/*.prototxt")} & names
    expected = {f"{folder}/{name}" for folder in ("batch_size", "tanh") for name in same}
    # The file that was never turned into a TanH one has a prefix of its own.
    assert set(found) == expected - {"tanh/caffenet128_lsuv_bs256.prototxt"}


def test_mean_124_against_123_in_every_file(findings: list[Finding], originals: Path) -> None:
    found = of(findings, "mean-differs")
    assert len(found) == len(list(originals.rglob("*.prototxt"))) == 25
    assert set(found.values()) == {"mean_value 104 117 124 in TRAIN, 104 117 123 in TEST"}


def test_the_rest_of_the_originals(findings: list[Finding], originals: Path) -> None:
    assert set(of(findings, "batchnorm-statistics")) == {"bn/bn_after_googlenet128_linear_lsuv.prototxt"}
    assert set(of(findings, "batchnorm-scale")) == {"bn/caffenet128_lsuv_no_lrn_BatchNormBeforeReLU.prototxt"}
    assert len(of(findings, "dropout-after-batchnorm")) == 5
    assert len(of(findings, "unknown-field")) == 6
    assert len(of(findings, "deprecated")) == 24
    unexpected = {"duplicate-name", "duplicate-top", "missing-bottom", "unread-top", "test-iter", "step-scale"}
    assert not unexpected & {one.rule for one in findings}


def test_fields_of_a_fork_are_told_by_line(originals: Path) -> None:
    path = originals / "bn" / "caffenet128_lsuv_no_lrn.prototxt"
    unknown = load_prototxt(path).unknown
    lines = path.read_text().splitlines()
    assert [name for _, name, _ in unknown] == ["net_param.layer.transform_param.resize_param"] * 2
    assert all("resize_param" in lines[node.line - 1] for _, _, node in unknown)


def loaded(path: Path) -> Prototxt | None:
    """The file, or None where it is refused in one line."""
    try:
        return load_prototxt(path)
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    return None


CLEAN = examples()["base"]
VALUES = re.compile(r'("[^"]*"|(?<=: )-?[\d.]+|\w+_param|[A-Z]{3,}|\b(?:layer|bottom|top|type|name)\b)')


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 3))
def test_no_wrong_value_makes_lint_or_compare_fail(seed: int, changes: int) -> None:
    """Values and field names of a sound file exchanged for others of its own: most still parse."""
    chance, words = random.Random(seed), VALUES.split(CLEAN)
    for _ in range(changes):
        place = chance.randrange(1, len(words), 2)
        kind = words[place][0] == '"', words[place][0].isdigit()
        mates = [word for word in words[1::2] if (word[0] == '"', word[0].isdigit()) == kind]
        words[place] = chance.choice([*mates, "0", "-1"] if kind[1] else mates)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.prototxt"
        path.write_text("".join(words))
        file = loaded(path)
        if file is not None:
            lint([file])
            assert compare(file, file) == []


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_prototxt_or_an_error_of_one_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.prototxt"
        path.write_bytes(content)
        file = loaded(path)
        if file is not None:
            lint([file])
