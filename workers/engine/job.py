"""One job in the engine: its choices, what they said in this step, and how it left."""

from __future__ import annotations

import time

from shared.events import ChoiceEnd, Event
from workers.engine.doors import End, EndKind, Output, SequenceRequest
from workers.engine.media import TEXT_ONLY, Layout
from workers.engine.plan import Runner
from workers.engine.sequence import Sequence, Status
from workers.engine.voice import Said, Voice


class Job:
    """A request and its sequences, one a choice. `end` is set once, when it has left."""

    def __init__(
        self,
        request: SequenceRequest,
        *,
        order: int,
        context_length: int,
        layout: Layout = TEXT_ONLY,
    ) -> None:
        self.request = request
        self.key = request.key
        self.most_tokens = min(request.max_tokens, context_length - len(request.prompt))
        resumed = request.resumed or ((),) * request.choices
        self.sequences = tuple(
            Sequence(
                request.prompt,
                resumed[choice],
                choice=choice,
                order=order,
                lane=request.lane,
                layout=layout,
                adapters=request.adapters,
            )
            for choice in range(request.choices)
        )
        self.end: End | None = None
        self._reasoning_tokens = 0
        self._admitted_s = 0.0
        self._spoke_s = 0.0
        self._news = False
        self._tokens: dict[int, list[int]] = {}
        self._events: list[Event] = []

    @property
    def admitted(self) -> bool:
        """Whether its prefill has begun."""
        return self._admitted_s > 0

    def admit(self) -> None:
        """Its prefill begins, perhaps not for the first time."""
        if not self.admitted:
            self._admitted_s = time.monotonic()
            self._news = True

    def open_voice(self, runner: Runner, sequence: Sequence) -> None:
        """Give a sequence its voice and let it hear what it said before. May finish it."""
        voice = Voice(runner, self.request, choice=sequence.choice, most=self.most_tokens)
        sequence.voice = voice
        resumed = sequence.tokens[sequence.prompt_length :]
        if voice.needs_logits and resumed:
            sequence.heard = sequence.prompt_length
            return
        ended = [end for token in resumed if (end := voice.hear(token))]
        if ended:
            self.close(sequence, ended[0])

    def hear(self, sequence: Sequence, row: int) -> None:
        """The next resumed token, from the row it was drawn from."""
        assert sequence.voice is not None
        at = sequence.heard
        sequence.heard += 1
        end = sequence.voice.hear_row(sequence.tokens[at], row, position=at)
        if end is not None:
            self.close(sequence, end)

    def speak(self, sequence: Sequence, row: int) -> None:
        """Draw the next token of a sequence from its row."""
        assert sequence.voice is not None
        self.take(sequence, sequence.voice.speak(row, position=len(sequence.tokens)))

    def take(self, sequence: Sequence, said: Said) -> None:
        """A sequence said something; events of a choice come in its own order."""
        if said.token is not None:
            sequence.append(said.token)
            self._tokens.setdefault(sequence.choice, []).append(said.token)
            self._spoke_s = self._spoke_s or time.monotonic()
        self._events += said.events
        if said.end is not None:
            self.close(sequence, said.end)

    def close(self, sequence: Sequence, end: ChoiceEnd) -> None:
        """A choice is over; the last one ends the job."""
        self._finish(sequence, end)
        if all(one.status is Status.DONE for one in self.sequences):
            self.leave("finished")

    def run_out(self, sequence: Sequence) -> None:
        """There are no more cells, and nobody else to take them from."""
        if sequence.generated and sequence.voice is not None:
            self.take(sequence, sequence.voice.cut_short())
        else:
            self.leave("failed", error="the prompt needs more cells than there are")

    def leave(self, kind: EndKind, *, error: str = "") -> None:
        """The job is over in this engine. The first end stands."""
        if self.end is not None:
            return
        for sequence in self.sequences:
            if sequence.status is not Status.DONE:
                self._finish(sequence)
        self.end = self._account(kind, error)

    def take_output(self) -> Output | None:
        """What this step made of it, once."""
        if not (self._tokens or self._events or self._news or self.end):
            return None
        tokens = tuple((choice, tuple(ids)) for choice, ids in self._tokens.items())
        output = Output(
            key=self.key,
            tokens=tokens,
            events=tuple(self._events),
            end=self.end,
            admitted=self._news,
        )
        self._tokens, self._events, self._news = {}, [], False
        return output

    def _finish(self, sequence: Sequence, end: ChoiceEnd | None = None) -> None:
        if sequence.voice is not None:
            self._reasoning_tokens += sequence.voice.reasoning_tokens
        sequence.finish(end)

    def _account(self, kind: EndKind, error: str) -> End:
        now_s = time.monotonic()
        spoke_s = self._spoke_s or now_s
        return End(
            kind=kind,
            choices=tuple(s.end for s in self.sequences if s.end) if kind == "finished" else (),
            error=error,
            prompt_tokens=len(self.request.prompt),
            cached_tokens=self.sequences[0].cached,
            completion_tokens=sum(one.generated for one in self.sequences),
            reasoning_tokens=self._reasoning_tokens,
            draft_tokens=sum(one.drafted for one in self.sequences),
            accepted_tokens=sum(one.accepted for one in self.sequences),
            prefill_ms=1000 * (spoke_s - self._admitted_s) if self.admitted else 0.0,
            decode_ms=1000 * (now_s - spoke_s),
        )
