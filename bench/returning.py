"""A prompt that comes back when its cells were given to others: computed again, or loaded."""

from __future__ import annotations

import statistics
import time

from rich.table import Table

from bench.stand import Bench, Stand, Tokens

ROUNDS = {900: 3, 2000: 1}  # of so many tokens
OWN_TOKENS = 20
MIB = 1024


def returning(stand: Stand) -> Table:
    """With host memory for prefixes and without; the cells keep none, so every return is one."""
    table = Table(
        *("tokens", "computed again", "loaded", "ratio", "saving it", "bytes a token"),
        title="a prompt comes back, its cells were needed: ms to its first token",
    )
    for tokens, rounds in ROUNDS.items():
        first = stand.tokens(500, tokens)
        back = first + stand.tokens(501, OWN_TOKENS)
        pairs = [(_computed(stand, back), *_loaded(stand, first, back)) for _ in range(rounds)]
        again_ms, loaded_ms, saving_ms, size = map(statistics.median, zip(*pairs, strict=True))
        ratio = statistics.median(again / loaded for again, loaded, *_ in pairs)
        numbers = (again_ms, loaded_ms, saving_ms, size / tokens)
        again, loaded, saving, bytes_a_token = (f"{number:.0f}" for number in numbers)
        table.add_row(str(tokens), again, loaded, f"{ratio:.1f}", saving, bytes_a_token)
    return table


def _computed(stand: Stand, back: Tokens) -> float:
    """Milliseconds to the first token where nothing was kept."""
    with stand.bench(prefix_cache=0, host_cache_mib=0) as bench:
        return _first_token_ms(bench, "back", back)


def _loaded(stand: Stand, first: Tokens, back: Tokens) -> tuple[float, float, int]:
    """The same behind what `first` left; the milliseconds that saving it took, and its bytes."""
    with stand.bench(prefix_cache=0, host_cache_mib=MIB) as bench:
        _first_token_ms(bench, "first", first)
        saving_ms = 1000 * (time.perf_counter() - bench.times_s["first"][-1])
        kept = bench.engine.slots.host.used_bytes
        return _first_token_ms(bench, "back", back), saving_ms, kept


def _first_token_ms(bench: Bench, key: str, tokens: Tokens) -> float:
    began_s = time.perf_counter()
    bench.submit(key, tokens, most=1)
    bench.run(lambda: key in bench.ended)
    return 1000 * (bench.times_s[key][0] - began_s)
