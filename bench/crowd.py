"""More users at once than llama-server has slots when nobody says how many: Caravan with its
defaults, llama-server as it comes, and llama-server with a slot for each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import llama_server, rounds
from bench.rounds import ABSENT, LLAMA, PATH, Round, System
from bench.systems import SLOT_CONTEXT, over_http
from shared.settings import Settings
from tests.system.fleet import CHAT, fleet
from workers import local

USERS = 16
TOKENS = 96
ROUNDS = 3


async def run(console: Console) -> None:
    """Print a row for each."""
    seeds = iter(range(1_000_000))
    async with fleet() as house:
        house.api()
        house.worker()
        await house.ready()
        with ExitStack() as stack:
            systems = {PATH: over_http(house.url, CHAT)}
            systems |= _others(stack, local.resolve(Settings())[1])
            await rounds.warm(systems, USERS, seeds)
            console.print(
                _table(await rounds.play(systems, USERS, seeds, tokens=TOKENS, rounds=ROUNDS))
            )


def _others(stack: ExitStack, model: Path) -> dict[str, System]:
    program = shutil.which("llama-server")
    if program is None:
        return {}
    context = USERS * SLOT_CONTEXT
    urls = [
        stack.enter_context(llama_server.serve(program, model)),
        stack.enter_context(llama_server.serve(program, model, slots=USERS, context=context)),
    ]
    return {
        f"{LLAMA}, {llama_server.slots_of(url)} slots": over_http(url, llama_server.CHAT)
        for url in urls
    }


def _table(turns: Sequence[Round]) -> Table:
    title = f"{USERS} streams of {TOKENS} tokens at once, medians of {ROUNDS} rounds"
    table = Table("", "tokens/s", "path / it", "lowest-highest", title=title)
    for which in ("median", "last"):
        table.add_column(f"TTFT of the {which}, ms")
        table.add_column("path / it")
        table.add_column("lowest-highest")
    for name in turns[0]:
        cells = []
        for pick in (rounds.rate, rounds.median_ttft_ms, rounds.last_ttft_ms):
            cells += [rounds.median(turns, name, pick), *rounds.ratio(turns, PATH, name, pick)]
        table.add_row(name, *cells)
    if len(turns[0]) == 1:
        table.add_row(LLAMA, ABSENT)
    return table
