"""Pages of the docs site that stand elsewhere in the repository or are made from the code (mkdocs.yml, hooks).

Diagrams are drawn by Mermaid in the reader's browser. The site brings it along where ``scripts/setup-docs`` could
fetch it, and shows them as text otherwise, for the theme's own way would ask the network for it.
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from nbconvert import MarkdownExporter
from pymdownx.superfences import fence_code_format

__all__ = ["on_config", "on_files", "on_post_page"]

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages of the site that are files at the top of the repository; their links lead into docs/."""

MERMAID = Path(sys.prefix) / "share" / "mermaid" / "mermaid.min.js"
ASSET = "assets/javascripts/mermaid.min.js"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Hand diagrams to Mermaid where it is there."""
    if MERMAID.is_file():
        fence = {"name": "mermaid", "class": "mermaid", "format": fence_code_format}
        config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Have a page with a diagram load Mermaid before the theme looks for it."""
    if 'class="mermaid"' not in output:
        return output
    script = f'<script src="{get_relative_url(ASSET, page.url)}"></script>'
    return output.replace("</head>", f"{script}</head>", 1)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not stand in docs/."""
    if MERMAID.is_file():
        files.append(File.generated(config, ASSET, abs_src_path=str(MERMAID)))
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, top in PAGES.items():
            text = text.replace(f"]({top})", f"]({other})")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "reference/commands.md", content=_commands()))
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        text, made = MarkdownExporter().from_filename(str(notebook))
        files.append(File.generated(config, f"examples/{notebook.stem}.md", content=text))
        for name, picture in made["outputs"].items():
            files.append(File.generated(config, f"examples/{name}", content=picture))
    return files


def _commands() -> str:
    """A page with each command that the package installs: options by mkdocs-click, and the examples of its help."""
    text = "# Commands\n\nWhat `--help` says of each.\n"
    for command in distribution("caffebench").entry_points.select(group="console_scripts"):
        examples = "\n".join(line.strip() for line in command.load().examples.strip().splitlines())
        text += f"""
::: mkdocs-click
    :module: {command.module}
    :command: {command.attr}
    :prog_name: {command.name}
    :depth: 1

**Examples:**

```sh
{examples}
```
"""
    return text
