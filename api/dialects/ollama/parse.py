"""Ollama's requests as canonical ones. Pure.

What is known and not honoured is refused here by name. What Ollama settles when it loads a model
(`num_ctx`, `num_gpu`, ...) is settled by the operator here and has no effect in a request.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from api.dialects.ollama import types as wire
from api.dialects.ollama.context import unpacked
from api.dialects.ollama.conversation import messages_of, parts_of
from api.durations import keep_alive_s
from shared import refs, requests
from shared.errors import RequestError, Unsupported
from shared.messages import Message, Text, Tool

Intent = Literal["run", "load", "unload"]

REFUSED = {
    "template": "the model's own template is used",
    "width": "no images are made",
    "height": "no images are made",
    "steps": "no images are made",
}
SAMPLED = tuple(
    name for name in requests.Sampling.__struct_fields__ if name in wire.Options.__struct_fields__
)
EFFORT: dict[str, Literal["low", "medium", "high"]] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "high",
}


def model_of(body: wire.Named) -> str:
    """The name the caller used. Raises RequestError when there is none."""
    if name := (body.name or body.model).strip():
        return name
    raise RequestError("model is required", param="model")


def intent_of(body: wire.Chat | wire.Generate) -> Intent:
    """Whether there is anything to answer: without a prompt the model is loaded or let go."""
    match body:
        case wire.Chat(messages=messages):
            asked = bool(messages)
        case wire.Generate(prompt=prompt, images=images, suffix=suffix):
            asked = bool(prompt or images or suffix)
    if asked:
        return "run"
    return "unload" if keep_alive_s(body.keep_alive) == 0 else "load"


def chat(body: wire.Chat, *, job: str) -> requests.Generate:
    """The canonical request of POST /api/chat."""
    messages = messages_of(body.messages or ())
    tools = tuple(_tool(tool, at=f"tools[{at}]") for at, tool in enumerate(body.tools or ()))
    asked = requests.Chat(
        messages=messages,
        tools=tools,
        thinking=_thinking(body.think),
        continue_final=_goes_on(messages),
    )
    return _generation(body, asked, job=job)


def generate(body: wire.Generate, *, job: str) -> requests.Generate:
    """The canonical request of POST /api/generate."""
    for name, why in REFUSED.items():
        if getattr(body, name):
            raise Unsupported(name, why)
    return _generation(body, _prompt(body), job=job)


def embed(body: wire.Embed, *, job: str) -> requests.Embed:
    """The canonical request of POST /api/embed; long inputs are cut unless `truncate` is false."""
    _sampling(body.options)
    inputs = (body.input,) if isinstance(body.input, str) else body.input or ()
    return requests.Embed(
        id=job,
        model=refs.normalize(model_of(body)),
        inputs=inputs,
        dimensions=body.dimensions or None,
        truncate=body.truncate is not False,
        keep_alive_s=keep_alive_s(body.keep_alive),
    )


def embeddings(body: wire.Embeddings, *, job: str) -> requests.Embed:
    """The canonical request of POST /api/embeddings."""
    _sampling(body.options)
    return requests.Embed(
        id=job,
        model=refs.normalize(model_of(body)),
        inputs=(body.prompt or "",),
        normalize=False,
        truncate=True,
        keep_alive_s=keep_alive_s(body.keep_alive),
    )


def load(
    body: wire.Chat | wire.Generate | wire.Embed | wire.Embeddings, *, job: str
) -> requests.Tokenize:
    """The least job there is: whoever runs it has loaded the model."""
    return requests.Tokenize(
        id=job,
        model=refs.normalize(model_of(body)),
        input=requests.Prompt(text=""),
        keep_alive_s=keep_alive_s(body.keep_alive),
    )


def check_show(body: wire.Show) -> None:
    """Raises Unsupported for the members that would describe another model."""
    for name in ("system", "template", "options"):
        if getattr(body, name):
            raise Unsupported(name, "the model is shown as it is")


def _generation(
    body: wire.Generation, asked: requests.Chat | requests.Prompt, *, job: str
) -> requests.Generate:
    for name in ("truncate", "shift"):
        if getattr(body, name):
            raise Unsupported(name, "a prompt that is too long is answered with an error, not cut")
    options = body.options or wire.Options()
    limit = options.num_predict
    return requests.Generate(
        id=job,
        model=refs.normalize(model_of(body)),
        input=asked,
        sampling=_sampling(options),
        max_tokens=limit if limit is not None and limit > 0 else None,
        stop=_stops(options.stop),
        logprobs=_logprobs(body),
        constraint=_constraint(body.format),
        keep_alive_s=keep_alive_s(body.keep_alive),
    )


def _goes_on(messages: tuple[Message, ...]) -> bool:
    """Whether the answer continues the last message instead of replying to it."""
    return bool(messages) and messages[-1].role == "assistant" and not messages[-1].tool_calls


def _prompt(body: wire.Generate) -> requests.Chat | requests.Prompt:
    if not body.raw and not body.suffix:
        return _question(body)
    bare = "raw" if body.raw else "suffix"
    for name in ("system", "images", "think", "context"):
        if getattr(body, name):
            raise Unsupported(name, f"a prompt with {bare} is not put into a template")
    return requests.Prompt(text=body.prompt or "", suffix=body.suffix or None)


def _question(body: wire.Generate) -> requests.Chat:
    messages = [*unpacked(body.context or ())] if body.context else []
    messages.append(Message(role="user", content=parts_of(body.prompt, body.images)))
    if body.system:
        messages = [message for message in messages if message.role != "system"]
        messages.insert(0, Message(role="system", content=(Text(text=body.system),)))
    return requests.Chat(messages=tuple(messages), thinking=_thinking(body.think))


def _sampling(options: wire.Options | None) -> requests.Sampling:
    if options is None:
        return requests.Sampling()
    _check_options(options)
    given = {name: value for name in SAMPLED if (value := getattr(options, name)) is not None}
    if given.get("seed", 0) < 0:
        del given["seed"]  # -1: a seed of chance, as without one
    if given.get("top_k", 0) < 0:
        given["top_k"] = 0  # -1: all of them
    return msgspec.structs.replace(requests.Sampling(), **given)


def _check_options(options: wire.Options) -> None:
    """Values that would change the answer and cannot."""
    if options.tfs_z not in (None, 1.0):
        raise Unsupported("options.tfs_z", "tail-free sampling is not offered; 1 switches it off")
    if options.penalize_newline is False:
        raise Unsupported("options.penalize_newline", "a new line is penalised as any token is")
    for name in ("vocab_only", "logits_all", "embedding_only"):
        if getattr(options, name):
            raise Unsupported(f"options.{name}", "how a model is loaded is not the request's")


def _stops(given: str | tuple[str, ...] | None) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else given or ()
    return tuple(stop for stop in stops if stop)


def _logprobs(body: wire.Generation) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        raise RequestError("top_logprobs: needs logprobs true", param="top_logprobs")
    return None


def _constraint(form: str | dict[str, Any] | None) -> requests.Constraint | None:
    if isinstance(form, dict):
        return requests.JsonSchema(schema=form)
    return requests.JsonObject() if form else None


def _thinking(think: bool | str | None) -> requests.Thinking:
    if isinstance(think, str) and think:
        return requests.Thinking(enabled=True, effort=EFFORT[think])
    return requests.Thinking(enabled=think if isinstance(think, bool) else None)


def _tool(tool: wire.Tool, *, at: str) -> Tool:
    if tool.items:
        raise Unsupported(f"{at}.items", "describe arguments in function.parameters")
    function = tool.function
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=function.parameters or {},
        strict=bool(function.strict),
    )
