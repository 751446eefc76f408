"""What is in the report's data, and that no name gets out of them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from caffebench.analysis import read_runs
from caffebench.analysis.output.report import report_data, report_html
from caffebench.analysis.runs.configurations import differences, net_text, settings
from caffebench.common.errors import InputError

Session = Callable[..., str]
Write = Callable[..., Path]
HOSTILE = "<img src=x onerror=alert(1)>"


def test_the_data_are_the_stitched_curves(make_session: Session, write: Write) -> None:
    write("net.001.log", make_session(0, 340))
    path = write("net.002.log", make_session(300, 600, resume=True, pid=200, end="Optimization Done."))
    data = report_data(read_runs([path.parent]))
    assert [one["title"] for one in data["metrics"]] == [
        "test accuracy",
        "test loss",
        "train loss",
        "learning rate",
        "train: batch_loss",
    ]
    accuracy = data["metrics"][0]["curves"][0]
    assert accuracy["iteration"] == [0, 100, 200, 300, 400, 500, 600]
    assert accuracy["value"] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert [round(one) for one in accuracy["seconds"]] == accuracy["iteration"]
    assert "epoch" not in accuracy  # the log does not tell how many images there are
    rate = data["metrics"][3]["curves"][0]
    assert (rate["iteration"], rate["value"]) == ([0, 600], [0.01, 0.01])
    run = data["runs"][0]
    assert (run["status"], run["crashes"], run["lost"], run["accuracy"]) == ("done", 1, 40, 0.6)
    assert [(one["resumed_from"], one["lost"]) for one in run["sessions"]] == [(None, 40), (300, 0)]
    assert [one["began"] for one in run["sessions"]] == ["04-06 04:34:53", "04-06 04:34:53"]
    assert data["thinned"] is None


def test_the_spike_survives_the_thinning(make_session: Session, write: Write) -> None:
    path = write("net.log", make_session(0, 80_000, loss=lambda at: 50.0 if at == 40_020 else 1 / (1 + at)))
    data = report_data(read_runs([path]))
    curve = next(one for one in data["metrics"] if one["title"] == "train loss")["curves"][0]
    assert data["thinned"] == 500
    assert len(curve["value"]) <= 2000
    assert curve["value"][curve["iteration"].index(40_020)] == 50


def test_numbers_that_are_none_are_null(make_session: Session, write: Write) -> None:
    path = write("net.log", make_session(0, 400, loss=lambda at: float("nan") if at >= 200 else 2.0))
    run = read_runs([path])[0]
    page = report_html([run])
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1], parse_constant=lambda word: 1 / 0)
    assert data["metrics"][2]["curves"]["0"]["value"][-1] is None
    assert data["runs"][0]["converged"] is False


def test_the_page_asks_nobody_for_anything(make_session: Session, write: Write) -> None:
    page = report_html(read_runs([write(f"{HOSTILE}.log", make_session(0, 200))]))
    assert HOSTILE not in page
    assert "default-src 'none'" in page
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert len(outside) < 20_000
    assert not re.findall(r"(?:src|href|url|import)\s*[=(]", outside)


def test_where_configurations_differ(make_session: Session, write: Write) -> None:
    write("a.log", make_session(0, 200))
    changed = make_session(0, 200).replace("base_lr: 0.01", "base_lr: 0.02").replace("num_output: 10", "num_output: 12")
    more = 'layer { name: "drop" type: "Dropout" bottom: "ip" top: "ip" }\n  layer { name: "loss"'
    path = write("b.log", changed.replace('layer { name: "loss"', more))
    runs = read_runs([path.parent])
    rows = {(row["group"], row["name"]): row["values"] for row in differences(runs)}
    assert rows == {
        ("solver", "classes"): ["10", "12"],
        ("solver", "base_lr"): ["0.01", "0.02"],
        ("net", "ip: inner_product_param.num_output"): ["10", "12"],
        ("net", "drop"): [None, "Dropout"],
    }
    assert settings(runs[0])["batch size"] == "32"
    assert 'name: "ip"' in net_text(runs[0])
    assert "phase: TRAIN" in net_text(runs[0])


def test_what_glog_cut_is_no_difference(make_session: Session, write: Write) -> None:
    long = "".join(f'  layer {{ name: "long{n}" type: "ReLU" bottom: "data" top: "data" }}\n' for n in range(600))
    for name, wide in (("a", "10"), ("b", "12")):
        text = make_session(0, 200).replace('  layer { name: "ip"', f'{long}  layer {{ name: "ip"')
        text = text.replace("base_lr: 0.01", f"base_lr: 0.{'0' * (name == 'b')}1").replace(
            "num_output: 10", f"num_output: {wide}"
        )
        begin, end = text.index("test_iter"), text.index("I0406 04:34:55")
        path = write(f"{name}.log", text[: begin + 30_000] + "\n" + text[end:])
    write("whole.log", text)
    runs = read_runs([path.parent])
    assert [one.config.cut for one in runs] == [True, True, False]
    rows = {(row["group"], row["name"]) for row in differences(runs)}
    assert rows == {("solver", "base_lr"), ("solver", "classes")}, "these are told by one log only"
    assert [bool(one.notes) for one in runs] == [True, True, False], "it may have an iter_size"


def test_without_plotly_it_says_what_to_install(
    make_session: Session, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = read_runs([write("net.log", make_session(0, 200))])
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InputError, match=r"pip install 'caffebench\[web\]'"):
        report_html(runs)


def test_published_figures_stand_beside_ours(make_session: Session, write: Write) -> None:
    said = '{"run": "net", "header": {"published_accuracy": "0.295", "published_logloss": "n/c", "comment": "by hand"}}'
    event = f"I0406 04:34:50.000000 100 run.py:1] caffebench: run {said}\n"
    run = report_data(read_runs([write("net.log", event, make_session(0, 300))]))["runs"][0]
    assert run["published"] == ["0.295 (+0.005)", "n/c (differs)"]
    assert run["comment"].startswith("by hand")
