"""The docs site and the notebook: what `make docs` would not notice by itself."""

from __future__ import annotations

import base64
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def build(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    """Build a site of one page with the settings of ours, but for its navigation and what is made from the code."""
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    (folder / "docs" / "index.md").write_text(page)
    (folder / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT}/mkdocs.yml\nsite_dir: site\nhooks: []\nextra_css: []\nplugins: []\nnav: [index.md]\n"
    )
    # Not --quiet: with it mkdocs does not count warnings, and strict means nothing.
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(folder / "mkdocs.yml")]
    return subprocess.run(command, capture_output=True, text=True)


def test_broken_links_and_a_page_without_a_place_are_no_site(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "forgotten.md").write_text("# Forgotten\n")
    wrong = ["away.md", "#nowhere", "away.png", "/index.md"]
    done = build(tmp_path, "# Top\n\n" + "\n".join(f"[a]({link})" for link in wrong))
    assert done.returncode == 1
    assert [name for name in [*wrong, "forgotten.md"] if name not in done.stderr] == []
    assert f"Aborted with {len(wrong) + 1} warnings in strict mode" in done.stdout + done.stderr


def test_a_page_asks_for_nothing_from_the_network(tmp_path: Path) -> None:
    done = build(tmp_path, "# Top\n\n[a](#top)\n")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "site" / "index.html").read_text()
    assert "<script" in text
    assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=.?https?:", text) == []


def test_the_rooms_are_drawn_without_a_network(browser: Any, tmp_path: Path) -> None:
    if not (Path(sys.prefix) / "share" / "mermaid" / "mermaid.min.js").is_file():
        pytest.skip("Mermaid is not in this environment: make docs fetches it with npm")
    subprocess.run([ROOT / "scripts" / "link-rooms"], check=True)
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", ROOT / "mkdocs.yml", "--site-dir", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    browser.get(f"file://{tmp_path}/architecture.html")
    # The theme puts an element of this class, with the drawing in it, in the place of the text.
    size = "const drawn = document.querySelector('div.mermaid'); return drawn ? drawn.offsetHeight : 0"
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 60).until(lambda one: one.execute_script(size) > 300)
    assert browser.execute_script("return document.querySelectorAll('pre.mermaid').length") == 0


NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def shown(notebook: Any) -> list[str]:
    """What its cells print and show, of pictures their size in pixels."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [_shown(one) for one in outputs if one.get("name") != "stderr"]


def _shown(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    if "image/png" in output.data:
        return "picture of {} x {}".format(*struct.unpack(">II", base64.b64decode(output.data["image/png"])[16:24]))
    return str(output.data["text/plain"])


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_is_checked_in(path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    before = shown(notebook)
    assert len(before) > 3
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert shown(notebook) == before
