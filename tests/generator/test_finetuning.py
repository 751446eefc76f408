"""``classifier``, ``freeze`` and ``lr_mults``: what fine-tuning changes of a user's net, and of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

from caffebench.common.errors import InputError
from caffebench.common.header import read_header
from caffebench.engine.messages import caffe_messages
from caffebench.generator.base import generate_on_base, load_base
from caffebench.generator.generate import generate
from caffebench.generator.variants.catalog import load_profile
from caffebench.generator.variants.schema import Sweep

sys.path.insert(0, str(Path(__file__).parent))
from architectures import ARCHITECTURES

BIN = Path(sys.executable).parent


def made(folder: Path, name: str, **settings: object) -> str:
    path = folder / f"{name}.prototxt"
    path.write_text(ARCHITECTURES[name]())
    found = generate_on_base([sweep(**settings)], load_base(path))
    if found.refused:
        raise InputError(found.refused["v"])
    return found.texts["v"]


def sweep(**settings: object) -> Sweep:
    return Sweep.model_validate(
        {"sweep": "mine", "title": "t", "studies": "s", "source": "us", "name": "v", "label": "l",
         "settings": settings, "variants": [{}]}
    )  # fmt: skip


def layers(text: str) -> dict[str, object]:
    net = text_format.Parse(text, caffe_messages().SolverParameter()).net_param
    return {one.name: one for one in net.layer}


def rates(layer: object) -> list[float]:
    return [spec.lr_mult for spec in layer.param]  # type: ignore[attr-defined]


def test_a_new_classifier_has_another_name_and_the_classes_asked_for(tmp_path: Path) -> None:
    before, text = layers(ARCHITECTURES["caffenet"]()), made(tmp_path, "caffenet", classifier="new", classes=37)
    after = layers(text)
    assert before.keys() - after.keys() == {"fc8"}
    assert after.keys() - before.keys() == {"fc8_new"}
    assert after["fc8_new"].inner_product_param.num_output == 37  # type: ignore[attr-defined]
    assert list(after["fc8_new"].top) == list(before["fc8"].top)  # type: ignore[attr-defined]
    assert read_header(text)["classes"] == 37


def test_all_heads_of_googlenet_are_new_and_what_few_classes_cannot_be_asked_goes(tmp_path: Path) -> None:
    before, after = (
        layers(ARCHITECTURES["googlenet"]()),
        layers(made(tmp_path, "googlenet", classifier="new", classes=3)),
    )
    new = after.keys() - before.keys()
    assert len(new) == 3
    assert {after[name].inner_product_param.num_output for name in new} == {3}  # type: ignore[attr-defined]
    assert not [one for one in after.values() if one.type == "Accuracy" and one.accuracy_param.top_k > 1]  # type: ignore[attr-defined]


def test_a_convolution_may_be_the_classifier(tmp_path: Path) -> None:
    after = layers(made(tmp_path, "squeezenet", classifier="new", classes=12))
    assert after["conv10_new"].convolution_param.num_output == 12  # type: ignore[attr-defined]


def test_frozen_is_all_that_a_layer_is_computed_from(tmp_path: Path) -> None:
    after = layers(made(tmp_path, "caffenet", freeze="conv3"))
    for name in ("conv1", "conv2", "conv3"):
        assert [(spec.lr_mult, spec.decay_mult) for spec in after[name].param] == [(0, 0), (0, 0)]  # type: ignore[attr-defined]
    assert rates(after["conv4"]) == [1, 2]


def test_a_frozen_branch_leaves_its_neighbours_and_takes_what_it_shares(tmp_path: Path) -> None:
    two = layers(made(tmp_path, "two_heads", freeze="trunk1"))
    assert (rates(two["trunk1"]), 0 in rates(two["trunk2"])) == ([0, 0], False)
    after = layers(made(tmp_path, "siamese", freeze="conv2"))
    frozen = {spec.name for one in after.values() for spec in one.param if spec.lr_mult == 0}  # type: ignore[attr-defined]
    moving = {spec.name for one in after.values() for spec in one.param if spec.lr_mult != 0}  # type: ignore[attr-defined]
    assert frozen
    assert not frozen & moving  # Caffe aborts on two rates for shared weights


def test_rates_by_layer_multiply_those_of_the_net(tmp_path: Path) -> None:
    after = layers(made(tmp_path, "caffenet", lr_mults={"fc8": 10, "conv1": 5, "conv*": "1 / 10"}))
    assert rates(after["fc8"]) == [10, 20]
    assert rates(after["conv1"]) == [5, 10]  # the first pattern that fits
    assert rates(after["conv2"]) == pytest.approx([0.1, 0.2])
    assert rates(after["fc6"]) == [1, 2]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("autoencoder", {"classifier": "new"}, "classifier: no linear layer of the net leads to a loss over classes"),
        ("caffenet", {"freeze": "conv33"}, "freeze: the net has no layer conv33: did you mean 'conv3'?"),
        ("caffenet", {"lr_mults": {"pool*": 2}}, "lr_mults: no layer that learns is called pool*"),
        ("caffenet", {"lr_mults": {"conv*": 2, "conv1": 3}}, "lr_mults: an earlier pattern has every layer of conv1"),
    ],
)
def test_what_has_no_place_is_refused(name: str, settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        made(tmp_path, name, **settings)
    assert message in str(caught.value)


def test_bundled_architectures_take_them_too() -> None:
    text = generate([sweep(architecture="caffenet", classifier="new", freeze="conv5")], load_profile("digits"))["v"]
    found = layers(text)
    assert [name for name in found if name.endswith("_new")]
    assert rates(found["conv1"]) == [0, 0]


@pytest.mark.slow
def test_weights_of_ten_classes_go_to_a_net_of_three(tmp_path: Path, digits_root: Path) -> None:
    """On real Caffe, by the commands: trained, then fine-tuned with a new classifier and frozen layers."""
    (tmp_path / "data").symlink_to(digits_root)

    def run(*command: object) -> str:
        done = subprocess.run(
            [str(BIN / str(command[0])), *map(str, command[1:])], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    (tmp_path / "tuned.yaml").write_text(
        "name: tuned\nvariants: [{}]\n"
        "settings: {max_iter: 20, classifier: new, classes: 12, freeze: conv2, init: none}\n"
    )
    run("gen-prototxt", "batch_size", "--profile", "digits", "--only", "bs64", "--set", "max_iter=20")
    run("run-caffe", "prototxt/bs64.prototxt")
    run("gen-prototxt", "tuned.yaml", "--base", "prototxt/bs64.prototxt")
    said = run("run-caffe", "prototxt/tuned.prototxt", "--weights", "snapshots/bs64_iter_20.caffemodel")
    assert "left at their start" in said
    assert "_new" in said
    first, second = (
        caffe_messages().NetParameter.FromString((tmp_path / "snapshots" / f"{name}_iter_20.caffemodel").read_bytes())
        for name in ("bs64", "tuned")
    )
    before, after = ({one.name: one for one in net.layer} for net in (first, second))
    for name in ("conv1", "conv2"):
        assert before[name].blobs == after[name].blobs
    assert before["conv3"].blobs != after["conv3"].blobs
