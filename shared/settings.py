"""Every CARAVAN_* variable, in one place, each with a sentence. A bad value stops the start.

Read once at the door of a process into a frozen Struct; nobody else looks at os.environ.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared import cache_types
from shared.cache_types import CacheType, FlashAttention

PREFIX = "CARAVAN_"
LogLevel = Literal["debug", "info", "warning", "error"]


def _about(text: str, **limits: Any) -> Meta:
    return Meta(description=text, **limits)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All processes share these, each takes what it needs; `redis_url` is CARAVAN_REDIS_URL."""

    redis_url: Annotated[str, _about("Redis to use; empty: `caravan serve` starts its own")] = ""
    data_dir: Annotated[str, _about("Where Caravan keeps its Redis file, sockets and models")] = ""
    log_level: Annotated[LogLevel, _about("debug, info, warning or error")] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"],
        _about("json, console, or console on a terminal"),
    ] = "auto"

    host: Annotated[str, _about("Address the api listens on")] = "127.0.0.1"
    port: Annotated[int, _about("Port the api listens on", ge=0, le=65535)] = 12434
    unix_socket: Annotated[str, _about("Also listen on this Unix socket")] = ""
    max_body_bytes: Annotated[int, _about("Largest request body", ge=1)] = 10 * 1024 * 1024
    max_queue: Annotated[int, _about("Jobs that may wait for one model; then 429", ge=1)] = 10_000
    queue_timeout_s: Annotated[
        float, _about("How long a job may wait before it fails; 0 = no limit", ge=0)
    ] = 0.0
    ping_s: Annotated[float, _about("SSE comment at least this often", gt=0)] = 10.0
    responses_ttl_s: Annotated[
        int, _about("How long a stored response is kept; continuing it starts anew", ge=1)
    ] = 24 * 3600
    image_hosts: Annotated[
        str,
        _about(
            "Hosts from which images named by http(s) URLs are fetched, comma-separated; "
            "empty: none, such a request is a 400",
            pattern=r"^[A-Za-z0-9.,: -]*$",
        ),
    ] = ""
    image_private: Annotated[
        bool, _about("Fetch images from these hosts also where their address is not public")
    ] = False
    image_timeout_s: Annotated[
        float, _about("How long fetching a request's images may take", gt=0)
    ] = 10.0
    record_requests: Annotated[
        bool, _about("Keep the last 10 requests of each model, prompts too, for an hour")
    ] = False
    origins: Annotated[
        str,
        _about(
            "Web pages that may call the api, beside those of this machine: scheme://host:port, "
            "with * for any part, comma-separated; * alone: all",
            pattern=r"^(\s*(\*|null|[a-z*][a-z0-9+.*-]*://[^\s,/]+)\s*(,|$))*$",
        ),
    ] = ""
    heal_after_s: Annotated[
        float, _about("Silence after which a stream reads its journal", gt=0)
    ] = 2.0

    model: Annotated[
        str,
        _about(
            "Models a worker serves and never unloads: REF or REF=PATH of a GGUF, comma-separated; "
            "MODEL.gguf+PROJECTOR as the path where the model takes images; "
            "with the pool: what is offered beside the catalog"
        ),
    ] = "ai/smollm2"
    adapters: Annotated[
        str,
        _about(
            "LoRA adapters that requests may name: NAME=PATH of a GGUF, comma-separated; "
            "MODELREF:NAME=PATH where CARAVAN_MODEL is not one model",
            pattern=r"^(\s*([^\s,=]+:)?[A-Za-z0-9._-]+=[^,]*[^,\s]\s*(,|$))*$",
        ),
    ] = ""
    pool: Annotated[
        bool,
        _about(
            "Serve any model of the catalog: load on demand, unload what is idle; the workers of "
            "`caravan serve` do, unless this is set"
        ),
    ] = False
    memory: Annotated[
        str,
        _about(
            "Memory for a worker's models, as 6GiB; 0 = measured: what is free, less a reserve",
            pattern=r"^[0-9]+([.][0-9]+)?([KMGT]i?B)?$",
        ),
    ] = "0"
    keep_alive_s: Annotated[
        float,
        _about(
            "How long a worker of the pool keeps an idle model, where neither the request nor the "
            "model's configuration says; 0 = not at all, negative = for ever"
        ),
    ] = 300.0
    workers: Annotated[int, _about("Workers that `caravan serve` starts", ge=0)] = 1
    slots: Annotated[int, _about("Sequences decoded together", ge=1, le=240)] = 16
    context: Annotated[
        int,
        _about(
            "Longest prompt and answer, tokens; 0 = what the model was trained for",
            ge=0,
        ),
    ] = 0
    cells: Annotated[
        int,
        _about("KV cache cells all sequences share; 0 = by context and slots", ge=0),
    ] = 0
    prefill_budget: Annotated[int, _about("Most prompt tokens computed in one step", ge=1)] = 256
    prefill_stretch: Annotated[
        float,
        _about(
            "How much longer a step may take for others' prompts; 0 = as long as it takes", ge=0
        ),
    ] = 2.0
    draft_max: Annotated[
        int,
        _about(
            "Tokens guessed ahead for a sequence where that pays (speculative decoding); 0 = none",
            ge=0,
            le=64,
        ),
    ] = 16
    draft_model: Annotated[
        str,
        _about(
            "Small models that guess ahead for those with the same vocabulary: PATH of a GGUF, "
            "comma-separated; MODELREF=PATH where CARAVAN_MODEL is not one model; "
            "empty: guesses are what followed the same tokens before",
            pattern=r"^(\s*([^\s,=]+=)?[^,=]*[^,=\s]\s*(,|$))*$",
        ),
    ] = ""
    prefix_cache: Annotated[
        int,
        _about(
            "Cells that idle cached prefixes may keep; -1 = all on a GPU; on a CPU 4096, of which "
            "1024 for prefixes nobody came back to yet",
            ge=-1,
        ),
    ] = -1
    host_cache_mib: Annotated[
        int,
        _about("Host memory for prefixes whose cells others need, MiB a model; 0 = off", ge=0),
    ] = 0
    cache_type_k: Annotated[
        CacheType, _about("How KV cells hold keys: f16, bf16, q8_0 or q4_0")
    ] = "f16"
    cache_type_v: Annotated[
        CacheType, _about("How KV cells hold values: as keys; q8_0 and q4_0 need flash attention")
    ] = "f16"
    flash_attention: Annotated[
        FlashAttention, _about("on, off, or auto: where the device and the model can")
    ] = "auto"
    exact: Annotated[
        bool,
        _about(
            "On CPU, with flash attention, a stream that moves to another worker goes on with the "
            "very same text; long prompts take about twice as long for it"
        ),
    ] = False
    threads: Annotated[int, _about("Threads of the engine; 0 = one a core", ge=0)] = 0
    image_threads: Annotated[
        int, _about("Threads that encode images and sounds; 0 = half the cores", ge=0)
    ] = 0
    gpu_layers: Annotated[int, _about("Layers on the GPU; -1 = all", ge=-1)] = -1
    lease_ms: Annotated[int, _about("After this silence a worker's jobs go to another", ge=200)] = (
        3000
    )
    max_attempts: Annotated[int, _about("Workers a job may take down without progress", ge=1)] = 2
    emit_interval_ms: Annotated[
        float,
        _about("Least time between two writes to Redis; a first token never waits", ge=0),
    ] = 20.0
    safety_tick_s: Annotated[
        float, _about("How often a worker looks for work nobody woke it for", gt=0)
    ] = 5.0
    step_timeout_s: Annotated[
        float,
        _about("A step that takes longer means a hung engine: the worker exits", gt=0),
    ] = 60.0
    drain_timeout_s: Annotated[
        float, _about("On SIGTERM, how long running answers may take to end", ge=0)
    ] = 20.0

    store_dir: Annotated[
        str, _about("Where a worker keeps its models; empty: models/store in the data directory")
    ] = ""
    registry_mirrors: Annotated[
        str, _about("URLs asked before Docker Hub for its models, comma-separated")
    ] = ""
    insecure_registries: Annotated[
        str,
        _about("Registry hosts spoken to by plain HTTP, beside localhost, comma-separated"),
    ] = ""
    docker_config: Annotated[
        str, _about("Docker's config.json, for logins at registries; empty: none")
    ] = "~/.docker/config.json"
    model_roots: Annotated[
        str,
        _about("Folders below which `file:` sources of models may lie, comma-separated"),
    ] = ""
    max_pulls: Annotated[int, _about("Models a worker pulls at the same time", ge=1)] = 2

    @property
    def store(self) -> Path:
        """Where the models are kept."""
        if self.store_dir:
            return Path(self.store_dir).expanduser()
        return self.home / "models" / "store"

    @property
    def home(self) -> Path:
        """The data directory; the default follows the XDG convention."""
        if self.data_dir:
            return Path(self.data_dir).expanduser()
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        return Path(base).expanduser() / "caravan"

    @property
    def models(self) -> tuple[tuple[str, str], ...]:
        """(name, path or empty) of each entry of `model`."""
        entries = (entry.strip().partition("=") for entry in self.model.split(","))
        return tuple((name.strip(), path.strip()) for name, _, path in entries if name.strip())

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number, 0 = to be measured."""
        number = self.memory.rstrip("KMGTiB")
        unit = self.memory.removeprefix(number)
        step = 1024 if "i" in unit else 1000
        return int(float(number) * step ** (" KMGT".index(unit[0]) if unit else 0))


class BadSetting(ValueError):
    """A variable that is unknown or has a value that cannot be; the message names it."""


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process. Raises BadSetting, which names the variable."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX)
    }
    for name in given.keys() - {field.name for field in msgspec.structs.fields(Settings)}:
        raise BadSetting(f"{variable(name)} is no setting; `caravan --help` lists them")
    for name, value in given.items():
        try:
            msgspec.convert({name: value}, Settings, strict=False)
        except msgspec.ValidationError as error:
            why = str(error).split(" - at ")[0]
            raise BadSetting(f"{variable(name)}={value!r} cannot be: {why}") from error
    found = msgspec.convert(given, Settings, strict=False)
    if why := cache_types.fault(found.cache_type_v, found.flash_attention):
        raise BadSetting(f"{variable('flash_attention')}='off' cannot be: {why}")
    return found


def environment(**given: str) -> dict[str, str]:
    """This process's environment with settings laid over it: for `read`, and for children."""
    return {**os.environ, **{variable(name): value for name, value in given.items()}}


def suggest(name: str, value: str) -> None:
    """Set a library's own variable for this process, unless its user has set it."""
    os.environ.setdefault(name, value)


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def table() -> Iterator[tuple[str, str, str]]:
    """(variable, default, sentence) of every setting, for --help and the docs."""
    for field in msgspec.inspect.type_info(Settings).fields:  # type: ignore[attr-defined]
        extra = field.type.extra_json_schema or {}
        yield variable(field.name), str(field.default), extra.get("description", "")
