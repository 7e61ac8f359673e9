"""A prompt that comes back when its cells were given to others: computed again, or loaded."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from bench.gains import Stand

ROUNDS = {900: 3, 4000: 1}  # of so many tokens
OWN_TOKENS = 20
MIB = 1024


def returning(stand: Stand) -> Table:
    """With host memory for prefixes and without; the cells keep none, so every return is one."""
    title = "a prompt comes back, its cells were needed: ms to its first token"
    columns = ("tokens", "computed again", "loaded", "ratio", "saving it, ms", "bytes a token")
    table = Table(*columns, title=title)
    for tokens, rounds in ROUNDS.items():
        pairs = [
            (_return(stand, tokens, mib=0), _return(stand, tokens, mib=MIB)) for _ in range(rounds)
        ]
        again_ms = statistics.median(without[0] for without, _ in pairs)
        loaded_ms = statistics.median(loaded[0] for _, loaded in pairs)
        ratio = statistics.median(without[0] / loaded[0] for without, loaded in pairs)
        saving_ms = statistics.median(loaded[1] for _, loaded in pairs)
        size = pairs[0][1][2] // tokens
        table.add_row(
            str(tokens),
            f"{again_ms:.0f}",
            f"{loaded_ms:.0f}",
            f"{ratio:.1f}",
            f"{saving_ms:.0f}",
            str(size),
        )
    return table


def _return(stand: Stand, tokens: int, *, mib: int) -> tuple[float, float, int]:
    """Milliseconds to the first token of the return, those the first visit took behind its last
    token (it saves then), and how many bytes are kept."""
    first = stand.tokens(500, tokens)
    back = first + stand.tokens(501, OWN_TOKENS)
    with stand.bench(prefix_cache=0, host_cache_mib=mib) as bench:
        bench.submit("first", first, most=1)
        bench.run(lambda: "first" in bench.ended)
        saving_s = time.perf_counter() - bench.times_s["first"][-1]
        kept = bench.engine.slots.saved_bytes
        bench.submit("back", back, most=1)
        began_s = time.perf_counter()
        bench.run(lambda: "back" in bench.ended)
        return 1000 * (bench.times_s["back"][0] - began_s), 1000 * saving_s, kept
