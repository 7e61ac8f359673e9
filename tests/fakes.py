"""Small honest implementations of what is slow, far or random. Add yours; rewrite nobody's."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from shared.events import ChoiceEnd, Event, Logprob, TextDelta
from shared.requests import Sampling
from workers.engine.adapters import AdapterSet
from workers.engine.plan import (
    Bury,
    Chunk,
    Copy,
    Cut,
    Edit,
    EngineError,
    Load,
    Logits,
    Plan,
    Save,
    Saved,
)
from workers.engine.seeds import sampler_seed

END = 256  # ScriptedRunner's end-of-generation token; every other token is one byte
LETTERS = range(97, 123)


class PlainText:
    """doors.TextPipeline: each byte is a letter; `stop` ends the text and is not part of it."""

    def __init__(self, stop: str = "") -> None:
        self.end: ChoiceEnd | None = None
        self._stop = stop
        self._held = ""

    def feed(self, piece: bytes, logprob: Logprob | None = None) -> Sequence[Event]:
        """One more byte; text that may begin the stop string is held back."""
        self._held += piece.decode("latin-1")
        if self._stop and self._stop in self._held:
            self.end = ChoiceEnd(reason="stop", stop=self._stop)
            self._held = self._held.partition(self._stop)[0]
            return self.flush()
        if self._stop and any(self._held.endswith(self._stop[:n]) for n in range(1, 9)):
            return ()
        return self._release((logprob,) if logprob else ())

    def flush(self) -> Sequence[Event]:
        """What was held back."""
        return self._release(())

    def _release(self, logprobs: tuple[Logprob, ...]) -> Sequence[Event]:
        text, self._held = self._held, ""
        return (TextDelta(text=text, logprobs=logprobs),) if text else ()


class ScriptedRunner:
    """plan.Runner without a model: what comes next is a function of all a slot's memory holds, so a
    wrong copy, cut or position shows in the text. Tokens are bytes; 256 ends.

    `answers` are texts for prompts (the longest prompt that fits); other prompts get letters by
    checksum, with no end. An embedding is the byte that its first number says. Adapters change the
    checksum, and a memory holds what one set of them computed. Counts computed
    tokens and keeps the plans and all edits. `refuse` makes the next
    decodes answer "no cells", `breaks` makes one raise.
    """

    def __init__(
        self,
        answers: Mapping[str, str] | None = None,
        *,
        slots: int = 4,
        sequence_ids: int = 0,
        cells: int = 4096,
        context_length: int = 1024,
        batch_rows: int = 64,
        width: int = 2,
        can_cut: bool = True,
        exact: bool = False,
    ) -> None:
        self.slots = slots
        self.sequence_ids = sequence_ids or slots + 8
        self.cells = self.idle_cells = self.new_cells = cells
        self.context_length = context_length
        self.batch_rows = batch_rows
        self.can_cut = can_cut
        self.exact = exact
        self.tile = 1
        self.n_vocab = 257
        self.width = width
        self.ends = np.array([END])
        self.computed = 0
        self.plans: list[Plan] = []
        self.edits: list[Edit] = []
        self.refuse = 0
        self.breaks = False
        self.open_samplers = 0
        self.before_decode: Callable[[], None] = lambda: None
        self._answers = {prompt.encode(): text.encode() for prompt, text in (answers or {}).items()}
        self._memory: list[list[tuple[int, int]]] = [[] for _ in range(self.sequence_ids)]
        self._positions: list[list[int]] = [[] for _ in range(self.sequence_ids)]
        self._adapters: list[AdapterSet] = [()] * self.sequence_ids
        self._saved: WeakKeyDictionary[Saved, AdapterSet] = WeakKeyDictionary()
        self._cell = itertools.count()
        self._rows: dict[int, Logits] = {}

    def decode(self, plan: Plan) -> bool:
        """Apply the edits, then compute all chunks or none."""
        self.before_decode()
        if self.breaks:
            raise EngineError("the device is gone")
        for edit in plan.edits:
            self._edit(edit)
        if not plan.chunks:
            return True
        rows = sum(len(chunk.tokens) for chunk in plan.chunks)
        embedded = sum(len(c.tokens) for c in plan.chunks if c.embedded is not None)
        assert max(embedded, rows - embedded) <= self.batch_rows, "more rows than a batch holds"
        assert len({chunk.slot for chunk in plan.chunks}) == len(plan.chunks), "a slot twice"
        if self.refuse or self.used + rows > self.cells:
            self.refuse = max(0, self.refuse - 1)
            return False
        self.plans.append(plan)
        self.computed += rows
        self._compute(plan.chunks, plan.adapters)
        return True

    @property
    def used(self) -> int:
        """Cells in use."""
        return len({cell for memory in self._memory for cell, _ in memory})

    def logits(self, row: int) -> Logits:
        """Writable; only rows that were asked for."""
        return self._rows[row]

    def sampler(self, sampling: Sampling, *, seed: int) -> FakeSampler:
        """Greedy or by (seed, position); mirostat is a sampler that counts its draws."""
        self.open_samplers += 1
        return FakeSampler(self, sampling, seed)

    def piece(self, token: int) -> bytes:
        """A token is its byte; the end is nothing."""
        return bytes([token]) if token < END else b""

    def slot_text(self, slot: int) -> str:
        """What a slot's memory holds."""
        return _bytes(self._memory[slot]).decode("latin-1")

    def _edit(self, edit: Edit) -> None:
        self.edits.append(edit)
        match edit:
            case Copy(source, target, length, lag):
                positions, end = self._positions[source], length - lag
                assert all(at < end for at in positions[:length]), "a copy would lack a cell"
                assert all(at >= end for at in positions[length:]), "a copy would have more cells"
                self._positions[target] = positions[:length]
                assert not self._memory[target], "copy into a slot that holds something"
                assert 0 < length <= len(self._memory[source]), "copy of what is not there"
                assert self.can_cut or length == len(self._memory[source]), "part of a whole"
                self._memory[target] = self._memory[source][:length]
                self._adapters[target] = self._adapters[source]
            case Cut(slot, keep):
                assert self.can_cut or keep == 0, "a memory that cannot be cut"
                del self._memory[slot][keep:], self._positions[slot][keep:]
            case Bury(slot, keep, grave):
                assert self.can_cut, "a memory that cannot be cut"
                self._memory[grave] += self._memory[slot][keep:]
                del self._memory[slot][keep:], self._positions[slot][keep:]
            case Save(slot, into):
                state, self._saved[into] = _bytes(self._memory[slot]), self._adapters[slot]
                if (data := into.allot(len(state))) is not None:
                    data[:] = list(state)
            case Load(saved, slot):
                assert not self._memory[slot], "load into a slot that holds something"
                assert self.used + len(saved.data) <= self.cells, "load without cells"
                self._memory[slot] = [(next(self._cell), int(value)) for value in saved.data]
                self._positions[slot] = list(range(len(saved.data)))
                self._adapters[slot] = self._saved[saved]

    def _compute(self, chunks: Sequence[Chunk], adapters: AdapterSet) -> None:
        self._rows, row = {}, 0
        for chunk in chunks:
            memory = self._memory[chunk.slot]
            assert not memory or self._adapters[chunk.slot] == adapters, "computed with others"
            self._adapters[chunk.slot] = adapters
            assert chunk.start == len(memory), "a position is missing or doubled"
            first_output = len(chunk.tokens) - chunk.outputs
            self._positions[chunk.slot] += _positions(chunk)
            for n, token in enumerate(_values(chunk)):
                memory.append((next(self._cell), token))
                if n >= first_output:
                    self._rows[row] = self._logits_after(_bytes(memory), adapters)
                row += 1

    def _logits_after(self, held: bytes, adapters: AdapterSet) -> Logits:
        logits = np.full(self.n_vocab, -20.0, np.float32)
        signed = held + repr(adapters).encode() if adapters else held
        logits[LETTERS.start : LETTERS.stop] = [
            zlib.crc32(signed + bytes([letter])) % 997 / 100 for letter in LETTERS
        ]
        prompts = [prompt for prompt in self._answers if held.startswith(prompt)]
        if prompts:
            prompt = max(prompts, key=len)
            rest = self._answers[prompt][len(held) - len(prompt) :]
            logits[rest[0] if rest else END] = 50.0
        return logits


