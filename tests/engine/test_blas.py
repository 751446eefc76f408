"""Telling OpenBLAS what it computes on, where it does not know the processor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from caffebench.engine import blas
from caffebench.engine.features import caffe_is_there

AVX512 = {"avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"}
on_openblas = pytest.mark.skipif(
    not caffe_is_there() or blas.chosen_core_type() is None, reason="no Caffe on OpenBLAS: run install-caffe"
)


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(blas.CORE_TYPE, raising=False)
    blas.blas_environment.cache_clear()
    yield
    blas.blas_environment.cache_clear()  # what was made up is not for other tests


@pytest.mark.parametrize(
    ("features", "kernels"),
    [
        (AVX512, "SkylakeX"),
        (AVX512 - {"avx512vl"}, "Haswell"),  # a Xeon Phi has avx512f alone
        ({"sse4_2", "avx"}, None),
        (set(), None),
    ],
)
def test_kernels_for_a_processor(features: set[str], kernels: str | None) -> None:
    assert blas.fitting_core_type(features) == kernels


@on_openblas
@pytest.mark.parametrize("kind", ["Nehalem", "Sandybridge"])
def test_asks_the_library_that_caffe_uses(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(blas.CORE_TYPE, kind)
    assert blas.chosen_core_type() == kind
    assert blas.blas_environment() == {}  # the user's word holds


@on_openblas
def test_no_processor_is_left_at_kernels_of_2004(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in blas.blas_environment().items():
        monkeypatch.setenv(name, value)
    if blas.fitting_core_type(blas._features()) is None:
        pytest.skip("this processor has no AVX2, for which OpenBLAS has other kernels")
    assert blas.chosen_core_type() not in (None, "Prescott", "Nehalem")


@pytest.mark.parametrize(
    ("chosen", "told"), [("Prescott", {blas.CORE_TYPE: "SkylakeX"}), ("Zen", {}), ("Cooperlake", {}), (None, {})]
)
def test_told_only_what_it_does_not_know(chosen: str, told: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's answer is made up: a machine has one processor."""
    monkeypatch.setattr(blas, "_features", lambda: AVX512)
    monkeypatch.setattr(blas, "chosen_core_type", lambda: chosen)
    assert blas.blas_environment() == told
