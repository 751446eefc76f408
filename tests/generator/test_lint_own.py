"""No rule finds anything in any file that is generated here, on any profile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from caffebench.generator.generate import write
from caffebench.generator.lint import lint
from caffebench.generator.meaning import Prototxt, load_prototxt
from caffebench.generator.variants import catalog


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.profile_names())
def test_no_findings_in_what_is_generated(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, every_file: Callable[[str], dict[str, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(every_file(name), Path("prototxt"))
    files = [load_prototxt(path) for path in sorted(Path("prototxt").glob("*.prototxt"))]
    assert len(files) >= len(catalog.sweep_names())
    assert [str(one) for one in lint(files)] == []


ROOT = Path(__file__).parents[2]
SPOILED = {
    "a test that leaves pictures out": ("bs128", "test_iter: 1000", "test_iter: 999", "test-iter"),
    "another batch size": ("bs128", "batch_size: 128", "batch_size: 256", "file-name"),
    "iterations not scaled with it": ("bs128", "batch_size: 128", "batch_size: 256", "epochs-differ"),
    "steps of another file": ("bs128", "stepsize: 200000", "stepsize: 100000", "steps-differ"),
    "another rate": ("bs128_lr0.005", "base_lr: 0.005", "base_lr: 0.01", "file-name"),
    "a prefix twice": ("bs128", "snapshots/bs128", "snapshots/bs64", "snapshot-shared"),
    "another mean": ("bs128", "mean_value: 124", "mean_value: 123", "mean-differs"),
    "another activation": ("tanh_bs128", '"TanH"', '"ReLU"', "file-name"),
    "BatchNorm without its Scale": ("bn_before_scale", '"Scale"', '"Power"', "batchnorm-scale"),
    "learnable statistics": ("bn_before", "batch_norm_param {", "param {} batch_norm_param {", "batchnorm-learns"),
    "statistics of the batch in TEST": (
        "bn_after",
        "batch_norm_param {",
        "batch_norm_param { use_global_stats: false",
        "batchnorm-statistics",
    ),
    "more dropout": ("ghost_bn4_in32", "dropout_ratio: 0.2", "dropout_ratio: 0.5", "dropout-after-batchnorm"),
    "a name twice": ("googlenet", 'name: "norm2"', 'name: "norm1"', "duplicate-name"),
    "a top twice": ("googlenet", 'top: "norm2"', 'top: "norm1"', "duplicate-top"),
    "a branch left out": (
        "googlenet",
        'bottom: "inception_3a/5x5"\n    bottom: "inception_3a/pool_proj"\n',
        'bottom: "inception_3a/pool_proj"\n',
        "unread-top",
    ),
    "a misspelt bottom": ("bs128", 'bottom: "pool5"', 'bottom: "poool5"', "missing-bottom"),
    "an old field": ("bs128", 'type: "SGD"', "solver_type: SGD", "deprecated"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Prototxt]:
    """A copy of the files that are kept: each is read once."""
    folder = tmp_path_factory.mktemp("kept") / "prototxt"
    shutil.copytree(ROOT / "prototxt", folder)
    return cache(lambda path: load_prototxt(folder / path.name))


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_found_in_a_spoiled_file_of_ours(kept: Callable[[Path], Prototxt], case: str) -> None:
    name, old, new, rule = SPOILED[case]
    study = name.split("_")[0].rstrip("0123456789") if name.startswith(("bs", "tanh_bs")) else name
    paths = sorted((ROOT / "prototxt").glob(f"{study}*.prototxt"))
    others = [kept(path) for path in paths if path.stem != name]
    sound = kept(ROOT / "prototxt" / f"{name}.prototxt")
    assert old in sound.text
    # The last place is that of the TEST phase where there are two.
    spoiled = sound.text.replace(old, new) if old != "mean_value: 124" else new.join(sound.text.rsplit(old, 1))
    sound.path.write_text(spoiled)
    try:
        file = load_prototxt(sound.path)
    finally:
        sound.path.write_text(sound.text)
    assert rule not in {one.rule for one in lint([sound, *others]) if one.path == sound.path}
    assert rule in {one.rule for one in lint([file, *others]) if one.path == sound.path}
