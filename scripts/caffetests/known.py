"""Which of Caffe's own tests are known to fail, and why."""

from __future__ import annotations

import importlib.util
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

__all__ = ["KNOWN", "reason", "reasons"]

KNOWN = Path(__file__).resolve().parent / "known.yaml"


def reasons(of: str, file: Path | None = None) -> dict[str, str]:
    """Pattern of tests -> why they fail, of those of the programme ``of`` that are known to fail here."""
    return {
        entry["test"]: entry["why"]
        for entry in yaml.safe_load((file or KNOWN).read_text()) or []
        if entry["of"] == of and not ("without" in entry and importlib.util.find_spec(entry["without"]))
    }


def reason(known: dict[str, str], test: str) -> str | None:
    """Why ``test`` is known to fail; None where it is not."""
    return next((why for pattern, why in known.items() if fnmatchcase(test, pattern)), None)
