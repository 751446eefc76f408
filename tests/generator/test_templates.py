"""``--templates``: architectures of the user's own, by the page that tells how."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffebench.common.errors import InputError
from caffebench.generator import render as rendering
from caffebench.generator.generate import generate
from caffebench.generator.meaning import load_prototxt
from caffebench.generator.variants.catalog import load_profile, load_sweep
from caffebench.generator.variants.schema import Sweep

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "templates.md").read_text()
TEMPLATE = PAGE.split("```jinja\n")[1].split("```")[0]
BESIDE, SWEEP = (part.split("```")[0] for part in PAGE.split("```yaml\n")[1:])


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "lenet.prototxt.j2").write_text(TEMPLATE)
    (folder / "lenet.yaml").write_text(BESIDE)
    (tmp_path / "rates.yaml").write_text(SWEEP)
    return folder


@pytest.mark.slow
def test_the_page_does_what_it_says(nets: Path) -> None:
    assert len(TEMPLATE.splitlines()) <= 20
    lines = PAGE.splitlines()
    commands = [number for number, line in enumerate(lines) if line.startswith("    $ ")]
    assert len(commands) == 2
    for number in commands:
        command = f"{Path(sys.executable).parent}/{lines[number].removeprefix('    $ ')}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True)  # noqa: S602
        assert done.stdout + done.stderr == lines[number + 1].strip() + "\n"
    net = load_prototxt(Path("prototxt/lr0.1.prototxt")).phase("TRAIN")
    assert net is not None
    kinds = [layer.type for layer in net.layers]
    assert kinds == [
        "Data",
        *["Convolution", "ReLU", "Pooling"] * 2,
        *["InnerProduct", "ReLU"],
        "InnerProduct",
        "SoftmaxWithLoss",
    ]


def test_the_page_lists_every_variable_and_macro() -> None:
    given = re.search(r"template\.render\((.*?)\n        \)", inspect.getsource(rendering.render), re.DOTALL)
    assert given is not None
    variables = re.findall(r"^            (\w+)=", given[1], re.MULTILINE)
    assert len(variables) == 7
    assert [name for name in variables if f"| `{name}` |" not in PAGE] == []
    blocks = (ROOT / "templates" / "blocks.j2").read_text()
    macros = re.findall(r"{% macro (\w+\(.*?\)) %}", blocks)
    assert len(macros) == 19
    assert [macro for macro in macros if f"`{macro}`" not in PAGE] == []


def test_a_folder_without_a_recipe_or_sizes_will_do(nets: Path, shared: Path) -> None:
    """The template alone, with the sweep and the profile of somebody who tried it."""
    (nets / "lenet.yaml").unlink()
    (nets / "lenet.prototxt.j2").write_text(
        TEMPLATE.replace("size.convolutions", "[20, 50]").replace("size.hidden", "500")
    )
    case = shared / "cases" / "prototxt" / "22-sweep-own-architecture"
    made = generate([load_sweep(str(case / "lenet.yaml"))], load_profile(str(case / "mine.yaml")), templates=nets)
    assert list(made) == ["lr0.1", "lr0.01", "lr0.001"]
    assert "max_iter: 100\n" in made["lr0.1"]  # the recipe of the profile
    made = generate([load_sweep("rates.yaml")], load_profile("digits"), templates=nets)
    assert "max_iter: 1120\n" in made["lr0.1"]  # 50 epochs of 1437 pictures in batches of 64, in whole test intervals


@pytest.mark.caffe
def test_it_trains(nets: Path, digits_root: Path) -> None:
    Path("data").symlink_to(digits_root)
    Path("snapshots").mkdir()
    text = generate([load_sweep("rates.yaml")], load_profile("digits"), templates=nets, only="lr0.01")["lr0.01"]
    Path("lr0.01.prototxt").write_text(text)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "0"}  # another test may have set it
    command = [str(Path(sys.executable).parent / "caffe"), "train", "-solver", "lr0.01.prototxt"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert float(re.findall(r"accuracy = ([\d.]+)", done.stderr)[-1]) > 0.9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size.hidden", "size.hiden", "the template of lenet asks for a value that is not there"),
        ("{% endfor %}", "", "lr0.1: the template of lenet, line 18: Encountered unknown tag 'endblock'"),
        ('"solver.prototxt.j2"', '"solve.prototxt.j2"', "there is no template solve.prototxt.j2 in "),
        ("5) -}}", "5, stride=0) -}}", "the template of lenet: "),
        ("(size.hidden * s.width)|int", "''.__class__.__mro__", "the template of lenet"),
        ("{% block title %}LeNet", '{% block title %}{{ "a" }}{% include "../rates.yaml" %}', "there is no template"),
    ],
)
def test_a_mistake_in_a_template_is_told_in_one_line(nets: Path, old: str, new: str, message: str) -> None:
    assert old in TEMPLATE
    (nets / "lenet.prototxt.j2").write_text(TEMPLATE.replace(old, new))
    with pytest.raises(InputError) as caught:
        generate([load_sweep("rates.yaml")], load_profile("digits"), templates=nets)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def own(**settings: object) -> Sweep:
    return Sweep.model_validate({"sweep": "own", "name": "n", "settings": settings, "variants": [{}]})


def test_an_architecture_that_is_nowhere_is_refused_with_those_there_are(nets: Path) -> None:
    shutil.copy(nets / "lenet.prototxt.j2", nets / "other.prototxt.j2")
    with pytest.raises(InputError, match=r"has no architecture 'letnet', but .*lenet.*other.*nor is there a .*/letnet"):
        generate([own(architecture="letnet")], load_profile("digits"), templates=nets)


def test_what_no_template_knows_is_changed_in_the_net() -> None:
    """`edit`, `filler`, `lrn`: a bundled architecture is changed as a user's own net is."""
    digits = load_profile("digits")
    edits = [{"layer": "conv1", "convolution_param.num_output": "recipe.batch_size / 2"}]
    (text,) = generate([own(architecture="caffenet", edit=edits, filler="xavier")], digits).values()
    assert re.search(r'name: "conv1".*?num_output: 32\b', text, re.DOTALL)
    assert "msra" not in text
    (text,) = generate([own(architecture="googlenet128", lrn=False)], digits).values()
    assert '"LRN"' not in text
    with pytest.raises(InputError, match="n: lrn: the net has no LRN layer to take out"):
        generate([own(architecture="caffenet", lrn=False)], digits)
