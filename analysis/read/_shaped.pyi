from typing import Any

class Table:
    count: int
    def add(self, text: bytes, kind: int, metric: int, tail: bytes) -> bool: ...

def read(
    data: bytearray,
    begin: int,
    end: int,
    line: int,
    teach: bool,
    unknown_year: int,
    table: Table,
    starts: Any,
    kinds: Any,
    times: Any,
    iterations: Any,
    values: Any,
    pids: Any,
    metrics: Any,
    nets: Any,
) -> tuple[int, int, bool]: ...
