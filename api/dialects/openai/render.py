"""Chat answers, whole and streamed, from canonical events. Pure: values in, bytes out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import assert_never

import msgspec

from api.completed import Choice as Done
from api.completed import Completed
from api.dialects.openai import answers as wire
from api.dialects.openai.errors import answer_of
from shared.errors import error_of
from shared.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    FinishReason,
    Logprob,
    Progress,
    ReasoningDelta,
    Scores,
    Started,
    Stored,
    TextDelta,
    Timings,
    TokenLogprob,
    Tokens,
    ToolCallDelta,
    Usage,
    Vectors,
)

encode = msgspec.json.Encoder().encode
DONE = b"data: [DONE]\n\n"
FINGERPRINT = "caravan"  # where the worker names none


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What every chunk of an answer repeats."""

    id: str
    model: str
    created: int
    with_usage: bool = False
    with_logprobs: bool = False
    service_tier: str | None = None

    @classmethod
    def now(cls, *, job: str, model: str, **more: bool | str | None) -> Head:
        """A head whose answer begins now."""
        return cls(id=job, model=model, created=int(time.time()), **more)  # type: ignore[arg-type]


def framed(answer: msgspec.Struct) -> bytes:
    """One SSE event."""
    return b"data: " + encode(answer) + b"\n\n"


class ChatStream:
    """The renderer of one chat stream: a chunk an event, several chunks a write."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._spoke: set[int] = set()  # choices whose first chunk, with the role, is out
        self._fingerprint = FINGERPRINT

    def feed(self, events: Sequence[Event]) -> bytes:
        """The wire bytes of the next events, `data: [DONE]` included after the last."""
        return b"".join(part for event in events for part in self._of(event))

    def _of(self, event: Event) -> Iterable[bytes]:
        match event:
            case TextDelta():
                return self._delta(
                    event.choice,
                    wire.Delta(content=event.text),
                    self._logprobs(event.logprobs, ()),
                )
            case ReasoningDelta():
                return self._delta(
                    event.choice,
                    wire.Delta(reasoning_content=event.text),
                    self._logprobs((), event.logprobs),
                )
            case ToolCallDelta():
                return self._delta(
                    event.choice, _call_delta(event), self._logprobs(event.logprobs, ())
                )
            case Started():
                self._fingerprint = event.fingerprint or FINGERPRINT
                return ()
            case Finished():
                return self._finish(event)
            case Failed():
                return (framed(answer_of(error_of(event))), DONE)
            case Progress() | Vectors() | Scores() | Tokens() | Stored():
                return ()
            case _:
                assert_never(event)

    def _logprobs(
        self, content: Sequence[Logprob], reasoning: Sequence[Logprob]
    ) -> wire.Logprobs | None:
        return logprobs(content, reasoning) if self._head.with_logprobs else None

    def _delta(
        self, choice: int, delta: wire.Delta, found: wire.Logprobs | None
    ) -> Iterable[bytes]:
        parts = self._role(choice)
        return [*parts, self._choice_chunk(choice, delta, found)]

    def _role(self, choice: int) -> list[bytes]:
        if choice in self._spoke:
            return []
        self._spoke.add(choice)
        return [self._choice_chunk(choice, wire.Delta(role="assistant", content=""))]

    def _choice_chunk(
        self,
        choice: int,
        delta: wire.Delta,
        found: wire.Logprobs | None = None,
        *,
        reason: FinishReason | None = None,
        timings: wire.Timings | None = None,
    ) -> bytes:
        one = wire.ChunkChoice(index=choice, delta=delta, logprobs=found, finish_reason=reason)
        return self._chunk((one,), None if self._head.with_usage else msgspec.UNSET, timings)

    def _chunk(
        self,
        choices: tuple[wire.ChunkChoice, ...],
        usage: wire.Usage | msgspec.UnsetType | None,
        timings: wire.Timings | None,
    ) -> bytes:
        head = self._head
        return framed(
            wire.Chunk(
                id=head.id,
                object="chat.completion.chunk",
                created=head.created,
                model=head.model,
                system_fingerprint=self._fingerprint,
                choices=choices,
                usage=usage,
                timings=timings,
                service_tier=head.service_tier,
            )
        )

    def _finish(self, event: Finished) -> Iterable[bytes]:
        """A last chunk a choice, then usage if asked for; timings come with the very last."""
        measured = timings(event.timings, event.usage)
        last = len(event.choices) - 1
        for n, end in enumerate(event.choices):
            yield from self._role(n)
            yield self._choice_chunk(
                n,
                wire.Delta(),
                reason=reason_of(end),
                timings=measured if n == last and not self._head.with_usage else None,
            )
        if self._head.with_usage:
            yield self._chunk((), usage(event.usage), measured)
        yield DONE


def chat(head: Head, done: Completed) -> bytes:
    """A whole chat answer."""
    return encode(
        wire.ChatCompletion(
            id=head.id,
            object="chat.completion",
            created=head.created,
            model=head.model,
            system_fingerprint=fingerprint(done),
            choices=tuple(_choice(n, one, head) for n, one in enumerate(done.choices)),
            usage=usage(done.finished.usage),
            timings=timings(done.finished.timings, done.finished.usage),
            service_tier=head.service_tier,
        )
    )


def fingerprint(done: Completed) -> str:
    """Which build and model answered, as the worker says."""
    return (done.started.fingerprint if done.started else "") or FINGERPRINT


def reason_of(end: ChoiceEnd) -> FinishReason:
    """OpenAI has no word for a cancelled answer: it stopped."""
    return "stop" if end.reason == "cancelled" else end.reason


def usage(used: Usage) -> wire.Usage:
    """Token counts with their details."""
    return wire.Usage(
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        total_tokens=used.total_tokens,
        prompt_tokens_details=wire.PromptDetails(cached_tokens=used.cached_tokens),
        completion_tokens_details=wire.CompletionDetails(
            reasoning_tokens=used.reasoning_tokens,
            accepted_prediction_tokens=used.accepted_tokens,
            rejected_prediction_tokens=max(0, used.draft_tokens - used.accepted_tokens),
        ),
    )


def timings(measured: Timings, used: Usage) -> wire.Timings:
    """llama-server's `timings`: counts, milliseconds, rates; 0 where nothing was computed."""
    prompt_n = used.prompt_tokens - used.cached_tokens
    predicted_n = used.completion_tokens
    return wire.Timings(
        cache_n=used.cached_tokens,
        prompt_n=prompt_n,
        prompt_ms=measured.prefill_ms,
        prompt_per_token_ms=_ratio(measured.prefill_ms, prompt_n),
        prompt_per_second=_ratio(1000 * prompt_n, measured.prefill_ms),
        predicted_n=predicted_n,
        predicted_ms=measured.decode_ms,
        predicted_per_token_ms=_ratio(measured.decode_ms, predicted_n),
        predicted_per_second=_ratio(1000 * predicted_n, measured.decode_ms),
        queue_ms=measured.queue_ms,
        load_ms=measured.load_ms,
        draft_n=used.draft_tokens,
        draft_n_accepted=used.accepted_tokens,
    )