class FakeSampler:
    """plan.Sampler over a ScriptedRunner."""

    def __init__(self, runner: ScriptedRunner, sampling: Sampling, seed: int) -> None:
        self.needs_logits = sampling.mirostat > 0
        self.accepted: list[int] = []
        self._runner = runner
        self._hot = sampling.temperature > 0
        self._seed = seed
        self._drawn = 0
        self._closed = False

    def draw(self, row: int, position: int) -> int:
        """The best token, or one by chance; mirostat's depends on how many it has drawn."""
        logits = self._runner.logits(row).astype(np.float64)
        if self._hot:
            turn = self._drawn if self.needs_logits else position
            logits += np.random.default_rng(sampler_seed(self._seed, turn)).gumbel(size=len(logits))
        self._drawn += 1
        token = int(logits.argmax())
        self.accepted.append(token)
        return token

    def accept(self, token: int) -> None:
        """Remember it."""
        self.accepted.append(token)

    def close(self) -> None:
        """Once."""
        assert not self._closed, "closed twice"
        self._closed = True
        self._runner.open_samplers -= 1


def _values(chunk: Chunk) -> Sequence[int]:
    if chunk.embedded is None:
        return chunk.tokens
    assert chunk.outputs == 0, "logits of an embedding"
    assert len(chunk.embedded.numbers) == len(chunk.tokens), "a row is missing"
    return [int(row[0]) for row in chunk.embedded.numbers]


def _positions(chunk: Chunk) -> list[int]:
    first = chunk.start - chunk.lag
    if chunk.embedded is None:
        return list(range(first, first + len(chunk.tokens)))
    return list(map(int, chunk.embedded.positions[0]))


def _bytes(memory: Sequence[tuple[int, int]]) -> bytes:
    return bytes(token for _, token in memory)
