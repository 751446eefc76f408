"""No rule finds anything in any file that is generated here, on any profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffebench.generator import catalog
from caffebench.generator.generate import generate, write
from caffebench.generator.lint import lint
from caffebench.generator.meaning import load_prototxt


@pytest.mark.parametrize("name", catalog.profile_names())
def test_no_findings_in_what_is_generated(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    profile = catalog.load_profile(name)
    sweeps = [sweep for sweep in map(catalog.load_sweep, catalog.sweep_names()) if name not in sweep.refuse]
    write(generate(sweeps, profile), Path("prototxt"))
    files = [load_prototxt(path) for path in sorted(Path("prototxt").glob("*.prototxt"))]
    assert len(files) >= len(sweeps)
    assert [str(one) for one in lint(files)] == []
