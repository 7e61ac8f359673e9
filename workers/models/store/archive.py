"""Models as tar files, in Docker Model Runner's form: blobs first, `manifest.json` last.

A tar is untrusted: no name in it is ever used as a path, only a digest it may contain, and what
does not match its digest is dropped. Both directions stream; nothing is held in memory but headers.
"""

from __future__ import annotations

import contextlib
import re
import tarfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from shared.model_errors import BadArchive, BadDigest, StoreDamaged
from workers.models.store import digests
from workers.models.store.blobs import CHUNK_BYTES, Blobs, Partial, read_chunks
from workers.models.store.manifest import MAX_MANIFEST_BYTES, parse
from workers.models.store.store import MissingBlobs, Store, StoredModel

BLOB_NAME = re.compile(r"(?:blobs|manifests)/sha256/([0-9a-f]{64})")
MANIFEST_NAME = "manifest.json"
MAX_HEADER_BYTES = 1 << 20
MAX_MEMBERS = 10_000
LONG_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Member(tarfile.TarInfo):
    """Refuses headers that would make tarfile read gigabytes into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise BadArchive("the tar has sparse files; write it without --sparse")
        if member.type in LONG_HEADERS and member.size > MAX_HEADER_BYTES:
            raise BadArchive("the tar has a header of more than 1 MiB")
        return member


def load(store: Store, file: BinaryIO) -> StoredModel:
    """Store the model of a tar stream, untagged. BadArchive, NoSpace, what `commit` raises."""
    brought: set[str] = set()
    try:
        return store.commit(_unpack(store.blobs, file, brought))
    except MissingBlobs as error:
        raise BadArchive(
            f"model load interrupted: the tar lacks blobs of its model: {', '.join(error.missing)}"
        ) from error
    finally:
        store.drop_orphans(brought)


def _unpack(blobs: Blobs, file: BinaryIO, brought: set[str]) -> bytes:
    """Blobs into the store, their digests into `brought`; the manifest."""
    try:
        raw = _read_members(blobs, file, brought)
    except (tarfile.TarError, EOFError) as error:
        raise BadArchive(f"model load interrupted: the tar is cut short: {error}") from error
    if raw is None:
        raise BadArchive("model load interrupted: the tar has no manifest.json")
    return raw


def _read_members(blobs: Blobs, file: BinaryIO, brought: set[str]) -> bytes | None:
    manifest = None
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_Member) as tar:
        for count, member in enumerate(tar):
            if count >= MAX_MEMBERS:
                raise BadArchive(f"the tar has more than {MAX_MEMBERS} entries")
            name = _safe_name(member)
            if not member.isfile():
                continue
            if name == MANIFEST_NAME:
                manifest = _read_manifest(tar, member)
            elif found := BLOB_NAME.fullmatch(name):
                digest = digests.PREFIX + found.group(1)
                if _read_blob(blobs, tar, member, digest):
                    brought.add(digest)
    return manifest


def _safe_name(member: tarfile.TarInfo) -> str:
    """The entry's name without `./`. BadArchive for anything that points elsewhere."""
    name = member.name.removeprefix("./")
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise BadArchive(f"the tar names a path outside itself: {member.name!r}")
    if not (member.isfile() or member.isdir()):
        raise BadArchive(f"the tar has an entry that is no plain file: {member.name!r}")
    return name


def _read_manifest(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_MANIFEST_BYTES:
        raise BadArchive(f"the tar's manifest is over {MAX_MANIFEST_BYTES} bytes")
    return b"".join(_contents(tar, member))


def _read_blob(blobs: Blobs, tar: tarfile.TarFile, member: tarfile.TarInfo, digest: str) -> bool:
    """Store one blob under its digest; whether it was new."""
    if blobs.has(digest, member.size):
        blobs.touch(digest)
        return False
    blobs.require_space(member.size)
    partial = blobs.new_partial(limit=member.size)
    with contextlib.ExitStack() as undo:
        undo.callback(partial.drop)
        for chunk in _contents(tar, member):
            partial.append(chunk)
        _finish(partial, digest, member)
        undo.pop_all()
    return True


def _finish(partial: Partial, digest: str, member: tarfile.TarInfo) -> None:
    try:
        partial.finish(digest)
    except BadDigest as error:
        raise BadArchive(f"model load interrupted: {member.name!r} has {error.message}") from error


def _contents(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    """The member's bytes; BadArchive if there are fewer than its header says."""
    source = tar.extractfile(member)
    assert source is not None
    got = 0
    for chunk in read_chunks(source):  # type: ignore[arg-type]
        got += len(chunk)
        yield chunk
    if got != member.size:
        raise BadArchive(f"model load interrupted: {member.name!r} is cut short")


def export(store: Store, name: str) -> Iterator[bytes]:
    """The model as a tar, piece by piece. All files are opened first, so a delete does not cut it.

    Raises ModelNotFound or StoreDamaged at the call, before the first byte.
    """
    model = store.get(name)
    raw = store.manifest_raw(model.id)
    with contextlib.ExitStack() as files:
        opened = []
        for blob in parse(raw).blobs.values():
            try:
                file = files.enter_context(store.blobs.path(blob.digest).open("rb"))
            except FileNotFoundError as error:
                raise StoreDamaged(
                    f"blob {blob.digest} is missing: pull the model again"
                ) from error
            opened.append((blob.digest, blob.size, file))
        return _tar(raw, opened, files.pop_all())


def _tar(
    raw: bytes, opened: Sequence[tuple[str, int, BinaryIO]], files: contextlib.ExitStack
) -> Iterator[bytes]:
    with files:
        yield _header("blobs/", 0, folder=True) + _header("blobs/sha256/", 0, folder=True)
        for digest, size, file in opened:
            yield _header(f"blobs/sha256/{digests.hex_of(digest)}", size)
            yield from read_chunks(file, size=CHUNK_BYTES)
            yield _padding(size)
        yield _header(MANIFEST_NAME, len(raw)) + raw + _padding(len(raw))
        yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int, *, folder: bool = False) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o755 if folder else 0o644
    member.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
    return member.tobuf(format=tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
