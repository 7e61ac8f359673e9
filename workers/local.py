"""Which file a model ref stands for on this host: `REF=PATH`, or a model the set-up fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path

from shared import refs
from shared.presence import ModelCard
from shared.setting_values import listed, split_paths
from shared.settings import BadSetting, Settings
from workers.models import cards
from workers.models.gguf import ModelFacts

FETCHED = {"ai/smollm2:latest": "SmolLM2-135M-Instruct.Q4_1.gguf"}
DIGEST_CHUNK = 1 << 20


def resolve(settings: Settings) -> tuple[str, Path]:
    """Normal ref and file of the first of `models`. Raises BadSetting when there is none."""
    name, given = settings.models[0] if settings.models else ("", "")
    ref = refs.normalize(name)
    path = _path(settings, ref, given)
    if path is None:
        raise BadSetting(
            f"CARAVAN_MODEL={settings.model!r}: no file known for it; write REF=PATH of a GGUF"
        )
    if not path.is_file():
        raise BadSetting(f"CARAVAN_MODEL={settings.model!r}: there is no file {path}")
    return ref, path


def files(settings: Settings) -> dict[str, Path]:
    """The file of each of `models` that has one here. Raises BadSetting for REF=PATH without."""
    found = {}
    for name, given in settings.models:
        ref = refs.normalize(name)
        path = _path(settings, ref, given)
        if path is not None and path.is_file():
            found[ref] = path
        elif given:
            raise BadSetting(f"CARAVAN_MODEL={settings.model!r}: there is no file {path}")
    return found


def projectors(settings: Settings) -> dict[str, Path]:
    """The projector's file of each of `models` that names one. Raises BadSetting."""
    found = {}
    for name, given in settings.models:
        _, projector = split_paths(given)
        if projector:
            found[refs.normalize(name)] = path = Path(projector).expanduser()
            if not path.is_file():
                raise BadSetting(f"CARAVAN_MODEL={settings.model!r}: there is no file {path}")
    return found


def adapters(settings: Settings) -> dict[str, dict[str, Path]]:
    """The adapters' files by name, of each model that has some. Raises BadSetting."""
    found: dict[str, dict[str, Path]] = {}
    for entry in listed(settings.adapters):
        given, _, path = entry.partition("=")
        model, _, name = given.rpartition(":")
        write = f"CARAVAN_ADAPTERS: {entry!r} does not say of which model; write MODELREF:NAME=PATH"
        ref = refs.normalize(model) if model else _only_model(settings, write)
        if name in found.setdefault(ref, {}):
            raise BadSetting(f"CARAVAN_ADAPTERS: {ref} has two adapters {name!r}")
        found[ref][name] = file = Path(path.strip()).expanduser()
        if not file.is_file():
            raise BadSetting(f"CARAVAN_ADAPTERS: there is no file {file}")
    return found


def draft_models(settings: Settings) -> dict[str, Path]:
    """The small model's file of each model that has one. Raises BadSetting."""
    found: dict[str, Path] = {}
    for entry in listed(settings.draft_model):
        model, _, path = entry.rpartition("=")
        write = f"CARAVAN_DRAFT_MODEL: {entry!r} does not say of which model; write MODELREF=PATH"
        ref = refs.normalize(model) if model else _only_model(settings, write)
        if ref in found:
            raise BadSetting(f"CARAVAN_DRAFT_MODEL: {ref} has two draft models")
        found[ref] = file = Path(path.strip()).expanduser()
        if not file.is_file():
            raise BadSetting(f"CARAVAN_DRAFT_MODEL: there is no file {file}")
    return found


def _only_model(settings: Settings, complaint: str) -> str:
    of = names(settings)
    if len(of) != 1:
        raise BadSetting(complaint)
    return of[0]


def names(settings: Settings) -> tuple[str, ...]:
    """The normal refs of `models`, each once."""
    return tuple(dict.fromkeys(refs.normalize(name) for name, _ in settings.models))


def _path(settings: Settings, ref: str, given: str) -> Path | None:
    if given:
        return Path(split_paths(given)[0]).expanduser()
    return settings.home / "models" / FETCHED[ref] if ref in FETCHED else None


def digest(path: Path) -> str:
    """`sha256:…` of a file. Takes a second a GiB or two: once a load."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def card(
    ref: str,
    facts: ModelFacts,
    *,
    context: int,
    digest: str,
    modified_s: int,
    sees: tuple[str, ...] = (),
) -> ModelCard:
    """What the catalog says of a local model; `context` is what this worker serves, `sees` what
    its projector lets it take."""
    card = ModelCard(
        ref=ref,
        created=modified_s,
        digest=digest,
        origin=f"file:{Path(facts.path).name}",
        size=facts.size_bytes,
        context=context,
    )
    return cards.with_facts(card, facts, sees=sees)
