"""YAML of strangers: bounded before anything is built of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from caffebench.common.errors import InputError
from caffebench.common.yamlfile import read_yaml


class Anything(BaseModel):
    a: Any = None
    b: Any = None


def read(folder: Path, text: str) -> Anything:
    path = folder / "own.yaml"
    path.write_text(text)
    return read_yaml(path, Anything)


def test_a_few_aliases_and_merge_keys_are_fine(tmp_path: Path) -> None:
    read_back = read(tmp_path, "a: &x {k: 1}\nb: [*x, {<<: *x, l: 2}]\n")
    assert read_back.b == [{"k": 1}, {"k": 1, "l": 2}]


LEVELS = "".join(f"b{i}: &b{i} {{p: *b{i - 1}, q: *b{i - 1}}}\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b0: &b0 [1]\n" + LEVELS, ": the alias *b14 makes more than 200000 values"),
        ("a: &a [*a]\n", "own.yaml:1: the alias *a stands for nothing before it"),
        ("a: *b\n", "own.yaml:1: the alias *b stands for nothing before it"),
        ("a: " + "[" * 900, "own.yaml:1: nested more than 40 deep"),
        ("a: [" + "1," * 300_000 + "]", "own.yaml:1: this makes more than 200000 values"),
        ("a: " + "1" * (1 << 20), "own.yaml is larger than 1 MB"),
        ("a: " + "7" * 5000, "own.yaml:1: a value in it cannot be read"),
        ("a: 2026-02-31\n", "own.yaml:1: a value in it cannot be read"),
        ("? [a, b]\n: 1\n", "own.yaml:1: a key must be a word"),
        (
            "a: !!python/object/apply:os.getcwd []\n",
            "own.yaml:1: the tag tag:yaml.org,2002:python/",
        ),
        ("- 1\n", "own.yaml:1: 'key: value' lines are wanted"),
        ("a: 1\n--- \nb: 2\n", "own.yaml:2: this is not YAML"),
    ],
)
def test_refused_in_one_line_within_a_second(tmp_path: Path, text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert time.process_time() - start < 1
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match="is no file"):
            read_yaml(path, Anything)
