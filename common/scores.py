"""Which output of a test net is *the* accuracy of a run, and which is *the* loss: one rule for every command.

People name outputs as they like. Of those that could be meant, the first of these that tells them apart decides:

* accuracy: all classes or their mean before one class; top-1 before top-5; accuracies before other scores (mAP,
  ``detection_eval``, mean IU, ...); the name ``accuracy`` itself before longer ones; the net's end before an auxiliary
  classifier, and of ``loss1/...`` to ``loss3/...`` the last.
* loss: outputs that Caffe prints with a weight before others; a total (``total_loss``) and the name ``loss`` itself
  before longer ones; of classifiers along a net (``loss1/loss`` to ``loss3/loss``) the last. Losses that are parts of
  one (DetectNet's ``loss_bbox`` and ``loss_coverage``) are added up with their weights, as Caffe trains on their sum.

With several test nets: the first that has one. Of equals the first, and ``Choice.others`` has the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Choice", "TestOutput", "choose_accuracy", "choose_loss", "find_output", "is_error"]


@dataclass(frozen=True)
class TestOutput:
    """An output of a test net, as a log names it."""

    __test__ = False  # not a test of pytest's

    name: str
    net: int = 0
    """Number of the test net."""
    weight: float | None = None
    """Its weight in the loss (``(* 1 = 2.3 loss)``); None where Caffe prints none."""


class Choice(NamedTuple):
    """The output, or the sum of outputs, that was chosen."""

    terms: tuple[tuple[str, float], ...]
    """Names of outputs, each with the factor that its value is taken with: one with factor 1, or the parts of a sum."""
    net: int = 0
    others: tuple[str, ...] = ()
    """Outputs that rank the same and could be meant as well."""

    @property
    def name(self) -> str:
        """Its name; of a sum ``loss_coverage + 2 loss_bbox``."""
        factors = (f"{factor:g} {name}" if factor != 1 else name for name, factor in self.terms)
        return " + ".join(factors)


_ACCURACY = re.compile(r"(?<![a-z])acc(?:u|uracy|uracies)?(?=top|[^a-z]|$)|accuracy|(?<![a-z])prec(?:ision)?@?1(?!\d)")
_TOP = re.compile(r"top[-_ ]?(\d+)|(?:@|(?<![a-z])(?:acc|accuracy|prec|precision)[-_]?at[-_]?|rank[-_ ]?)(\d+)")
_SCORE = re.compile(r"(?<![a-z])(?:m?iou|m?iu|f1|auc|dice|kappa|detection_?eval|recall|precision)(?![a-z])|^score0$")
_PRECISION = re.compile(r"mAP|(?:^|/)map$|(?<![A-Za-z])AP(?![a-z])|mean_ap")
"""mAP, as it is written: a ``feature_map`` is none."""
_ERROR = re.compile(r"(?<![a-z])err(?:or)?(?![a-z])|inaccuracy")
_MEAN = re.compile(r"mean|average|avg|overall|global|total|(?<![a-z])(?:map|miou|miu|all)(?![a-z])|detection_?eval")
_CLASS = re.compile(r"class|(?<![a-z])(?:cls|category|label)[-_ ]?\d|\[\d+\]$|(?<![a-z])ap(?![a-z])")
_AUXILIARY = re.compile(r"(?<![a-z])aux")
_HEAD = re.compile(r"(?<![a-z])(?:loss|head|stage|classifier|exit)[-_]?(\d+)(?=[/_-])")
_TOTAL = re.compile(r"(?<![a-z])(?:total|overall|sum|combined)(?![a-z])")

Rank = tuple[float, ...]


def _plain(name: str) -> str:
    """In lower case, with a border where ``CamelCase`` has one: ``SoftmaxWithLoss1`` is ``softmax_with_loss1``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()


def _head(plain: str) -> int:
    """Number of the classifier along the net (``loss3/top-1``: 3), -1 where the name says none."""
    numbers = _HEAD.findall(plain)
    return int(numbers[0]) if numbers else -1


