"""Cards as Ollama lists them."""

from __future__ import annotations

import msgspec
import pytest

from api.dialects.ollama import models
from shared.presence import LoadedModel, ModelCard, WorkerCard
from tests.api.fleet import CARD, MODEL

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("ai/smollm2:latest", "smollm2:latest"),
        ("myorg/model:v1", "myorg/model:v1"),
        ("huggingface.co/org/model:Q4_K_M", "hf.co/org/model:Q4_K_M"),
        ("registry.example.com/ai/m:latest", "registry.example.com/ai/m:latest"),
    ],
)
def test_names_are_short(ref: str, name: str) -> None:
    assert models.short(ref) == name


@pytest.mark.parametrize(
    ("count", "text"),
    [(134_515_008, "134.52M"), (8_030_261_248, "8.0B"), (7 * 10**9, "7B"), (0, ""), (512, "512")],
)
def test_parameters_are_counted_as_people_do(count: int, text: str) -> None:
    assert models.counted(count) == text


def test_every_name_is_a_tag() -> None:
    listed = models.tags([CARD]).models
    assert [entry.name for entry in listed] == ["smollm2:latest", "tiny:latest"]
    assert listed[0].digest == "ab" * 32
    assert listed[0].modified_at == "2025-03-24T11:49:41.000000000Z"
    assert (listed[0].details.parameter_size, listed[0].details.family) == ("134.52M", "llama")


def worker(*loaded: LoadedModel, device: str = "cpu") -> WorkerCard:
    return WorkerCard(id="w", host="h", pid=1, device=device, started_ms=0, models=loaded)


def held(**more: object) -> LoadedModel:
    loaded = LoadedModel(model=MODEL, context=8192, bytes=100, last_used_ms=HOUR_MS)
    return msgspec.structs.replace(loaded, **more)


def test_a_model_in_two_workers_is_one_process() -> None:
    cards = [worker(held()), worker(held(keep_alive_s=600.0), device="cuda:0")]
    (running,) = models.processes(cards, {MODEL: CARD}).models
    assert (running.size, running.size_vram, running.context_length) == (200, 100, 8192)
    assert running.expires_at == "1970-01-01T01:10:00.000000000Z"
    assert running.details.quantization_level == "Q4_1"


@pytest.mark.parametrize(
    ("keep_alive_s", "year"), [(None, "1970-01-01T01:05"), (-1.0, "2262-01-03"), (0.0, "1970")]
)
def test_when_a_model_will_go(keep_alive_s: float | None, year: str) -> None:
    (running,) = models.processes([worker(held(keep_alive_s=keep_alive_s))], {}).models
    assert running.expires_at.startswith(year)
    assert running.digest == ""


def test_a_model_that_is_going_is_not_listed() -> None:
    assert models.processes([worker(held(state="unloading"))], {}).models == ()


def test_what_is_known_is_shown() -> None:
    card = msgspec.structs.replace(
        CARD, template="{{ x }}", license="Apache-2.0", capabilities=("completion", "tools")
    )
    shown = models.shown(card)
    assert shown.model_info == {
        "general.architecture": "llama",
        "general.parameter_count": 134_515_008,
        "llama.context_length": 8192,
    }
    assert shown.modelfile == (
        'FROM smollm2:latest\nTEMPLATE """{{ x }}"""\nLICENSE """Apache-2.0"""\n'
    )
    assert (shown.template, shown.license) == ("{{ x }}", "Apache-2.0")
    assert shown.capabilities == ("completion", "tools")


def test_a_card_that_knows_nothing_says_nothing() -> None:
    shown = models.shown(ModelCard(ref="ai/x:latest", created=0))
    assert shown.model_info == {}
    assert shown.modelfile == "FROM x:latest\n"
    assert shown.details.families == ()
