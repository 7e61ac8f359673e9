"""What Docker Model Runner's clients get from the engine routes. Pure: cards in, Structs out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from api import durations
from api.recorder import Record
from shared.model_config import ModelConfig
from shared.presence import LoadedModel, ModelCard, WorkerCard

BACKEND = "llama.cpp"
OTHER_BACKENDS = ("vllm", "mlx", "sglang", "diffusers")
NEVER = "0001-01-01T00:00:00Z"  # Go's zero time
CHAT = "completion"


class Runner(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model in a worker. `last_used` is the zero time while it is in use or loading."""

    backend_name: str
    model_name: str
    mode: str
    last_used: str
    in_use: bool = False
    loading: bool = False
    keep_alive: str | None = None


class DiskUsage(msgspec.Struct, frozen=True):
    """In bytes; the engine is part of the workers' program and takes none of its own."""

    models_disk_usage: int
    default_backend_disk_usage: int = 0


class Unloaded(msgspec.Struct, frozen=True):
    unloaded_runners: int


class Configured(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One model's configuration; Docker's clients expect capitals."""

    backend: str = BACKEND
    model: str
    model_id: str = msgspec.field(name="ModelID")
    mode: str = CHAT
    config: dict[str, Any]


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """A model's recorded requests, the oldest first. `model` is its ID."""

    count: int
    model: str
    config: dict[str, Any]
    records: list[Record]


def status(workers: Sequence[WorkerCard]) -> dict[str, str]:
    """Every engine Docker's clients know, and how it is."""
    there = [card for card in workers if not card.draining]
    devices = ", ".join(sorted({card.device for card in there}))
    own = f"Running: {len(there)} workers on {devices}" if there else "Error: no worker is there"
    if len(there) == 1:
        own = f"Running: 1 worker on {devices}"
    return {BACKEND: own, **dict.fromkeys(OTHER_BACKENDS, "Not Installed")}


def runners(workers: Iterable[WorkerCard], catalog: Mapping[str, ModelCard]) -> list[Runner]:
    """Every model in every worker."""
    return [
        _runner(loaded, catalog.get(loaded.model))
        for card in workers
        for loaded in card.models
        if loaded.state != "unloading"
    ]


def disk_usage(catalog: Iterable[ModelCard]) -> DiskUsage:
    """What the catalog's models take, each once."""
    return DiskUsage(sum({card.digest or card.ref: card.size for card in catalog}.values()))


def configured(
    configs: Mapping[str, ModelConfig], catalog: Mapping[str, ModelCard]
) -> list[Configured]:
    """Of every model there is; a deleted one's configuration waits for it to come back."""
    return [
        Configured(
            model=ref,
            model_id=catalog[ref].digest,
            mode=_mode(catalog[ref]),
            config=members(config),
        )
        for ref, config in configs.items()
        if ref in catalog
    ]


def members(config: ModelConfig) -> dict[str, Any]:
    """A configuration under Docker's names; what Docker has no name for is in `caravan`."""
    rest = {name: one for name, one in msgspec.structs.asdict(config).items() if one is not None}
    found: dict[str, Any] = {}
    if (context := rest.pop("context_size", None)) is not None:
        found["context-size"] = context
    if (keep_alive_s := rest.pop("keep_alive_s", None)) is not None:
        found["keep_alive"] = durations.written(keep_alive_s)
    if (budget := rest.pop("reasoning_budget", None)) is not None:
        found["llamacpp"] = {"reasoning-budget": budget}
    return found | ({"caravan": rest} if rest else {})


def requests(card: ModelCard, config: ModelConfig, records: list[Record]) -> Requests:
    """One model's records."""
    return Requests(
        count=len(records),
        model=card.digest or card.ref,
        config=members(config),
        records=records,
    )


def _runner(loaded: LoadedModel, card: ModelCard | None) -> Runner:
    loading = loaded.state == "loading"
    in_use = bool(loaded.slots_busy or loaded.waiting)
    return Runner(
        backend_name=BACKEND,
        model_name=loaded.model,
        mode=_mode(card),
        last_used=NEVER if loading or in_use else _stamp(loaded.last_used_ms),
        in_use=in_use,
        loading=loading,
        keep_alive=None if loaded.keep_alive_s is None else durations.written(loaded.keep_alive_s),
    )


def _mode(card: ModelCard | None) -> str:
    only_embeds = card and "completion" not in card.capabilities
    return "embedding" if only_embeds else CHAT


def _stamp(ms: int) -> str:
    if not ms:
        return NEVER
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")