def _rank_accuracy(output: TestOutput) -> Rank | None:
    """The less the better; None for what is no accuracy."""
    plain = _plain(output.name)
    last = plain.rpartition("/")[2]
    top = [int(one or two) for one, two in _TOP.findall(plain)]
    accurate = bool(_ACCURACY.search(plain) or top)
    scored = bool(_SCORE.search(plain) or _PRECISION.search(output.name))
    if output.weight is not None or is_error(output.name) or not (accurate or scored):
        return None
    if "loss" in last and not accurate:
        return None
    single = bool(_CLASS.search(plain)) and not _MEAN.search(plain)
    lesser = (
        not accurate and not _MEAN.search(plain) and not plain.startswith("score")
    )  # precision and recall after mAP
    exact = plain in ("accuracy", "acc")
    head = _head(plain)
    end = 0 if head < 0 and not _AUXILIARY.search(plain) else 1
    return (single, bool(top and top[0] > 1), not accurate, lesser, not exact, end, -head)


def _rank_loss(output: TestOutput) -> Rank | None:
    plain = _plain(output.name)
    last = plain.rpartition("/")[2]
    if output.weight is None and not (re.search(r"loss|entropy|nll", last) or plain == "score1"):
        return None
    if output.weight is None and _rank_accuracy(output) is not None:
        return None
    total, exact, head = bool(_TOTAL.search(plain)), plain == "loss", _head(plain)
    auxiliary = bool(_AUXILIARY.search(plain)) or plain.endswith("]")
    return (output.weight is None, 0 if total else 1 if exact else 2, auxiliary, -head)


def _best(outputs: Sequence[TestOutput], rank: Callable[[TestOutput], Rank | None]) -> list[TestOutput]:
    """The outputs of the best rank, of the first test net that has any, in the order given."""
    for net in sorted({one.net for one in outputs}):
        ranked = [(found, one) for one in outputs if one.net == net and (found := rank(one)) is not None]
        if ranked:
            best = min(found for found, _ in ranked)
            return [one for found, one in ranked if found == best]
    return []


def choose_accuracy(outputs: Sequence[TestOutput]) -> Choice | None:
    """The accuracy among the outputs of the test nets, in the order in which the log names them; None without any."""
    found = _best(outputs, _rank_accuracy)
    if not found:
        return None
    # Of accuracy5 and accuracy1 the number is a top's. Of Accuracy1 and Accuracy2 the least is first, too.
    first = min(found, key=lambda one: _number(one.name) if _one_name(found) else 0)
    tops = {_number(one.name) for one in found} in ({1, 5}, {1, 10}, {1, 5, 10}) and _one_name(found)
    return Choice(((first.name, 1.0),), first.net, () if tops else tuple(one.name for one in found if one is not first))


def _number(name: str) -> int:
    found = re.search(r"(\d+)$", name)
    return int(found[1]) if found else 0


def _one_name(outputs: Sequence[TestOutput]) -> bool:
    """Whether they are called the same but for a number at the end."""
    return len({re.sub(r"\d+$", "", one.name) for one in outputs}) == 1


def choose_loss(outputs: Sequence[TestOutput]) -> Choice | None:
    """The loss, as ``choose_accuracy``."""
    found = _best(outputs, _rank_loss)
    if not found:
        return None
    weights = [one.weight or 0.0 for one in found]
    if found[0].weight is None or len(found) == 1 or _head(_plain(found[0].name)) >= 0:
        return Choice(((found[0].name, 1.0),), found[0].net, tuple(one.name for one in found[1:]))
    if _one_name(found) and len(set(weights)) > 1:  # loss1 (* 0.3), loss2 (* 0.3), loss3 (* 1): two are auxiliary
        main = found[max(range(len(found)), key=lambda place: (weights[place], place))]
        return Choice(((main.name, 1.0),), main.net)
    return Choice(tuple((one.name, weight) for one, weight in zip(found, weights, strict=True)), found[0].net)


def is_error(name: str) -> bool:
    """Whether an output is an error by its name, and the less of it the better."""
    return bool(_ERROR.search(_plain(name)))


def find_output(outputs: Sequence[TestOutput], name: str) -> Choice | None:
    """The output that a user named: ``accuracy``, or ``#1:accuracy`` of test net 1; None if there is none of it."""
    of = re.match(r"#(\d+):(.+)", name)
    wanted, net = (of[2], int(of[1])) if of else (name, None)
    found = next((one for one in outputs if one.name == wanted and net in (None, one.net)), None)
    return None if found is None else Choice(((found.name, 1.0),), found.net)
