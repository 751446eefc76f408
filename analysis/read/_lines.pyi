from collections.abc import Sequence
from typing import Any

class Words:
    count: int
    def __init__(self, words: Sequence[bytes]) -> None: ...

class TemplateTable:
    count: int
    def add(self, text: bytes, kind: int, metric: int, tail: bytes) -> bool: ...

def next_stamp(data: bytearray, begin: int, end: int) -> int: ...
def read(
    data: bytearray,
    begin: int,
    end: int,
    line: int,
    teach: bool,
    unknown_year: int,
    table: TemplateTable,
    seen: bytearray,
    words: Words,
    every_line: bool,
    starts: Any,
    kinds: Any,
    times: Any,
    iterations: Any,
    values: Any,
    pids: Any,
    metrics: Any,
    nets: Any,
) -> tuple[int, int, bool, bool]: ...
