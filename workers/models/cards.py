"""What the catalog says of a model: from its file's header and its artifact's config. Pure but for
reading the header."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog
from msgspec.structs import replace

from shared.errors import BadTemplate
from shared.presence import ModelCard
from workers.models import gguf, projectors
from workers.models.gguf import BadModelFile, ModelFacts
from workers.models.store.artifact import Artifact, ModelConfig, Role
from workers.models.store.package import bytes_text
from workers.models.store.store import Store, StoredModel
from workers.prompt.families import detect
from workers.prompt.template import Template

log = structlog.get_logger()

MAX_TEXT = 4096  # longer metadata is left to the file
MAX_TEMPLATE_BYTES = 1 << 20
TEMPLATE_KEY = "tokenizer.chat_template"


def of_stored(store: Store, model: StoredModel, *, origin: str = "") -> ModelCard:
    """The card of a model in the store, its first tag the ref, the others aliases."""
    tags = model.tags or (model.id,)
    card = ModelCard(
        ref=tags[0],
        aliases=tags[1:],
        created=model.created,
        digest=model.id,
        origin=origin,
        size=model.size_bytes,
        config=config_texts(model.config),
        metadata=_known(model.config),
        packaged_context=model.config.context_size or 0,
        damaged=model.damaged,
    )
    return card if model.damaged else _with_facts(store, card, store.artifact_of(model.id))


def _with_facts(store: Store, card: ModelCard, artifact: Artifact) -> ModelCard:
    weights = artifact.layers(Role.WEIGHTS)[0]
    template = _text_of(store, artifact, Role.TEMPLATE)
    try:
        facts = gguf.read(store.blobs.path(weights.digest))
    except (BadModelFile, OSError) as error:
        log.warning("model.unreadable", model=card.ref, error=str(error))
        return replace(card, damaged=f"the model file cannot be read: {error}")
    return with_facts(
        replace(card, license=_text_of(store, artifact, Role.LICENSE)),
        facts,
        template=template,
        sees=_sees(store, artifact),
    )


def _sees(store: Store, artifact: Artifact) -> tuple[str, ...]:
    """What its projector, if it has one that can be read, lets it take."""
    for layer in artifact.layers(Role.PROJECTOR)[:1]:
        with suppress(BadModelFile, OSError):
            return projectors.read(store.blobs.path(layer.digest)).capabilities
    return ()


def of_remote(model: StoredModel, ref: str) -> ModelCard:
    """The card of a model that is at a registry only: what its manifest and config say."""
    return ModelCard(
        ref=ref,
        created=model.created,
        digest=model.id,
        architecture=model.config.architecture,
        quantization=model.config.quantization,
        size=model.size_bytes,
        context=model.config.context_size or 0,
        config=config_texts(model.config),
        metadata=_known(model.config),
        packaged_context=model.config.context_size or 0,
    )


def with_facts(
    card: ModelCard, facts: ModelFacts, *, template: str = "", sees: tuple[str, ...] = ()
) -> ModelCard:
    """The card with what the GGUF says of itself; `template` in place of the file's own. `sees`:
    what its projector adds to the capabilities."""
    template = template or facts.chat_template
    context = card.packaged_context or facts.context_length
    return replace(
        card,
        architecture=facts.architecture,
        parameters=facts.parameters,
        quantization=facts.quantization,
        context=card.context or context,
        template=template,
        license=card.license or facts.license,
        capabilities=(*capabilities(facts, template), *sees),
        metadata=metadata(facts, known=card.metadata),
    )


def capabilities(facts: ModelFacts, template: str) -> tuple[str, ...]:
    """What the model was made for: `embedding`, or `completion` with `tools` and `thinking` where
    its template speaks of them."""
    if not facts.causal or facts.pooling not in ("", "none"):
        return ("embedding",)
    found = ["completion"]
    if _takes_tools(template):
        found.append("tools")
    if template and detect(template).think is not None:
        found.append("thinking")
    return tuple(found)


def _takes_tools(template: str) -> bool:
    try:
        return bool(template) and "tools" in Template(template).variables
    except BadTemplate:
        return False


def metadata(facts: ModelFacts, *, known: dict[str, str | int]) -> dict[str, str | int]:
    """The header under GGUF's own key names, on top of what was known. Without the template."""
    kind = facts.architecture
    found: dict[str, str | int] = {
        **known,
        "general.architecture": kind,
        "general.name": facts.name,
        "general.size_label": facts.size_label,
        "general.license": facts.license,
        "general.parameter_count": facts.parameters,
        f"{kind}.context_length": facts.context_length,
        f"{kind}.embedding_length": facts.embedding_length,
        f"{kind}.block_count": facts.block_count,
        f"{kind}.attention.head_count": facts.head_count,
        f"{kind}.attention.head_count_kv": facts.head_count_kv,
        f"{kind}.expert_count": facts.expert_count,
        f"{kind}.vocab_size": facts.vocab_size,
        "tokenizer.ggml.model": facts.tokenizer,
        "tokenizer.ggml.pre": facts.pre_tokenizer,
    }
    return {key: value for key, value in found.items() if value and _fits(value)}


def _known(config: ModelConfig) -> dict[str, str | int]:
    """What the artifact's config says of the header."""
    return {key: text for key, text in config.gguf.items() if key != TEMPLATE_KEY and _fits(text)}


def config_texts(config: ModelConfig) -> dict[str, str]:
    """The artifact's own words, those that are there."""
    names = ("format", "quantization", "parameters", "architecture", "size")
    return {name: getattr(config, name) for name in names if getattr(config, name)}


def size_text(card: ModelCard) -> str:
    """Its size as the artifact, or as we would write it."""
    return card.config.get("size", "") or bytes_text(card.size)


def _fits(value: str | int) -> bool:
    return isinstance(value, int) or len(value) <= MAX_TEXT


def _text_of(store: Store, artifact: Artifact, role: Role) -> str:
    """The first layer of a role, as text; nothing where there is none or it is too long."""
    layers = artifact.layers(role)
    if not layers or layers[0].size > MAX_TEMPLATE_BYTES:
        return ""
    path: Path = store.blobs.path(layers[0].digest)
    return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
