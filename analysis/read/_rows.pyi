from typing import Any

class Heads:
    def copy(self) -> Heads: ...

def append(
    heads: Heads,
    count: int,
    base: int,
    index_of: Any,
    starts: Any,
    kinds: Any,
    times: Any,
    iterations: Any,
    values: Any,
    pids: Any,
    metrics: Any,
    nets: Any,
    row_iteration: Any,
    row_value: Any,
    row_rate: Any,
    row_metric: Any,
    row_net: Any,
    row_kind: Any,
    row_offset: Any,
    row_time: Any,
    row_pid: Any,
) -> tuple[int, int]: ...
def look(
    iterations: Any, kinds: Any, metrics: Any, nets: Any, times: Any, pids: Any
) -> tuple[bool, int, bool, int, bool, bool, int, int, int, int, bool]: ...
def pairs(kinds: Any, metrics: Any, nets: Any) -> list[tuple[int, int, int]]: ...
