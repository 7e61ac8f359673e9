"""The values that scheduler, runner and engine exchange, and what they ask of each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.requests import Sampling
from workers.engine.adapters import AdapterSet
from workers.engine.media import Rows

Logits = NDArray[np.float32]  # one row, as wide as the vocabulary; -inf forbids a token
Bytes = NDArray[np.uint8]


class Copy(msgspec.Struct, frozen=True):
    """Let slot `target`, which is empty, share the first `length` cells of `source`: those at
    positions below `length - lag`."""

    source: int
    target: int
    length: int
    lag: int = 0


class Cut(msgspec.Struct, frozen=True):
    """Keep only the first `keep` tokens of a slot, those at positions below `keep - lag`; 0 empties
    it."""

    slot: int
    keep: int
    lag: int = 0


class Bury(msgspec.Struct, frozen=True):
    """As Cut, but the cells go to slot `grave` and stay occupied, so that no sequence puts its next
    token in front of its last ones: with cells in another order the same attention rounds
    differently."""

    slot: int
    keep: int
    grave: int
    lag: int = 0


class Saved(Protocol):
    """What a slot's memory held, in host memory."""

    tokens: tuple[int, ...]
    data: Bytes  # as the runner wrote it

    def allot(self, size: int) -> Bytes | None:
        """Memory for so many bytes, which are to be `data`; None: do not save it."""


class Save(msgspec.Struct, frozen=True):
    """Copy all of a slot's memory to the host, if there is room for it."""

    slot: int
    into: Saved


class Load(msgspec.Struct, frozen=True):
    """Fill `slot`, which is empty, with all that was saved; there are cells for it."""

    saved: Saved
    slot: int


Edit = Copy | Cut | Bury | Save | Load


class Chunk(msgspec.Struct, frozen=True):
    """Tokens of one slot to compute, the first at `start`; the last `outputs` rows want logits.
    Positions are indices less `lag`. `embedded` in place of the tokens, which stand for it. The
    last `drafted` tokens are guesses: their rows count if the rows before them come to say so."""

    slot: int
    start: int
    tokens: Sequence[int]
    outputs: int
    lag: int = 0
    embedded: Rows | None = None
    drafted: int = 0

    @property
    def drafts(self) -> Sequence[int]:
        """The guesses among its tokens."""
        return self.tokens[len(self.tokens) - self.drafted :]


class Plan(msgspec.Struct, frozen=True):
    """One step: memory edits, in order, then the rows. Chunks of embeddings come last and want no
    logits: whatever order they are computed in, the rows that do are counted from 0. All rows are
    computed with the same `adapters`."""

    edits: tuple[Edit, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    adapters: AdapterSet = ()


class EngineError(RuntimeError):
    """The engine cannot go on: the library refused a batch or the device failed."""


class Sampler(Protocol):
    """Draws one choice's tokens."""

    @property
    def needs_logits(self) -> bool:
        """Whether resuming needs the logits of the resumed tokens (mirostat), not only the ids."""

    def draw(self, row: int, position: int) -> int:
        """The token that comes to stand at `position`, from the logits of batch row `row`.
        It counts as accepted."""

    def accept(self, token: int) -> None:
        """`token` was drawn elsewhere: remember it for penalties."""

    def close(self) -> None:
        """Free what it holds."""


class Runner(Protocol):
    """The device: computes plans, keeps the KV memory, knows the vocabulary."""

    slots: int  # sequences decoded together, at most
    sequence_ids: int  # slots and, beyond them, room for idle cached prefixes
    cells: int
    idle_cells: int  # what cached prefixes may keep before they slow the others down
    new_cells: int  # of these, what those may keep that were of no use yet
    context_length: int  # longest sequence
    batch_rows: int  # most rows of one plan, and most embeddings beside them
    n_vocab: int
    width: int  # of an embedding
    can_cut: bool  # whether a slot's memory can be shortened and shared in part
    tile: int  # rows from which on they are computed together and cost less each; 1 = no such
    exact: bool  # whether a row's numbers depend on its sequence alone, its cells being in order
    ends: NDArray[np.int64]  # the end-of-generation tokens

    def decode(self, plan: Plan) -> bool:
        """Apply the edits and compute the chunks; False: no cells, nothing was computed (the edits
        stand). Raises EngineError when the device is beyond use."""

    def logits(self, row: int) -> Logits:
        """A writable view of a row's logits, valid until the next decode. `row` counts the rows of
        the last plan from 0."""

    def sampler(self, sampling: Sampling, *, seed: int) -> Sampler:
        """A sampler of this runner's logits."""

    def piece(self, token: int) -> bytes:
        """A token's bytes, markers included."""
