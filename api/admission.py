"""What a job costs and is called, before it is enqueued. Pure."""

from __future__ import annotations

import uuid

from shared.requests import Chat, Embed, Generate, Prompt, Request, Rerank

CHARACTERS_A_TOKEN = 4
TOKENS_OF_AN_ANSWER = 256  # where max_tokens is not given


def new_id(prefix: str) -> str:
    """An id for a job and its answer: `chatcmpl-<32 hex digits>`."""
    return f"{prefix}{uuid.uuid4().hex}"


def cost_of(request: Request) -> float:
    """Estimated tokens of prompt and answer: what fairness is counted in."""
    match request:
        case Generate(input=Chat(messages=messages)):
            characters = sum(len(message.text) for message in messages)
        case Generate(input=Prompt(text=text, tokens=tokens)):
            characters = len(text or "") + CHARACTERS_A_TOKEN * len(tokens or ())
        case Embed(inputs=inputs):
            characters = sum(len(i) if isinstance(i, str) else 4 * len(i) for i in inputs)
        case Rerank(query=query, documents=documents):
            characters = sum(len(document) + len(query) for document in documents)
        case _:
            characters = CHARACTERS_A_TOKEN
    answer = 0
    if isinstance(request, Generate):
        answer = request.choices * (request.max_tokens or TOKENS_OF_AN_ANSWER)
    return characters / CHARACTERS_A_TOKEN + answer
