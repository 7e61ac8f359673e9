"""Cards of models and workers as Ollama lists them. Pure.

Names are short and have their tag: `smollm2:latest`, as Ollama's clients compare them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from api.dialects.ollama import answers
from api.dialects.ollama.render import stamp
from shared import refs
from shared.presence import LoadedModel, ModelCard, WorkerCard

IDLE_S = 5 * 60.0  # how long a worker keeps an idle model that nobody gave a time
FOREVER_S = 292 * 365.25 * 24 * 3600  # Ollama's own "for ever": the longest of Go's durations
UNITS = ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0))
ON_CPU = "cpu"


def short(ref: str) -> str:
    """A ref as people write it, with its tag: without the default organisation and host."""
    ref = ref.removeprefix(f"{refs.DEFAULT_ORGANISATION}/")
    return ref.replace("huggingface.co/", "hf.co/", 1) if ref.startswith("huggingface") else ref


def tags(cards: Iterable[ModelCard]) -> answers.Tags:
    """Of /api/tags: each name a model has is an entry."""
    return answers.Tags(
        models=tuple(_listed(card, name) for card in cards for name in (card.ref, *card.aliases))
    )


def _listed(card: ModelCard, ref: str) -> answers.Listed:
    return answers.Listed(
        name=short(ref),
        model=short(ref),
        modified_at=stamp(card.created * 10**9),
        size=card.size,
        digest=_digest(card),
        details=details(card),
    )


def _digest(card: ModelCard) -> str:
    """Ollama leaves the algorithm's name away, and shows the first twelve digits."""
    return card.digest.removeprefix("sha256:")


def details(card: ModelCard) -> answers.Details:
    """What kind of model."""
    return answers.Details(
        family=card.architecture,
        families=(card.architecture,) if card.architecture else (),
        parameter_size=counted(card.parameters),
        quantization_level=card.quantization,
    )


def counted(parameters: int) -> str:
    """134515008 -> 134.52M, as Ollama writes it; nothing when unknown."""
    for unit, letter, digits in UNITS:
        if parameters >= unit:
            return f"{parameters / unit:.{0 if parameters % unit == 0 else digits}f}{letter}"
    return str(parameters) if parameters else ""


def processes(workers: Iterable[WorkerCard], catalog: Mapping[str, ModelCard]) -> answers.Processes:
    """Of /api/ps: a model is one entry, whatever the number of workers that hold it."""
    held: dict[str, list[tuple[WorkerCard, LoadedModel]]] = {}
    for worker in workers:
        for loaded in worker.models:
            if loaded.state != "unloading":
                held.setdefault(loaded.model, []).append((worker, loaded))
    return answers.Processes(
        models=tuple(_running(ref, holders, catalog.get(ref)) for ref, holders in held.items())
    )


def _running(
    ref: str, holders: list[tuple[WorkerCard, LoadedModel]], card: ModelCard | None
) -> answers.Running:
    return answers.Running(
        name=short(ref),
        model=short(ref),
        size=sum(loaded.bytes for _, loaded in holders),
        digest=_digest(card) if card else "",
        details=details(card) if card else answers.Details(),
        expires_at=stamp(max(_expires_ns(loaded) for _, loaded in holders)),
        size_vram=sum(
            loaded.bytes for worker, loaded in holders if not worker.device.startswith(ON_CPU)
        ),
        context_length=max(loaded.context for _, loaded in holders),
    )


def _expires_ns(loaded: LoadedModel) -> int:
    keep_s = IDLE_S if loaded.keep_alive_s is None else loaded.keep_alive_s
    return loaded.last_used_ms * 10**6 + int(keep_s if keep_s >= 0 else FOREVER_S) * 10**9


def shown(card: ModelCard) -> answers.Shown:
    """Of /api/show."""
    return answers.Shown(
        license=card.license,
        modelfile=_modelfile(card),
        parameters=f"num_ctx {card.packaged_context}" if card.packaged_context else "",
        template=card.template,
        details=details(card),
        model_info=_model_info(card),
        capabilities=card.capabilities,
        modified_at=stamp(card.created * 10**9),
    )


def _model_info(card: ModelCard) -> dict[str, str | int]:
    """The GGUF header's words for what the catalog knows."""
    known: dict[str, str | int] = {
        "general.architecture": card.architecture,
        "general.parameter_count": card.parameters,
        f"{card.architecture}.context_length": card.context,
    }
    return {name: value for name, value in known.items() if value} | card.metadata


def _modelfile(card: ModelCard) -> str:
    """What would make this model again, as far as it is known."""
    lines = [f"FROM {short(card.ref)}"]
    if card.packaged_context:
        lines.append(f"PARAMETER num_ctx {card.packaged_context}")
    if card.template:
        lines.append(f'TEMPLATE """{card.template}"""')
    if card.license:
        lines.append(f'LICENSE """{card.license}"""')
    return "\n".join(lines) + "\n"
