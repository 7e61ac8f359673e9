"""Settings as command line flags: `--port` is CARAVAN_PORT, for the commands that honour it.

A flag only lays its value over the environment; shared/settings.py judges both alike, and children
inherit the result.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from shared import settings
from shared.settings import Settings

COMMON = ("redis_url", "data_dir", "log_level", "log_format")
API = (
    "host",
    "port",
    "unix_socket",
    "max_body_bytes",
    "max_queue",
    "queue_timeout_s",
    "ping_s",
    "responses_ttl_s",
    "record_requests",
    "origins",
    "image_hosts",
    "image_private",
    "image_timeout_s",
    "heal_after_s",
    "drain_timeout_s",
)
WORKER = (
    "model",
    "adapters",
    "pool",
    "memory",
    "keep_alive_s",
    "slots",
    "context",
    "cells",
    "prefill_budget",
    "prefill_stretch",
    "draft_max",
    "draft_model",
    "prefix_cache",
    "host_cache_mib",
    "cache_type_k",
    "cache_type_v",
    "flash_attention",
    "exact",
    "threads",
    "gpu_layers",
    "image_threads",
    "lease_ms",
    "max_attempts",
    "emit_interval_ms",
    "safety_tick_s",
    "step_timeout_s",
    "drain_timeout_s",
    "store_dir",
    "registry_mirrors",
    "insecure_registries",
    "docker_config",
    "model_roots",
    "max_pulls",
)
SERVE = ("workers",)

Run = Callable[[Settings, dict[str, str]], None]


def with_flags(*names: str) -> Callable[[Run], Callable[..., None]]:
    """Give a command a flag for each setting in `names`; it gets the settings and environment."""

    def decorate(run: Run) -> Callable[..., None]:
        def command(**given: str | None) -> None:
            flags = {name: value for name, value in given.items() if value is not None}
            environment = settings.environment(**flags)
            run(settings.read(environment), environment)

        command.__name__ = run.__name__
        command.__doc__ = run.__doc__
        command.__signature__ = inspect.Signature(_parameters(names))  # type: ignore[attr-defined]
        return command

    return decorate


def _parameters(names: Iterable[str]) -> list[inspect.Parameter]:
    """One keyword parameter a setting, in the order of shared/settings.py, as typer reads them."""
    wanted = {settings.variable(name): name for name in names}
    return [
        inspect.Parameter(
            wanted[variable],
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, _option(wanted[variable], default, sentence)],
        )
        for variable, default, sentence in settings.table()
        if variable in wanted
    ]


def _option(name: str, default: str, sentence: str) -> object:
    shown = f"{sentence} (default: {default or 'empty'})"
    return typer.Option(f"--{name.replace('_', '-')}", help=shown, metavar="VALUE")
