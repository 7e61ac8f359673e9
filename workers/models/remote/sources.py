"""Where a name leads: a registry, the Hugging Face Hub, a file, a URL. Pure; no network or disk."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import msgspec

from shared import refs
from shared.model_errors import BadReference
from workers.models.store import digests, names

HUB_PREFIXES = ("hf.co/", "huggingface.co/")
DOCKER_HUB = "docker.io"
LOCAL_HOST = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\]|[\w.-]+\.local)(:\d+)?")
HUB_NAME = re.compile(r"[\w.-]{1,96}")


class OciSource(msgspec.Struct, frozen=True, kw_only=True):
    """A repository of a registry; `reference` is a tag or a digest."""

    ref: str
    host: str
    repository: str
    reference: str


class HubSource(msgspec.Struct, frozen=True, kw_only=True):
    """A repository of the Hugging Face Hub, in its own spelling; `quantization` may be `latest`."""

    ref: str
    repository: str
    quantization: str


class FileSource(msgspec.Struct, frozen=True, kw_only=True):
    """A GGUF on this host."""

    ref: str
    path: Path


class UrlSource(msgspec.Struct, frozen=True, kw_only=True):
    """A GGUF anywhere, by the digest it must have."""

    ref: str
    url: str
    digest: str


Source = OciSource | HubSource | FileSource | UrlSource


def source_of(name: str, *, ref: str = "") -> Source:
    """What `name` means; `ref` is what to call it, by default a name made from the source.

    `ai/smollm2`, `hf.co/org/repo:Q4_K_M`, `file:/dir/x.gguf`, `https://host/x.gguf#sha256:…`.
    Raises BadReference.
    """
    name = name.strip()
    if name.startswith("file:"):
        return _file(name, ref)
    if name.startswith(("https://", "http://")):
        return _url(name, ref)
    if name.lower().startswith(HUB_PREFIXES):
        return _hub(name, ref)
    return oci(name, ref=ref)


def oci(name: str, *, ref: str = "") -> OciSource:
    """The registry's view of a name. BadReference for IDs and malformed names."""
    normal = refs.normalize(name)
    if not normal or refs.is_id(normal):
        raise BadReference(f"{name!r} names no model of a registry", param="model")
    names.checked(normal, name)
    path, tag = refs.split_tag(normal)
    host, slash, repository = path.partition("/")
    if not slash or not is_host(host):
        host, repository = DOCKER_HUB, path
    return OciSource(
        ref=names.taggable(ref) if ref else normal,
        host=host,
        repository=repository,
        reference=tag[1:],
    )


def is_host(segment: str) -> bool:
    """Whether a name's first segment is a registry rather than an organisation."""
    return "." in segment or ":" in segment or segment == "localhost"


def is_local(host: str) -> bool:
    """Whether plain HTTP is fine for this host (and port)."""
    return LOCAL_HOST.fullmatch(host) is not None


def _hub(name: str, ref: str) -> HubSource:
    path, tag = refs.split_tag(name)
    repository = path.partition("/")[2]
    parts = repository.split("/")
    if len(parts) != 2 or not all(HUB_NAME.fullmatch(part) for part in parts) or tag[0] == "@":
        raise BadReference(
            f"{name!r}: write hf.co/ORGANISATION/REPOSITORY or with :QUANTISATION", param="model"
        )
    return HubSource(ref=names.taggable(ref or name), repository=repository, quantization=tag[1:])


def _file(name: str, ref: str) -> FileSource:
    text = name.removeprefix("file:")
    path = Path(unquote(urlsplit(name).path) if text.startswith("//") else text)
    if not path.is_absolute():
        raise BadReference(f"{name!r}: a file source needs an absolute path", param="model")
    return FileSource(ref=names.taggable(ref or _stem(path.name)), path=path)


def _url(name: str, ref: str) -> UrlSource:
    url, _, digest = name.rpartition("#" if "#" in name else "@")
    parts = urlsplit(url)
    if not digests.is_digest(digest):
        raise BadReference(
            f"{name!r}: a URL needs the file's digest: {name}#sha256:<64 hex digits>", param="model"
        )
    if not parts.hostname or (parts.scheme == "http" and not is_local(parts.netloc)):
        raise BadReference(f"{name!r}: only https is used, except on this host", param="model")
    stem = _stem(PurePosixPath(unquote(parts.path)).name)
    return UrlSource(ref=names.taggable(ref or stem), url=url, digest=digest)


def _stem(file_name: str) -> str:
    """A name for a file: `My Model.Q4_K_M.gguf` is `my-model.q4_k_m`."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", file_name.lower().removesuffix(".gguf"))
    return re.sub(r"[._-]*([._-])[._-]*", r"\1", stem).strip("._-") or "model"
