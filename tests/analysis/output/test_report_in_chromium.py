"""The report in a real browser: opened from disk, with no network, and used."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from caffebench.analysis import read_runs
from caffebench.analysis.output.report import write_report

Session = Callable[..., str]
Write = Callable[..., Path]
HOSTILE = "<img src=x onerror=alert(1)>"
TEMPLATE = "%{y} <b>bold &lt; $x$"


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory, module_session: Session) -> Callable[[], Any]:
    """Opens the report of four runs anew."""
    folder = tmp_path_factory.mktemp("runs")
    write = {
        "plain.001": module_session(0, 3000, years=True),
        "plain.002": module_session(2900, 4000, resume=True, pid=2, at=datetime(2016, 4, 8), end="Optimization Done."),
        "faster": module_session(0, 4000, loss=lambda at: 2 / (1 + at / 50)).replace("base_lr: 0.01", "base_lr: 0.05"),
        HOSTILE: module_session(0, 2000),
        TEMPLATE: module_session(0, 2000, loss=lambda _: 87.3365),
    }
    for name, text in write.items():
        (folder / f"{name}.log").write_text(text)
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(read_runs([folder], train_size=1000), path, each=True)

    def opener(view: str = "") -> Any:
        browser.get("about:blank")
        browser.get(f"file://{path}{view}")
        return browser

    return opener


def _script(browser: Any, text: str, *arguments: Any) -> Any:
    return browser.execute_script(f"return {text}", *arguments)


def _lines(browser: Any) -> dict[str, list[float]]:
    """Name of each curve drawn with its x values, as Plotly holds them."""
    traces = "document.getElementById('plot').data.filter((one) => one.mode === 'lines' && one.hoverinfo !== 'skip')"
    pairs = _script(browser, f"{traces}.map((one) => [one.name, Array.from(one.x)])")
    return dict(pairs)


def _of_color(browser: Any, color: tuple[int, int, int], path: Path) -> int:
    """Pixels of one colour in the plot, in a picture of the page."""
    import numpy as np
    from matplotlib.image import imread
    from selenium.webdriver.common.by import By

    browser.find_element(By.ID, "plot").screenshot(str(path))
    pixels = np.rint(imread(path)[..., :3] * 255)
    return int((np.abs(pixels - color).max(axis=2) < 12).sum())


def _choose(browser: Any, box: str, title: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element(By.ID, box)).select_by_visible_text(title)


def test_curves_are_drawn_with_no_network(opened: Callable[..., Any], tmp_path: Path) -> None:
    browser = opened("#curve=train+loss")
    assert len(_lines(browser)) == 4
    # Of each the smoothed line, and the raw one behind it, even of the one above the picture.
    assert _script(browser, "document.querySelectorAll('#plot .scatterlayer path.js-line').length") == 8
    assert _of_color(browser, (0x00, 0x9E, 0x73), tmp_path / "page.png") > 50
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []
    assert _script(browser, "performance.getEntriesByType('resource').length") == 0


def test_hostile_names_are_text(opened: Callable[..., Any]) -> None:
    browser = opened()
    assert _script(browser, "document.querySelectorAll('img').length") == 0
    assert _script(browser, "document.querySelectorAll('#legend b, #results b').length") == 0
    shown = _script(browser, "[...document.querySelectorAll('#legend .name')].map((one) => one.textContent)")
    assert {HOSTILE, TEMPLATE} <= set(shown)
    names = _script(
        browser, "[...document.querySelectorAll('#results tbody td:first-child')].map((one) => one.innerText)"
    )
    assert {HOSTILE, TEMPLATE} <= set(names)
    with pytest.raises(Exception, match="no such alert"):
        _ = browser.switch_to.alert.text


@pytest.mark.parametrize("name", [HOSTILE, TEMPLATE])
def test_hovering_shows_the_name_as_it_is(opened: Callable[..., Any], name: str) -> None:
    browser = opened()
    which = _script(
        browser,
        "document.getElementById('plot').data.findIndex((one) => one.name === arguments[0].replace("
        "/[&<>%{}$\"']/g, (letter) => `&#${letter.charCodeAt(0)};`))",
        name,
    )
    assert which >= 0
    browser.execute_script("Plotly.Fx.hover('plot', [{curveNumber: arguments[0], pointNumber: 5}])", which)
    text = _script(
        browser, "[...document.querySelectorAll('#plot .hoverlayer .hovertext')].map((one) => one.textContent)"
    )
    assert len(text) == 1
    assert name.replace(" ", "") in text[0].replace("\u00a0", "").replace(" ", "")
    assert "iteration 500" in text[0].replace("\u00a0", " ")


def test_a_run_is_toggled(opened: Callable[..., Any], tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    browser = opened("#curve=train+loss")
    before = set(_lines(browser))
    boxes = {one.get_attribute("data-run"): one for one in browser.find_elements(By.CSS_SELECTOR, "#legend input")}
    color = _script(
        browser,
        "[...document.querySelectorAll('#legend li')].find((one) => one.textContent.startsWith('faster'))"
        ".querySelector('line').getAttribute('stroke')",
    )
    rgb = (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16))
    assert _of_color(browser, rgb, tmp_path / "with.png") > 50
    boxes["faster"].click()
    assert before - set(_lines(browser)) == {"faster"}
    assert _of_color(browser, rgb, tmp_path / "without.png") == 0
    browser.refresh()
    assert before - set(_lines(browser)) == {"faster"}  # the address keeps what was chosen
    browser.find_element(By.ID, "all").click()
    assert set(_lines(browser)) == before
    browser.find_element(By.ID, "none").click()
    assert _lines(browser) == {}


def test_the_axis_and_the_curve_are_switched(opened: Callable[..., Any]) -> None:
    browser = opened()
    assert max(_lines(browser)["plain"]) == 4000
    _choose(browser, "x", "epochs")
    assert max(_lines(browser)["plain"]) == pytest.approx(4000 * 32 / 1000)
    _choose(browser, "x", "training time")
    assert max(_lines(browser)["plain"]) == pytest.approx(4000 / 60, abs=0.1)
    titles = "['xaxis', 'yaxis'].map((one) => document.getElementById('plot').layout[one].title.text)"
    assert _script(browser, titles) == ["training time, minutes", "test accuracy"]
    _choose(browser, "metric", "train loss")
    assert _script(browser, titles) == ["training time, minutes", "train loss"]
    ordered = _script(browser, "[...document.querySelectorAll('#legend .name')].map((one) => one.textContent)")
    assert ordered[0] == "faster"
    assert ordered[-1] == TEMPLATE  # not converged


def test_log_axes_zoom_and_resumes(opened: Callable[..., Any]) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    browser = opened("#curve=train+loss&logy=1")
    layout = "document.getElementById('plot')._fullLayout"
    assert _script(browser, f"{layout}.yaxis.type") == "log"
    before = _script(browser, f"{layout}.xaxis.range")
    drag = browser.find_element(By.CSS_SELECTOR, "#plot .nsewdrag")
    ActionChains(browser).move_to_element_with_offset(drag, -100, -50).click_and_hold().move_by_offset(
        200, 100
    ).release().perform()
    after = _script(browser, f"{layout}.xaxis.range")
    assert before[0] < after[0] < after[1] < before[1]
    browser.find_element(By.ID, "resumes").click()
    marks = _script(
        browser,
        "document.getElementById('plot').data.filter((one) => one.mode === 'markers').flatMap((one) => one.text)",
    )
    assert marks == ["at 2,900 (session 2), 100 iterations were lost"]
    assert _script(browser, f"{layout}.xaxis.range") == after  # the view stays when something is switched on
    browser.refresh()
    assert _script(browser, f"{layout}.xaxis.range") == pytest.approx(after)  # and when the page is loaded again


def test_sessions_settings_and_differences_are_told(opened: Callable[..., Any]) -> None:
    browser = opened()
    text = browser.execute_script(
        "for (const one of document.querySelectorAll('details')) one.open = true;"
        "return new Promise((done) => setTimeout(() => done(['sessions', 'differences', 'settings'].map("
        "(id) => document.getElementById(id).innerText)), 300))"
    )
    assert "2 sessions, 1 crashed, 100 iterations lost" in text[0]
    assert "2016-04-06 04:34:53" in text[0]
    assert ["base_lr", "0.01", "0.01", "0.05", "0.01"] in [line.split("\t") for line in text[1].splitlines()]
    assert "num_output: 10" in text[2]


def test_an_open_report_shows_the_news_in_the_same_view(browser: Any, module_session: Session, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    log, page = tmp_path / "net.log", tmp_path / "report.html"
    for last in (1000, 2000):
        log.write_text(module_session(0, last))
        write_report(read_runs([log]), page, reload=0.5)
        if last == 1000:
            browser.get(f"file://{page}#curve=train+loss&x=seconds")
            assert max(_lines(browser)["net"]) == pytest.approx(1000 / 60, abs=0.1)
    WebDriverWait(browser, 30, ignored_exceptions=(Exception,)).until(lambda it: max(_lines(it)["net"]) > 30)
    assert _script(browser, "document.getElementById('plot').layout.yaxis.title.text") == "train loss"
    browser.get("about:blank")


def test_seeds_are_drawn_together(browser: Any, make_session: Session, write: Write, tmp_path: Path) -> None:
    for seed, loss in enumerate((0.5, 1.0, 1.5), 1):
        text = make_session(0, 400, loss=lambda at, loss=loss: loss + (400 - at) / 1000)
        write(f"net_seed{seed}.log", text.replace("base_lr", f"random_seed: {seed}\nbase_lr"))
    path = write("alone.log", make_session(0, 400).replace("base_lr: 0.01", "base_lr: 0.1"))
    write_report(read_runs([path.parent]), tmp_path / "report.html")
    browser.get(f"file://{tmp_path / 'report.html'}#curve=test+loss")
    assert set(_lines(browser)) == {"alone", "net (3)"}
    traces = "document.getElementById('plot').data"
    (mean,) = _script(browser, f"{traces}.filter((one) => one.name === 'net (3)').map((one) => Array.from(one.y))")
    assert mean == pytest.approx([1.4, 1.3, 1.2, 1.1, 1.0])
    (high,) = _script(browser, f"{traces}.filter((one) => one.name === 'band').map((one) => Array.from(one.y))")
    assert high == pytest.approx([1.9, 1.8, 1.7, 1.6, 1.5])
    assert "band of one standard deviation: net (3)" in _script(browser, "document.getElementById('note').textContent")
    _script(browser, "document.getElementById('seeds').click()")
    assert set(_lines(browser)) == {"alone", "net_seed1", "net_seed2", "net_seed3"}
    assert "seeds=0" in _script(browser, "location.hash")
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []


def test_the_mean_of_seeds_goes_on_where_half_of_them_do(
    browser: Any, make_session: Session, write: Write, tmp_path: Path
) -> None:
    for seed, (loss, last) in enumerate(((0.25, 400), (0.5, 400), (1.5, 100)), 1):
        text = make_session(0, last, loss=lambda _, loss=loss: loss)
        write(f"net_seed{seed}.log", text.replace("base_lr", f"random_seed: {seed}\nbase_lr"))
    for seed, (loss, last) in enumerate(((0.25, 200), (0.75, 100)), 1):
        text = make_session(0, last, loss=lambda _, loss=loss: loss).replace("base_lr: 0.01", "base_lr: 0.1")
        path = write(f"pair_seed{seed}.log", text.replace("base_lr", f"random_seed: {seed}\nbase_lr"))
    write_report(read_runs([path.parent]), tmp_path / "report.html")
    browser.get(f"file://{tmp_path / 'report.html'}#curve=test+loss&x=seconds")
    traces = "document.getElementById('plot').data"
    lines, bands = (
        _script(browser, f"{traces}.filter((one) => {kind}).map((one) => [Array.from(one.x), Array.from(one.y)])")
        for kind in ("one.hoverinfo !== 'skip'", "one.name === 'band'")
    )
    assert [y for _, y in lines] == [[0.75, 0.75, 0.375, 0.375, 0.375], [0.5, 0.5, 0.25]]
    assert all(one < other for x, _ in lines for one, other in itertools.pairwise(x))
    assert [len(y) for _, y in bands] == [5, 2]  # two of the three are there to the end, of the pair one
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []


def test_one_run_is_looked_at_alone(opened: Callable[..., Any]) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    def twice(name: str) -> None:
        item = next(one for one in browser.find_elements(By.CSS_SELECTOR, "#legend .name") if one.text == name)
        ActionChains(browser).double_click(item).perform()

    browser = opened("#curve=train+loss")
    before = set(_lines(browser))
    twice("faster")
    assert set(_lines(browser)) == {"faster"}
    twice("plain")
    assert set(_lines(browser)) == {"plain"}
    twice("plain")
    assert set(_lines(browser)) == before


def test_runs_are_filtered_by_a_setting(opened: Callable[..., Any]) -> None:
    browser = opened()
    before = set(_lines(browser))
    _choose(browser, "setting", "base_lr")
    assert set(_lines(browser)) == before - {"faster"}  # the first value, 0.01
    _choose(browser, "value", "0.05")
    assert set(_lines(browser)) == {"faster"}
    assert _script(browser, "document.querySelectorAll('#legend li').length") == 1
    browser.refresh()
    assert set(_lines(browser)) == {"faster"}
    _choose(browser, "setting", "all runs")
    assert set(_lines(browser)) == before


def test_the_slider_smooths(opened: Callable[..., Any]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def height() -> float:
        line = "document.getElementById('plot').data.find((one) => one.name === 'faster' && one.hoverinfo !== 'skip').y"
        y = [float(one) for one in _script(browser, f"Array.from({line})")]
        return max(y) - min(y)

    def slide(percent: float, until: Callable[[], bool]) -> tuple[float, str]:
        """Curve's height and the page's note, once the page has drawn what is waited for."""
        script = "const it = document.getElementById('smooth'); it.value = arguments[0];"
        browser.execute_script(f"{script} it.dispatchEvent(new Event('input'))", percent)
        WebDriverWait(browser, 20).until(lambda _: until())
        return height(), note()

    def note() -> str:
        return str(_script(browser, "document.getElementById('note').textContent"))

    browser = opened("#curve=train+loss")
    automatic = height()
    raw, _ = slide(0, lambda: "Smoothed" not in note() and height() > automatic)
    some, said = slide(2, lambda: height() < raw)
    slide(20, lambda: height() < some)
    assert "mean over 40 to 80 iterations" in said  # 2 % of 2,000 and of 4,000
    browser.refresh()
    assert _script(browser, "document.getElementById('share').textContent") == "20 %"


def test_dark_and_light(opened: Callable[..., Any], tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    browser = opened("#curve=train+loss&dark=0")
    assert _of_color(browser, (255, 255, 255), tmp_path / "light.png") > 100_000
    browser.find_element(By.ID, "dark").click()
    assert _of_color(browser, (0x0D, 0x11, 0x17), tmp_path / "dark.png") > 100_000
    assert _of_color(browser, (255, 255, 255), tmp_path / "dark.png") < 1000
    assert _script(browser, "getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    browser.refresh()
    assert _script(browser, "document.getElementById('dark').checked")
