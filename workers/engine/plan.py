"""The values that scheduler, runner and engine exchange, and what they ask of each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.requests import Sampling
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
    """Keep only the first `keep` tokens of a slot; 0 empties it."""

    slot: int
    keep: int


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


Edit = Copy | Cut | Save | Load


class Chunk(msgspec.Struct, frozen=True):
    """Tokens of one slot to compute, the first at `start`; the last `outputs` rows want logits.
    Positions are indices less `lag`. `embedded` in place of the tokens, which stand for it."""

    slot: int
    start: int
    tokens: Sequence[int]
    outputs: int
    lag: int = 0
    embedded: Rows | None = None


class Plan(msgspec.Struct, frozen=True):
    """One step: memory edits, in order, then the rows. Chunks of embeddings come last and want no
    logits: whatever order they are computed in, the rows that do are counted from 0."""

    edits: tuple[Edit, ...] = ()
    chunks: tuple[Chunk, ...] = ()


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
    context_length: int  # longest sequence
    batch_rows: int  # most rows of one plan, and most embeddings beside them
    n_vocab: int
    width: int  # of an embedding
    can_cut: bool  # whether a slot's memory can be shortened and shared in part
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
