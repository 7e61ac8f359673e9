"""Every Redis key and channel, one function each, its lifetime beside it.

The model ref stands in braces: a Redis Cluster puts one model's queue keys into one slot.
"""

from __future__ import annotations

import hashlib

JOB_TTL_S = 7 * 24 * 3600  # a job nobody ends (batch may wait long); refreshed by nobody
ENDED_TTL_S = 600  # hash and journal after the end: late readers, retries, replays
WORKER_TTL_S = 6  # presence; refreshed every second
ADOPT_TTL_S = 10  # who loads a model; refreshed while it loads, deleted when it is there
LOADS_TTL_S = 900  # loads that failed or never ended; deleted by one that succeeds
FAIR_TTL_S = 24 * 3600  # virtual time of a queue nobody uses; refreshed by enqueue

CONTROL = "caravan:control"  # channel
CATALOG = "caravan:catalog"  # no TTL: which models exist is configuration
WAKES = "caravan:wake:*"  # pattern of `wake`
WORKERS = "caravan:worker:*"  # pattern of `worker`
CONFIGS = "caravan:configs"  # HASH of `_configure`d members. No TTL: it is configuration
RECORDED = "caravan:recorded"  # channel: a request was recorded
TRANSFER_TTL_S = 600  # chunks of a body on its way; refreshed by each
FILE_TTL_S = 6 * 24 * 3600  # a store keeps what no model needs for 7 days
RECORD_TTL_S = 3600  # recorded requests; refreshed by the next of their model


def lane(model: str, name: str) -> str:
    """ZSET job -> tag, `name` is interactive or batch. No TTL: a queued job waits until claimed."""
    return f"caravan:{{{model}}}:{name}"


def leases(model: str) -> str:
    """ZSET job -> expiry in ms. No TTL: entries go at finish, or back to a lane when expired."""
    return f"caravan:{{{model}}}:leases"


def fair(model: str) -> str:
    """HASH of the virtual time (`v`) and each tenant's last finish tag. FAIR_TTL_S."""
    return f"caravan:{{{model}}}:fair"


def wake(model: str) -> str:
    """Channel: there is work for this model."""
    return f"caravan:wake:{{{model}}}"


def woken(channel: bytes) -> str:
    """The model of a wake channel."""
    return channel.decode().removeprefix("caravan:wake:{").removesuffix("}")


def adopt(model: str) -> str:
    """The worker that is loading this model for its waiting jobs. ADOPT_TTL_S."""
    return f"caravan:{{{model}}}:adopt"


def loads(model: str) -> str:
    """HASH attempts, last_ms, error: loads that failed, in a row. LOADS_TTL_S."""
    return f"caravan:{{{model}}}:loads"


def payload(job: str) -> str:
    """arq's own key for a job's payload. JOB_TTL_S, deleted at the end."""
    return f"arq:job:{job}"


def retry(job: str) -> str:
    """arq's own counter of runs. arq expires it in a day, finish deletes it."""
    return f"arq:retry:{job}"


def job(job: str) -> str:
    """HASH state, epoch, tenant, lane, model, tag, reply, cancelled, times. JOB_TTL_S, then
    ENDED_TTL_S after the end, or its own `keep_s`."""
    return f"caravan:job:{job}"


def journal(job: str) -> str:
    """STREAM of frames, id = number of the frame's first event. As `job`."""
    return f"caravan:journal:{job}"


def replies(api: str) -> str:
    """Channel: frames for one api process."""
    return f"caravan:replies:{api}"


def worker(worker: str) -> str:
    """HASH presence card and metrics. WORKER_TTL_S."""
    return f"caravan:worker:{worker}"


def tenant(tenant: str) -> str:
    """HASH limits, weight, usage. No TTL: it is an account."""
    return f"caravan:tenant:{tenant}"


def api_key(secret: str) -> str:
    """HASH of the tenant a key belongs to, by the key's SHA-256. No TTL: it is an account."""
    return f"caravan:key:{hashlib.sha256(secret.encode()).hexdigest()}"


def response(tenant: str, response: str) -> str:
    """A stored response and its input. `responses_ttl_s`, refreshed by continuing it."""
    return f"caravan:response:{tenant}:{response}"


def records(model: str) -> str:
    """LIST of the model's last recorded requests, newest first. RECORD_TTL_S."""
    return f"caravan:records:{{{model}}}"


def chunks(transfer: str) -> str:
    """LIST of a body's chunks on their way. TRANSFER_TTL_S, deleted at the end."""
    return f"caravan:transfer:{{{transfer}}}:chunks"


def credits(transfer: str) -> str:
    """LIST: an entry for each chunk that may be sent. TRANSFER_TTL_S."""
    return f"caravan:transfer:{{{transfer}}}:credits"


def uploaded(digest: str) -> str:
    """Which store has an uploaded file, until a model is made of it. FILE_TTL_S."""
    return f"caravan:file:{digest}"
