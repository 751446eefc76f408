"""What several tests of the generator look at: the files of all bundled sweeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from caffebench.generator.generate import generate
from caffebench.generator.variants.catalog import load_profile, load_sweep, sweep_names

Texts = dict[str, str]


@pytest.fixture(scope="session")
def every_file() -> Callable[[str], Texts]:
    """``every_file(profile)``: the texts of all bundled sweeps' files on a profile by their names, made once."""

    @cache
    def texts(profile: str) -> Texts:
        sweeps = [sweep for sweep in map(load_sweep, sweep_names()) if profile not in sweep.refuse]
        return generate(sweeps, load_profile(profile))

    return texts
