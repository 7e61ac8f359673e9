"""One step as it is planned: its rows, and whose they are. Pure."""

from __future__ import annotations

import msgspec

from workers.engine.plan import Chunk, Plan
from workers.engine.sequence import Sequence


class Schedule(msgspec.Struct, frozen=True):
    """A plan and whose chunks they are, in the same order."""

    plan: Plan
    sequences: tuple[Sequence, ...]

    @property
    def decode_rows(self) -> int:
        """How many sequences wait in it for their next token."""
        pairs = zip(self.sequences, self.plan.chunks, strict=True)
        return sum(chunk.start >= sequence.prompt_length for sequence, chunk in pairs)

    @property
    def draft_rows(self) -> int:
        """Guesses that it computes for them."""
        return sum(chunk.drafted for chunk in self.plan.chunks)

    @property
    def prefill_rows(self) -> int:
        """The other rows."""
        rows = sum(len(chunk.tokens) for chunk in self.plan.chunks)
        return rows - self.decode_rows - self.draft_rows

    @property
    def place(self) -> int:
        """How far into a prompt its prefill begins, at most; 0 without any."""
        pairs = zip(self.sequences, self.plan.chunks, strict=True)
        return max((c.start for s, c in pairs if c.start < s.prompt_length), default=0)


class Rows:
    """The rows of a step while it is planned."""

    def __init__(self) -> None:
        self.total = 0
        self.embedded = 0
        self._text: list[tuple[Sequence, Chunk]] = []
        self._media: list[tuple[Sequence, Chunk]] = []

    def add(self, sequence: Sequence, count: int, drafts: tuple[int, ...] = ()) -> None:
        """The next `count` tokens of a sequence, and guesses of those behind them."""
        start = sequence.computed
        tokens = [*sequence.tokens[start : start + count], *drafts]
        lag, embedded = sequence.layout.lag(start), sequence.layout.embedded(start, count)
        outputs, drafted = sequence.outputs(count) + len(drafts), len(drafts)
        chunk = Chunk(sequence.slot, start, tokens, outputs, lag, embedded, drafted)
        (self._text if embedded is None else self._media).append((sequence, chunk))
        self.total += len(tokens)
        self.embedded += 0 if embedded is None else count

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Tokens, then embeddings."""
        return tuple(chunk for _, chunk in (*self._text, *self._media))

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """Whose the chunks are."""
        return tuple(sequence for sequence, _ in (*self._text, *self._media))
