"""The header: what is written is what is read, what was edited into something else is refused with its line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from caffebench.common.errors import InputError
from caffebench.common.header import MARK, format_header, read_header
from caffebench.engine.messages import caffe_messages

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HEADERS = st.fixed_dictionaries(
    {"label": TEXT, "allow": st.dictionaries(TEXT.filter(bool), TEXT, max_size=3)},
    optional={
        "comment": TEXT,
        "default": st.booleans(),
        "shape": st.lists(st.integers(1, 999), min_size=3, max_size=3),
        "lr_schedule": st.fixed_dictionaries({"policy": st.just("cosine"), "min_lr": st.floats(0, 1)}),
        "phases": st.lists(st.fixed_dictionaries({"until": st.integers(1, 10**9)}), min_size=1, max_size=3),
        "published_accuracy": st.sampled_from(["0.470", "n/c", "-"]),
    },
)


@given(HEADERS)
def test_what_is_written_is_what_is_read_and_never_leaves_its_comment(header):
    text = format_header(header)
    assert all(line.startswith(MARK) for line in text.rstrip("\n").split("\n"))
    assert read_header(text) == header
    assert text_format.Parse(text, caffe_messages().SolverParameter()) == caffe_messages().SolverParameter()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed: -1", "seed: Input should be greater than or equal to 0"),
        ("seed: 1e99", "seed: Input should be a valid integer"),
        ("phases: 3", "phases: Input should be a valid list"),
        ("phases: [{until: 0}]", "phases.0.until"),
        ("phases: [{until: 5, batch: 2}]", "unknown key 'phases.0.batch': did you mean 'batch_size'?"),
        ("loader: {workers: many}", "loader.workers: Input should be a valid integer"),
        ("classes: 10.5", "classes"),
        ("label: [a]", "label: Input should be a valid string"),
        ("lr_schedule: {policy: cosine, min_lr: .nan}", "lr_schedule.min_lr"),
        ("lr_schedule: {policy: warm}", "lr_schedule.policy: Input should be 'cosine'"),
        ("sede: 1", "unknown key 'sede': did you mean 'seed'?"),
        ("shape: [1, 2]", "shape"),
        ("init: lsvu", "init: Input should be 'lsuv'"),
        ("label: 'open", "this is not YAML"),
        ("label: !!python/name:os.system x", "the tag tag:yaml.org,2002:python/name:os.system"),
        ("just words", "this is not YAML"),
        ("seed: " + "9" * 5000, "a value in it cannot be read"),
        ("label: " + "x" * 70_000, "longer than 64 KB"),
        ("label: " + "[" * 500, "nested more than 40 deep"),
        ("classes: &c 10\n# caffebench: seed: *c", "the alias *c"),
        ("label: a\n# caffebench: label: b", "the key 'label' stands here a second time"),
    ],
)
def test_a_value_of_no_use_is_refused_with_file_and_line(line, message):
    text = f"base_lr: 1\n# a comment\n# caffebench: sweep: s\n# caffebench: {line}\nmax_iter: 1\n"
    with pytest.raises(InputError, match=r"^own\.prototxt(:[345])?: ") as caught:
        read_header(text, "own.prototxt")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nested_aliases_are_refused_at_once(shared: Path):
    text = (shared / "cases" / "hostile" / "s14.prototxt").read_text()
    start = time.process_time()
    with pytest.raises(InputError, match=r"s14\.prototxt:2: the alias \*a"):
        read_header(text, "s14.prototxt")
    assert time.process_time() - start < 1
