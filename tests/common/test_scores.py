"""Which output is the accuracy and which the loss, by names as people give them."""

from __future__ import annotations

import pytest

from caffebench.common.scores import TestOutput, choose_accuracy, choose_loss, find_output


def outputs(text: str) -> list[TestOutput]:
    """``a b*0.3 #1:c``: outputs a, b with weight 0.3, and c of test net 1."""
    made = []
    for word in text.split(" "):
        net, _, name = word.rpartition(":") if word.startswith("#") else ("#0", "", word)
        name, _, weight = name.partition("*")
        made.append(TestOutput(name.replace("~", " "), int(net[1:]), float(weight) if weight else None))
    return made


@pytest.mark.parametrize(
    ("names", "accuracy", "others"),
    [
        ("loss*1 accuracy", "accuracy", ""),
        ("accuracy loss*1 per_class_accuracy[0] per_class_accuracy[1]", "accuracy", ""),
        ("loss*1 top1/acc top5/acc", "top1/acc", ""),
        ("accuracy_top5 accuracy loss*1", "accuracy", ""),
        ("accuracy/top-5 accuracy/top-1 loss*1", "accuracy/top-1", ""),
        ("acc/top5 acc/top1", "acc/top1", ""),
        ("loss1/top-1 loss1/top-5 loss2/top-1 loss3/loss3*1 loss3/top-1 loss3/top-5", "loss3/top-1", ""),
        ("loss3/top-1 loss2/top-1 loss1/top-1", "loss3/top-1", ""),
        ("loss1/accuracy loss2/accuracy accuracy-top5 accuracy", "accuracy", ""),
        ("aux_accuracy final_accuracy", "final_accuracy", ""),
        ("age_accuracy gender_accuracy age_loss*1", "age_accuracy", "gender_accuracy"),
        ("Accuracy1 Accuracy2 SoftmaxWithLoss1", "Accuracy1", "Accuracy2"),
        ("accuracy5 accuracy1", "accuracy1", ""),
        ("Top5 Top1", "Top1", ""),
        ("Top5Accuracy Top1Accuracy", "Top1Accuracy", ""),
        ("acc@5 acc@1", "acc@1", ""),
        ("accuracytop5 accuracytop1", "accuracytop1", ""),
        ("rank5 rank1", "rank1", ""),
        ("accuracy_top5 loss*1", "accuracy_top5", ""),
        ("class_accuracy mean_accuracy", "mean_accuracy", ""),
        ("class3_acc class4_acc class_mean_acc", "class_mean_acc", ""),
        ("mean_class_accuracy overall_accuracy", "mean_class_accuracy", "overall_accuracy"),
        ("detection_eval", "detection_eval", ""),
        ("class1 class2 detection_eval", "detection_eval", ""),
        ("loss_bbox*2 loss_coverage*1 precision recall mAP", "mAP", ""),
        ("AP~for~boat AP~for~car Mean~AP", "Mean AP", ""),
        ("mean_iu accuracy loss*1", "accuracy", ""),
        ("loss*1 mIoU", "mIoU", ""),
        ("score0 score1", "score0", ""),
        ("#1:accuracy #0:loss*1 #0:accuracy", "accuracy", ""),
        ("fc8_acc", "fc8_acc", ""),
        ("top-1-error top-5-error Top1", "Top1", ""),
        ("accuracy_5 accuracy_1", "accuracy_1", ""),
        ("feature_map bbox_mAP", "bbox_mAP", ""),
        ("loss1/top-1 loss2/top-1 top-1", "top-1", ""),
        ("val_accuracy/top5 val_accuracy/top1", "val_accuracy/top1", ""),
    ],
)
def test_the_accuracy(names: str, accuracy: str, others: str) -> None:
    found = choose_accuracy(outputs(names))
    assert found is not None
    assert (found.name, " ".join(found.others), found.net) == (accuracy, others, 0)


@pytest.mark.parametrize(
    "names",
    [
        "loss*1",
        "euclidean*1 error",
        "acceleration_loss*1",
        "accumulated",
        "feature_map",
        "top-1-error",
        "inaccuracy",
        "err",
        "loss top",
        "",
    ],
)
def test_no_accuracy(names: str) -> None:
    assert choose_accuracy(outputs(names)) is None


@pytest.mark.parametrize(
    ("names", "terms"),
    [
        ("accuracy loss*1", {"loss": 1}),
        ("accuracy loss*0.5", {"loss": 1}),
        ("loss1/loss1*0.3 loss2/loss1*0.3 loss3/loss3*1 loss3/top-1", {"loss3/loss3": 1}),
        ("loss3/loss*1 loss2/loss*1 loss1/loss*1", {"loss3/loss": 1}),
        ("loss1/loss*0.3 loss2/loss*0.3 loss*1", {"loss": 1}),
        ("loss1*0.3 loss2*0.3 loss3*1", {"loss3": 1}),
        ("loss_bbox*2 loss_coverage*1 mAP", {"loss_bbox": 2, "loss_coverage": 1}),
        ("age_loss*1 gender_loss*0.5", {"age_loss": 1, "gender_loss": 0.5}),
        ("aux_loss*0.4 main_loss*1", {"main_loss": 1}),
        ("bbox_loss*1 cls_loss*1 total_loss*1", {"total_loss": 1}),
        ("center_loss*0.008 loss*1", {"loss": 1}),
        ("objective*3", {"objective": 1}),
        ("cross_entropy top-1", {"cross_entropy": 1}),
        ("Accuracy1 Accuracy2 SoftmaxWithLoss1", {"SoftmaxWithLoss1": 1}),
        ("score0 score1", {"score1": 1}),
        ("#1:loss*1 #0:accuracy", {"loss": 1}),
    ],
)
def test_the_loss(names: str, terms: dict[str, float]) -> None:
    found = choose_loss(outputs(names))
    assert found is not None
    assert dict(found.terms) == terms
    assert not found.others


def test_no_loss_and_equal_losses() -> None:
    assert choose_loss(outputs("accuracy top-5 loss3/top-1")) is None
    found = choose_loss(outputs("a_loss b_loss"))
    assert found is not None
    assert (found.name, found.others) == ("a_loss", ("b_loss",))


def test_the_sum_says_its_weights_and_the_net_of_the_only_loss_is_told() -> None:
    found = choose_loss(outputs("#1:bbox*2 #1:coverage*1"))
    assert found is not None
    assert (found.name, found.net) == ("2 bbox + coverage", 1)


def test_an_output_by_name() -> None:
    some = outputs("accuracy #1:accuracy #1:top-5")
    assert [find_output(some, name) for name in ("top-1", "#0:top-5", "#2:accuracy")] == [None, None, None]
    found = [find_output(some, name) for name in ("accuracy", "#1:accuracy", "top-5")]
    assert [(one.name, one.net) for one in found if one] == [("accuracy", 0), ("accuracy", 1), ("top-5", 1)]
