from collections.abc import Callable, Sequence
from typing import Any

class Words:
    def __init__(self, words: Sequence[bytes]) -> None: ...

class TemplateTable:
    count: int
    def add(self, text: bytes, kind: int, metric: int, tail: bytes) -> bool: ...

def read(
    data: bytearray,
    begin: int,
    end: int,
    line: int,
    teach: bool,
    teaching: Words,
    midnight: Callable[[bytes, bytes, bytes], int | None],
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
