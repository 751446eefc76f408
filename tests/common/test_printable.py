"""Text of strangers on terminals and in spreadsheets."""

from __future__ import annotations

import os

import pytest

from caffebench.common.printable import csv_text, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("BS=64, ünïcode 网", "BS=64, ünïcode 网"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\nb\tc\r", r"a b c\r"),
        ("\x9b31m and \x7f", r"\x9b31m and \x7f"),
        ("right \u202e left", r"right \u202e left"),
        (os.fsdecode(b"caf\xe9.log"), r"caf\xe9.log"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_is_not_printable_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown.encode()


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "+x", "=0.5"])
def test_what_could_be_a_formula_is_text(text: str) -> None:
    assert csv_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-0.5", "+0.003", "1e-05", "-inf", "nan", "-1.5E+3", "", "bs128", "a=b", "n/c"])
def test_numbers_and_names_stay(text: str) -> None:
    assert csv_text(text) == text


def test_a_name_that_is_not_utf8_can_be_written() -> None:
    assert csv_text(os.fsdecode(b"caf\xe9")).encode()
