"""`caravan chat`: a conversation in the terminal, over HTTP like any other client.

Ctrl-C stops the answer and keeps what came; at the prompt it clears the line. Ctrl-D or /bye
leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from rich.console import Console

from cli.client import Message, Refused, connect, stream_chat

HELP = "/new forgets the conversation, /bye or Ctrl-D leaves, Ctrl-C stops an answer"
Ask = Callable[[], str]  # a line of input; EOFError leaves, KeyboardInterrupt clears


class Conversation:
    """The turns so far; what the model sees of them is all of them."""

    def __init__(
        self, url: str, *, model: str, system: str, options: dict[str, Any], console: Console
    ) -> None:
        self._url = url
        self._model = model
        self._first = [Message("system", system)] if system else []
        self._options = options
        self._console = console
        self.turns = list(self._first)

    def forget(self) -> None:
        """Start again, with the system prompt alone."""
        self.turns = list(self._first)

    def say(self, text: str) -> bool:
        """Ask and print the answer as it comes; False if it was refused. A refused question is
        forgotten, a stopped answer is kept as far as it came."""
        self.turns.append(Message("user", text))
        pieces: list[str] = []
        try:
            asyncio.run(self._stream(pieces))
        except Refused as error:
            self._console.print(f"[red]{type(error).__name__}:[/red]", end=" ")
            self._console.print(str(error), markup=False)
            self.turns.pop()
            return False
        except KeyboardInterrupt:
            self._console.print(" [dim](stopped)", end="")
        self._console.print()
        self.turns.append(Message("assistant", "".join(pieces)))
        return True

    async def _stream(self, pieces: list[str]) -> None:
        async with (
            connect(self._url) as client,
            contextlib.aclosing(
                stream_chat(client, self.turns, model=self._model, **self._options)
            ) as answer,
        ):
            async for piece in answer:
                pieces.append(piece)
                self._console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)


def talk(conversation: Conversation, *, ask: Ask, console: Console) -> None:
    """Until the operator leaves."""
    console.print(f"[dim]{HELP}")
    while True:
        try:
            text = ask().strip()
        except KeyboardInterrupt:
            console.print()
            continue
        except EOFError:
            console.print()
            return
        match text:
            case "":
                continue
            case "/bye" | "/exit":
                return
            case "/new":
                conversation.forget()
            case _ if text.startswith("/"):
                console.print(f"[dim]{HELP}")
            case _:
                conversation.say(text)
