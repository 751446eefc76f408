"""Pages of the docs site that stand elsewhere in the repository or are made from the code (mkdocs.yml, hooks)."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

__all__ = ["on_files"]

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages of the site that are files at the top of the repository; their links lead into docs/."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not stand in docs/."""
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
