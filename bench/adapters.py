"""What adapters cost: streams that name one, and streams of two groups that take turns."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from rich.table import Table

from bench.stand import Stand
from shared.settings import Settings
from tests.model.lora import write_lora
from workers.engine.adapters import AdapterSet
from workers.engine.weights import open_weights

ROUNDS, STREAMS, TOKENS = 3, 8, 64
ONE: AdapterSet = (("one", 1.0),)
OTHER: AdapterSet = (("one", 0.5),)
CASES: dict[str, tuple[AdapterSet, ...]] = {
    "none": ((),),
    "all the same": (ONE,),
    "half of them": (ONE, ()),
    "one of two scales": (ONE, OTHER),
}


def adapters(path: Path, settings: Settings) -> Table:
    """STREAMS streams; the ratio is to those without adapters, in the same round."""
    title = f"{STREAMS} streams with an adapter of rank 4, {TOKENS} tokens each"
    table = Table("adapter", "tokens/s", "ratio (lowest to highest)", title=title)
    with tempfile.TemporaryDirectory() as folder, open_weights(path) as weights:
        weights.add_lora("one", write_lora(Path(folder) / "one.gguf"))
        stand = Stand(weights, settings)
        rounds = [{name: _rate(stand, sets) for name, sets in CASES.items()} for _ in range(ROUNDS)]
    for name in CASES:
        ratios = [one[name] / one["none"] for one in rounds]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.add_row(name, f"{statistics.median(one[name] for one in rounds):.1f}", spread)
    return table


def _rate(stand: Stand, sets: tuple[AdapterSet, ...]) -> float:
    """Tokens a second of all streams together, once each has its first."""
    keys = [str(n) for n in range(STREAMS)]
    with stand.bench() as bench:
        for n, key in enumerate(keys):
            tokens = stand.tokens(n, 40)
            bench.submit(key, tokens, most=TOKENS, adapters=sets[n % len(sets)])
        bench.run(lambda: all(bench.times_s[key] for key in keys))
        before = sum(len(bench.times_s[key]) for key in keys)
        took_s = bench.run(lambda: len(bench.ended) == len(keys) + 1)
        return (sum(len(bench.times_s[key]) for key in keys) - before) / took_s