def logprobs(content: Sequence[Logprob], reasoning: Sequence[Logprob]) -> wire.Logprobs:
    """Log probabilities of an answer's tokens, of a part of it or of all."""
    return wire.Logprobs(
        content=tuple(map(_logprob, content)),
        refusal=None,
        reasoning_content=tuple(map(_logprob, reasoning)),
    )


def _logprob(one: Logprob) -> wire.TokenLogprob:
    return wire.TokenLogprob(
        token=text_of(one.chosen),
        logprob=one.chosen.logprob,
        bytes=tuple(one.chosen.token),
        top_logprobs=tuple(
            wire.Alternative(token=text_of(top), logprob=top.logprob, bytes=tuple(top.token))
            for top in one.top
        ),
    )


def text_of(token: TokenLogprob) -> str:
    """A token's text; half a character shows as a replacement, its `bytes` are exact."""
    return token.token.decode("utf-8", "replace")


def _call_delta(event: ToolCallDelta) -> wire.Delta:
    return wire.Delta(
        tool_calls=(
            wire.ToolCallDelta(
                index=event.index,
                id=event.id,
                type="function" if event.id else None,
                function=wire.FunctionDelta(name=event.name, arguments=event.arguments),
            ),
        )
    )


def _choice(n: int, done: Done, head: Head) -> wire.Choice:
    return wire.Choice(
        index=n,
        message=wire.Message(
            role="assistant",
            content=done.text if done.text or not done.tool_calls else None,
            refusal=None,
            reasoning_content=done.reasoning or None,
            tool_calls=tuple(
                wire.ToolCall(
                    id=call.id,
                    type="function",
                    function=wire.Function(name=call.name, arguments=call.arguments),
                )
                for call in done.tool_calls
            ),
        ),
        logprobs=logprobs(done.logprobs, done.reasoning_logprobs) if head.with_logprobs else None,
        finish_reason=reason_of(done.end),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
