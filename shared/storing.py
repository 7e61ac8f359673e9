"""Work on a model store, as jobs: what may be asked of a worker that keeps one.

Two queues, beside the models' own: STORE is served by every worker with a store, `queue_of(store)`
by the workers of that one. They are names no model can have (a ref has a tag), so the catalog is
not asked. The answer is Progress while there is something to tell, then Stored, then Finished.

Nothing is cancelled for others by a client that leaves: callers who want the same transfer share
it, and it stops when the last of them has gone. What came by then stays for the next one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

STORE = "caravan/store"


def queue_of(store: str) -> str:
    """The queue of one store, by its ID."""
    return f"{STORE}/{store}"


def is_queue(name: str) -> bool:
    """Whether a queue is a store's and no model's."""
    return name.startswith(STORE) and ":" not in name


class Pull(msgspec.Struct, frozen=True, kw_only=True, tag="pull"):
    """Bring a model here. `source` is a name, `file:` or `https:`; `ref` what to call it, by
    default as its source. `token` logs in at the remote."""

    source: str
    ref: str = ""
    token: str = ""


class Push(msgspec.Struct, frozen=True, kw_only=True, tag="push"):
    """Bring a model to the registry its name says."""

    name: str
    token: str = ""


class Look(msgspec.Struct, frozen=True, kw_only=True, tag="look"):
    """What a registry has under this name, without pulling it: a ModelCard."""

    name: str
    token: str = ""


class Tag(msgspec.Struct, frozen=True, kw_only=True, tag="tag"):
    """One more name for a model."""

    name: str
    target: str


class Delete(msgspec.Struct, frozen=True, kw_only=True, tag="delete"):
    """Untag; delete with the last name, or by ID."""

    name: str
    force: bool = False


class Purge(msgspec.Struct, frozen=True, kw_only=True, tag="purge"):
    """Everything goes."""


class Create(msgspec.Struct, frozen=True, kw_only=True, tag="create"):
    """A new model: a stored one with changes (`source`, pulled if need be), or uploaded files
    (name to digest). A `template` is Jinja; `context_size` is in tokens."""

    ref: str
    source: str = ""
    files: dict[str, str] = {}
    template: str | None = None
    licenses: tuple[str, ...] = ()
    context_size: int | None = None


class Export(msgspec.Struct, frozen=True, kw_only=True, tag="export"):
    """The model as a tar, sent through shared/transfer.py under the job's id."""

    name: str


class Load(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """A model from a tar that comes through shared/transfer.py under the job's id."""


class PutFile(msgspec.Struct, frozen=True, kw_only=True, tag="put_file"):
    """A file of a model to come, as `Load` comes; `size` in bytes, 0 if unknown."""

    digest: str
    size: int = 0


Task = Pull | Push | Look | Tag | Delete | Purge | Create | Export | Load | PutFile


class StoreTask(msgspec.Struct, frozen=True, kw_only=True, tag="store"):
    """A task as a job; `model` is the queue."""

    id: str
    task: Task
    model: str = STORE
    lane: Literal["interactive", "batch"] = "interactive"
    tenant: str = "open"
