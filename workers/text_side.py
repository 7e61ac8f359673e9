"""What one loaded model knows of text: prompts from requests, tokens from text and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from shared.errors import CaravanError
from shared.requests import Generate, Prompt, Tokenize
from workers.engine.media import Media
from workers.media.encoder import Encoder
from workers.prompt.model_text import ModelText
from workers.prompt.plan import Prepared, prepare

NO_LIMIT = 1 << 30
NO_TOKEN = -1  # for a caller; inside, the placeholders of an image say which


class Text:
    """The served.TextSide of one loaded model; `encoder` where `model` has one for its `media`."""

    def __init__(self, model: ModelText, *, context: int, encoder: Encoder | None = None) -> None:
        self._model = model
        self._encoder = encoder
        self._context = context

    def prepare(self, request: Generate, *, enqueued_s: float) -> Prepared:
        """See workers/prompt/plan.py."""
        return prepare(request, self._model, now_s=enqueued_s, context=self._context)

    async def media(self, prepared: Prepared, *, stopped: Callable[[], bool]) -> tuple[Media, ...]:
        """The embeddings its prompt wants; they are made in a thread where only that is done."""
        if self._encoder is None or not prepared.parts:
            return ()
        encode = partial(self._encoder.media, prepared.parts, stopped=stopped)
        return await asyncio.get_running_loop().run_in_executor(self._encoder.thread, encode)

    def tokenize(self, request: Tokenize, *, enqueued_s: float) -> tuple[int, ...]:
        """Token ids of a text or a rendered conversation, however long. Rows of an image are -1."""
        if isinstance(request.input, Prompt):
            return self._raw_tokens(request, request.input)
        chat = Generate(id=request.id, model=request.model, input=request.input)
        prompt = prepare(chat, self._model, now_s=enqueued_s, context=NO_LIMIT).prompt
        return tuple(max(token, NO_TOKEN) for token in prompt)

    def _raw_tokens(self, request: Tokenize, prompt: Prompt) -> tuple[int, ...]:
        if prompt.tokens is not None:
            return prompt.tokens
        special, parse = request.add_special, request.parse_special
        text = prompt.text or ""
        return self._model.vocab.tokenize(text, add_special=special, parse_special=parse)

    def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids; bytes that are no UTF-8 become U+FFFD."""
        return self._model.vocab.detokenize(tokens).decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """One token's bytes; none of an image's."""
        return b"" if token < 0 else self._model.vocab.piece(token)


class NoText:
    """The served.TextSide where there is no model: raises `error` for everything."""

    def __init__(self, error: CaravanError) -> None:
        self._error = error

    def prepare(self, request: Generate, *, enqueued_s: float) -> NoReturn:
        """Raises."""
        raise self._error

    async def media(self, prepared: Prepared, *, stopped: Callable[[], bool]) -> NoReturn:
        """Raises."""
        raise self._error

    def tokenize(self, request: Tokenize, *, enqueued_s: float) -> NoReturn:
        """Raises."""
        raise self._error

    def detokenize(self, tokens: tuple[int, ...]) -> NoReturn:
        """Raises."""
        raise self._error

    def piece(self, token: int) -> NoReturn:
        """Raises."""
        raise self._error
