"""`scripts/test-caffe`: what it makes of googletest's words, and what it lets pass."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("test_caffe_script", str(SCRIPTS / "test-caffe"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    path = list(sys.path)
    loader.exec_module(module)
    sys.path[:] = path
    return module


SAID = """
Note: Google Test filter = X
[ RUN      ] PoolingLayerTest/0.TestSetup
[       OK ] PoolingLayerTest/0.TestSetup (0 ms)
[ RUN      ] PoolingLayerTest/1.TestForward
test.cpp:12: Failure
Expected: 1
[  FAILED  ] PoolingLayerTest/1.TestForward, where TypeParam = caffe::CPUDevice<double> (3 ms)
[ RUN      ] SyncedMemoryTest.TestEnds
F0101 a fatal line
"""


def test_a_test_that_ends_its_process_is_told_from_one_that_fails(script):
    outcomes = dict(sys.modules["caffetests.running"]._outcomes(SAID.splitlines()))
    assert outcomes == {
        "PoolingLayerTest/0.TestSetup": None,
        "PoolingLayerTest/1.TestForward": "test.cpp:12: Failure",
        "SyncedMemoryTest.TestEnds": "",
    }


def test_a_class_that_takes_too_long_is_ended_and_the_others_are_run(script, tmp_path):
    """A programme that prints as googletest does: a stand-in, since none of Caffe's own tests hangs."""
    programme = tmp_path / "tests"
    programme.write_text(
        """#!/bin/sh
case $* in
*list_tests*) printf 'SlowTest/0.\\n  TestHangs\\n  TestFast\\nOtherTest.\\n  TestFast\\n' ;;
*Hangs*) echo '[ RUN      ] SlowTest/0.TestHangs'; exec sleep 60 ;;
*) for one in $(echo "$2" | sed 's/.*=//; s/:/ /g'); do
       echo "[ RUN      ] $one"; echo "[       OK ] $one (0 ms)"; done ;;
esac
"""
    )
    programme.chmod(0o755)
    running = sys.modules["caffetests.running"]
    made = sys.modules["caffetests.programme"].Programme(programme, tmp_path)
    assert running.cpp_tests(made, tmp_path, 2, limit=0.5) == {
        "SlowTest/0.TestHangs": "was not over after 0.5 s",
        "SlowTest/0.TestFast": None,
        "OtherTest.TestFast": None,
    }


def test_on_a_card_the_layers_that_compute_on_the_cpu_are_left_out(script):
    suites = ["PoolTest/0.", "PoolTest/1.", "PoolTest/2.", "PoolTest/3.", "CuDNNTest/0.", "CuDNNTest/1.", "IOTest."]
    on_card = sys.modules["caffetests.running"]._on_card
    assert [suite for suite in suites if on_card(suite, suites)] == suites[2:]


def test_only_what_is_known_to_fail_may(script, tmp_path, monkeypatch, capsys):
    known = tmp_path / "known.yaml"
    known.write_text('[{of: caffe, test: "A/*.Bad", why: no luck}, {of: caffe, test: B.Gone, without: sys, why: none}]')
    monkeypatch.setattr(script, "KNOWN", known)
    assert script.judged("caffe", "all", {"A/0.Bad": "x", "A/1.Bad": "y", "A.Good": None})
    assert "all: 1 passed, 2 failed" in capsys.readouterr().out
    assert not script.judged("caffe", "all", {"A/0.Bad": "x", "A/1.Bad": None})
    assert "A/1.Bad: PASSES" in capsys.readouterr().out
    assert not script.judged("caffe", "all", {"A/0.Bad": "x", "C.New": "it broke"})
    assert "C.New: NOT KNOWN: it broke" in capsys.readouterr().out
    assert not script.judged("caffe", "all", {"A.Good": None})  # a name that no test has
    assert not script.judged("fast", "nothing", {})


def test_the_layers_that_are_taken_over_are_found(script):
    assert {"Convolution", "InnerProduct", "Pooling", "LRN", "ReLU"} <= set(script.plugin_types())
