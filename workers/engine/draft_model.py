"""A small model with the same vocabulary guesses for a large one, for all sequences together."""

from __future__ import annotations

from collections.abc import Mapping

from workers.engine.plan import Chunk, Cut, Edit, Plan, Runner
from workers.engine.sequence import Sequence
from workers.engine.speculation import agreed

CATCH_UP_ROWS = 256  # of one step, in all: a long prompt is read over several


class DraftModel:
    """speculation.Drafter over a runner of its own. Its memory holds, for each sequence, the tokens
    of the sequence and the guesses behind them; what did not come true is cut before the next.
    Greedy: the likeliest token is the one most often right."""

    shadow = False

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._free = list(range(runner.slots))
        self._slots: dict[Sequence, int] = {}
        self._held: dict[Sequence, list[int]] = {}
        self._agreed: dict[Sequence, int] = {}
        self._edits: list[Edit] = []
        self._ends = frozenset(runner.ends.tolist())

    def draft(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, tuple[int, ...]]:
        """See Drafter. None for a sequence with images, or whose tokens it has not all read yet."""
        ready = [one for one, most in wanted.items() if self._open(one, most)]
        first = self._read(ready)
        guesses = {one: [token] for one, token in first.items()}
        last = first
        while going := [one for one in last if len(guesses[one]) < wanted[one]]:
            last = self._decode(going, [self._chunk(one, [last[one]]) for one in going])
            for one, token in last.items():
                guesses[one].append(token)
        return {one: tuple(found) for one, found in guesses.items()}

    def forget(self, sequence: Sequence) -> None:
        """See Drafter."""
        if (slot := self._slots.pop(sequence, None)) is not None:
            del self._held[sequence], self._agreed[sequence]
            self._free.append(slot)
            self._edits.append(Cut(slot, 0))

    def _open(self, sequence: Sequence, most: int) -> bool:
        """Whether the sequence has a slot here, cut to where it agrees with what was said; its last
        token is always to be read again, for the logits behind it."""
        fits = len(sequence.tokens) + most <= self._runner.context_length
        if sequence.layout.rows or not fits:
            return False
        if sequence not in self._slots:
            if not self._free:
                return False
            self._slots[sequence] = self._free.pop()
            self._held[sequence], self._agreed[sequence] = [], 0
        self._cut(sequence)
        return True

    def _cut(self, sequence: Sequence) -> None:
        held, sure = self._held[sequence], self._agreed[sequence]
        keep = sure + agreed(held[sure:], sequence.tokens[sure:-1])
        self._agreed[sequence] = keep
        if keep < len(held):
            del held[keep:]
            self._edits.append(Cut(self._slots[sequence], keep))

    def _read(self, ready: list[Sequence]) -> dict[Sequence, int]:
        """Compute what was said since; the first guess for those that are then complete."""
        room = min(CATCH_UP_ROWS, self._runner.batch_rows)
        reading, chunks = [], []
        for one in sorted(ready, key=lambda one: len(one.tokens) - len(self._held[one])):
            rest = one.tokens[len(self._held[one]) :][:room]
            if rest:
                reading.append(one)
                chunks.append(self._chunk(one, rest))
                room -= len(rest)
        said = self._decode(reading, chunks)
        return {one: token for one, token in said.items() if self._complete(one)}

    def _complete(self, sequence: Sequence) -> bool:
        return len(self._held[sequence]) == len(sequence.tokens)

    def _chunk(self, sequence: Sequence, tokens: list[int]) -> Chunk:
        return Chunk(self._slots[sequence], len(self._held[sequence]), tokens, outputs=1)

    def _decode(self, sequences: list[Sequence], chunks: list[Chunk]) -> dict[Sequence, int]:
        """The likeliest token behind each chunk; nothing where the cells are used up."""
        if not chunks:
            return {}
        edits, self._edits = tuple(self._edits), []
        if not self._runner.decode(Plan(edits, tuple(chunks))):
            self._give_up()
            return {}
        said, row = {}, -1
        for one, chunk in zip(sequences, chunks, strict=True):
            self._held[one] += chunk.tokens
            row += len(chunk.tokens)
            token = int(self._runner.logits(row).argmax())
            if token not in self._ends:  # what is drawn there ends the text anyway
                said[one] = token
        return said

    def _give_up(self) -> None:
        """No cells: forget everybody, and begin anew with those that are left."""
        for one in list(self._slots):
            self.forget(one)
