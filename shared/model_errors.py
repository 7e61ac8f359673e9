"""Every way keeping, pulling or pushing a model can fail. Same tree as shared/errors.py.

RequestError
 - BadReference            a name that no registry could have
 - ModelNotFound           not in the store, or not at the remote
 - Unauthorized            the remote wants a login, or another one
 - UnsupportedArtifact     stored there, but nothing Caravan can run
 - TagConflict             several tags; deleting by ID needs force
 - BadArchive              a tar that is cut short, damaged or tries to escape
 - NotAStore               the folder is no model store; nothing was removed
Unavailable
 - RemoteDown              the remote is unreachable, failing or limiting us
    - RemoteLimited        what the last of these is on the wire
 - BadDigest               the remote's bytes are not what their digest says
 - NoSpace                 the disk cannot hold the model
 - StoreDamaged            a file of the store is missing or has the wrong size
"""

from __future__ import annotations

from shared.errors import BY_CODE, RequestError, Unavailable, UnknownModel
from shared.events import Failed


class BadReference(RequestError):
    """A name no registry could have."""

    code = "invalid_reference"


class ModelNotFound(UnknownModel):
    """Nothing of this name in the store, or at the remote."""

    @classmethod
    def of(cls, name: str) -> ModelNotFound:
        """Names the model and what would bring it here."""
        return cls(f"model not found: {name!r} is not in the store; pull it first", param="model")


class Unauthorized(RequestError):
    """The remote wants a login, or a login with other rights."""

    code = "unauthorized"


class UnsupportedArtifact(RequestError):
    """There is something of this name, but nothing that can be run here."""

    code = "unsupported_artifact"


class TagConflict(RequestError):
    """Several tags name this model."""

    code = "tag_conflict"


class BadArchive(RequestError):
    """The tar is cut short, damaged, or names paths outside itself."""

    code = "bad_archive"


class NotAStore(RequestError):
    """The folder was not made by a model store."""

    code = "not_a_store"


class RemoteDown(Unavailable):
    """The remote cannot be reached, fails, or asks us to come back later.

    `retry_after_s` is the remote's own wish, 0 if it has none; `limited` says it is a rate limit.
    """

    code = "remote_unavailable"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float = 0.0,
        limited: bool = False,
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s
        self.limited = limited

    def event(self) -> Failed:
        """A rate limit keeps a code of its own."""
        code = RemoteLimited.code if self.limited else self.code
        return Failed(code=code, message=self.message, param=self.param)


class RemoteLimited(RemoteDown):
    """The remote says that we ask too often."""

    code = "remote_rate_limit"


class BadDigest(Unavailable):
    """Bytes that do not match their digest; they were thrown away."""

    code = "bad_digest"


class NoSpace(Unavailable):
    """The disk cannot hold the model."""

    code = "no_space"

    @classmethod
    def of(cls, *, needed_bytes: int, free_bytes: int, where: str) -> NoSpace:
        """Both numbers, and the folder to make room in."""
        return cls(
            f"the model needs {needed_bytes / 2**20:.1f} MiB and {where} has "
            f"{max(free_bytes, 0) / 2**20:.1f} MiB to give: delete models or free disk space"
        )


class StoreDamaged(Unavailable):
    """A file of the store is missing, unreadable or of the wrong size."""

    code = "store_damaged"


BY_CODE.update(
    {
        kind.code: kind
        for kind in (
            BadReference,
            Unauthorized,
            UnsupportedArtifact,
            TagConflict,
            BadArchive,
            NotAStore,
            RemoteDown,
            RemoteLimited,
            BadDigest,
            NoSpace,
            StoreDamaged,
        )
    }
)
