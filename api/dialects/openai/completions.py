"""POST /v1/completions: requests into canonical ones, events into its chunks. Pure.

Several prompts are several jobs; their choices are numbered one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

import msgspec

from api.completed import Choice, Completed
from api.dialects.openai import answers as wire
from api.dialects.openai.errors import answer_of
from api.dialects.openai.render import (
    DONE,
    FINGERPRINT,
    Head,
    encode,
    fingerprint,
    framed,
    reason_of,
    text_of,
    timings,
    usage,
)
from api.dialects.openai.sampling import common
from api.dialects.openai.types import CompletionRequest
from shared import refs
from shared.errors import RequestError, Unsupported, error_of
from shared.events import (
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
    Tokens,
    ToolCallDelta,
    Usage,
    Vectors,
)
from shared.requests import Generate, Prompt


def parse(asked: CompletionRequest, *, job: str) -> list[Generate]:
    """One Generate a prompt; the first has the id `job`. Raises RequestError, Unsupported."""
    if asked.best_of is not None and asked.best_of != (asked.n or 1):
        raise Unsupported("best_of", "choices are not ranked; it may only equal n")
    prompts = prompts_of(asked)
    if asked.stream and len(prompts) > 1:
        raise Unsupported("prompt", "several prompts cannot be streamed; send one a request")
    shared = common(asked)
    return [
        Generate(
            id=job if n == 0 else f"{job}-{n}",
            model=refs.normalize(asked.model),
            input=prompt,
            max_tokens=asked.max_tokens,
            logprobs=asked.logprobs,
            **shared,
        )
        for n, prompt in enumerate(prompts)
    ]


def prompts_of(asked: CompletionRequest) -> list[Prompt]:
    """Every prompt; a bare list of numbers is one prompt of tokens."""
    given = asked.prompt
    if isinstance(given, str):
        return [_prompt(asked, given)]
    if all(isinstance(one, int) for one in given):
        return [_prompt(asked, [one for one in given if isinstance(one, int)])]
    if any(isinstance(one, int) for one in given):
        raise RequestError("prompt: texts and token ids cannot be mixed", param="prompt")
    return [_prompt(asked, one) for one in given if not isinstance(one, int)]


def _prompt(asked: CompletionRequest, one: str | list[int]) -> Prompt:
    text, tokens = (one, None) if isinstance(one, str) else (None, tuple(one))
    return Prompt(text=text, tokens=tokens, suffix=asked.suffix, echo=bool(asked.echo))


class TextStream:
    """The renderer of one completion stream."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._offsets: dict[int, int] = {}  # characters out so far, by choice
        self._fingerprint = FINGERPRINT

    def feed(self, events: Sequence[Event]) -> bytes:
        """The wire bytes of the next events, `data: [DONE]` included after the last."""
        return b"".join(part for event in events for part in self._of(event))

    def _of(self, event: Event) -> Iterable[bytes]:
        match event:
            case TextDelta() | ReasoningDelta():
                return (self._delta(event),)
            case Started():
                self._fingerprint = event.fingerprint or FINGERPRINT
                return ()
            case Finished():
                return self._finish(event)
            case Failed():
                return (framed(answer_of(error_of(event))), DONE)
            case ToolCallDelta() | Progress() | Vectors() | Scores() | Tokens() | Stored():
                return ()
            case _:
                assert_never(event)

    def _delta(self, event: TextDelta | ReasoningDelta) -> bytes:
        offset = self._offsets.get(event.choice, 0)
        self._offsets[event.choice] = offset + len(event.text)
        found = logprobs(event.logprobs, offset) if self._head.with_logprobs else None
        return self._choice(event.choice, event.text, found)

    def _choice(
        self,
        index: int,
        text: str,
        found: wire.TextLogprobs | None = None,
        *,
        reason: FinishReason | None = None,
        measured: wire.Timings | None = None,
    ) -> bytes:
        one = wire.TextChoice(text=text, index=index, logprobs=found, finish_reason=reason)
        nothing = None if self._head.with_usage else msgspec.UNSET
        return framed(_completion(self._head, self._fingerprint, (one,), nothing, measured))

    def _finish(self, event: Finished) -> Iterable[bytes]:
        measured = timings(event.timings, event.usage)
        last = len(event.choices) - 1
        for n, end in enumerate(event.choices):
            here = measured if n == last and not self._head.with_usage else None
            yield self._choice(n, "", reason=reason_of(end), measured=here)
        if self._head.with_usage:
            whole = _completion(self._head, self._fingerprint, (), usage(event.usage), measured)
            yield framed(whole)
        yield DONE


def whole(head: Head, done: Sequence[Completed]) -> bytes:
    """The answer to one or several prompts."""
    choices = [choice for one in done for choice in one.choices]
    used, measured = _sum_used(done), _sum_timings(done)
    return encode(
        _completion(
            head,
            fingerprint(done[0]),
            tuple(
                wire.TextChoice(
                    text=choice.reasoning + choice.text,  # as the stream has it
                    index=n,
                    logprobs=_all_logprobs(choice) if head.with_logprobs else None,
                    finish_reason=reason_of(choice.end),
                )
                for n, choice in enumerate(choices)
            ),
            usage(used),
            timings(measured, used),
        )
    )


def _all_logprobs(choice: Choice) -> wire.TextLogprobs:
    return logprobs((*choice.reasoning_logprobs, *choice.logprobs), 0)


def logprobs(found: Sequence[Logprob], offset: int) -> wire.TextLogprobs:
    """The old form; `offset` is where in the answer's text the first token begins."""
    tokens = tuple(text_of(one.chosen) for one in found)
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return wire.TextLogprobs(
        tokens=tokens,
        token_logprobs=tuple(one.chosen.logprob for one in found),
        top_logprobs=tuple({text_of(top): top.logprob for top in one.top} for one in found),
        text_offset=tuple(offsets),
    )


def _completion(
    head: Head,
    made_by: str,
    choices: tuple[wire.TextChoice, ...],
    used: wire.Usage | msgspec.UnsetType | None,
    measured: wire.Timings | None,
) -> wire.TextCompletion:
    return wire.TextCompletion(
        id=head.id,
        object="text_completion",
        created=head.created,
        model=head.model,
        system_fingerprint=made_by,
        choices=choices,
        usage=used,
        timings=measured,
        service_tier=head.service_tier,
    )


def _sum_used(done: Sequence[Completed]) -> Usage:
    return Usage(
        **{
            name: sum(getattr(one.finished.usage, name) for one in done)
            for name in Usage.__struct_fields__
        }
    )


def _sum_timings(done: Sequence[Completed]) -> Timings:
    return Timings(
        **{
            name: sum(getattr(one.finished.timings, name) for one in done)
            for name in Timings.__struct_fields__
        }
    )
