"""What `caravan serve` shows once it works: one chat through the whole path, then where to go."""

from __future__ import annotations

import time

import httpx
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from cli.client import CHAT, Message, Refused, stream_chat, url_of
from shared import refs
from shared.settings import Settings

QUESTION = "In one sentence: what is a caravan?"
MOST_TOKENS = 64


def served_name(settings: Settings) -> str:
    """The first model as callers name it: `ai/smollm2` for `ai/smollm2:latest=/a/file.gguf`."""
    ref = refs.normalize(settings.models[0][0] if settings.models else "")
    return ref.removesuffix(f":{refs.DEFAULT_TAG}")


async def first_chat(client: httpx.AsyncClient, settings: Settings, console: Console) -> None:
    """Ask one question through api, Redis, worker and back. A refusal is shown, not raised: the
    model may be one that does not chat."""
    console.print(f"\n[bold]{QUESTION}[/bold]")
    started = time.monotonic()
    first_s = None
    chat = stream_chat(
        client,
        [Message("user", QUESTION)],
        model=served_name(settings),
        max_tokens=MOST_TOKENS,
        temperature=0,
    )
    try:
        async for piece in chat:
            first_s = first_s or time.monotonic() - started
            console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
    except Refused as error:
        console.print(f"This first chat was refused: {error}", markup=False)
        return
    if first_s is not None:
        seconds = time.monotonic() - started
        console.print(f"\n[dim]first text after {first_s:.2f} s, all of it after {seconds:.2f} s")


def show(settings: Settings, console: Console) -> None:
    """The URLs, how to stop, and a line to copy."""
    url = url_of(settings.host, settings.port)
    rows = Table.grid(padding=(0, 2))
    rows.add_row("OpenAI SDKs", f"{url}/v1")
    rows.add_row("Anthropic SDKs", url)
    rows.add_row("Ollama clients", url)
    rows.add_row("Docker Model Runner", f"{url}/engines/v1")
    if settings.unix_socket:
        rows.add_row("Unix socket", settings.unix_socket)
    rows.add_row("Metrics", f"{url}/metrics")
    rows.add_row("Model", f"{served_name(settings)} on {settings.workers} worker(s)")
    rows.add_row("More", "caravan chat, caravan status; Ctrl-C stops")
    console.print(Panel(rows, title="Caravan is ready", expand=False))
    console.print(curl_line(url, served_name(settings)), markup=False, soft_wrap=True)


def curl_line(url: str, model: str) -> str:
    """One line to paste into a shell."""
    body = (
        f'{{"model":"{model}","stream":true,'
        '"messages":[{"role":"user","content":"Write a haiku about camels."}]}'
    )
    return f"curl -N {url}{CHAT} -H 'Content-Type: application/json' -d '{body}'"
