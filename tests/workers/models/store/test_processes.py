"""Several processes on one store, killed at any byte and at any file operation."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.workers.models.store.conftest import OPTIONS, watch
from tests.workers.models.store.files import add_model
from tests.workers.models.store.loopback import Answer, Asked, registry_of, serve
from workers.models.remote.push import open_pushes
from workers.models.store import archive, digests
from workers.models.store.manifest import parse
from workers.models.store.package import repackage
from workers.models.store.store import Store, open_store

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
PULLER = Path(__file__).with_name("puller.py")
KILLS = 6


def start_puller(store: Store, name: str) -> subprocess.Popen[str]:
    """A process that pulls `name`."""
    return subprocess.Popen(
        [sys.executable, str(PULLER), str(store.root), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


class Proxy:
    """In front of a real registry: passes everything on, but stops in mid-blob when told to."""

    def __init__(self, host: str, blob: str) -> None:
        self._host = host
        self._blob = blob
        self.hold_after: int | None = None
        self.reached = threading.Event()
        self.blob_bytes = 0

    def play(self, asked: Asked) -> Answer:
        passed = {"accept", "range"}
        answer = httpx.request(
            asked.method,
            f"http://{self._host}{asked.path}",
            headers={key: found for key, found in asked.headers.items() if key in passed},
        )
        headers = {
            key: found
            for key, found in answer.headers.items()
            if key in ("content-type", "content-range", "docker-content-digest")
        }
        hold = None
        if asked.path.endswith(self._blob):
            hold = self.hold_after
            self.blob_bytes += len(answer.content[:hold])
            if hold is not None:
                self.reached.set()
        return Answer(status=answer.status_code, body=answer.content, headers=headers, hold=hold)


@pytest.mark.registry
@pytest.mark.timeout(180)
async def test_a_puller_killed_at_random_bytes_is_resumed(
    registry: str, store: Store, other: Store, tmp_path: Path
) -> None:
    size = 8 << 20
    ref = f"{registry}/org/killed:v1"
    model = add_model(other, tmp_path, ref, size=size, seed="killed")
    async with open_pushes(other, OPTIONS) as pushes:
        await watch(pushes.push(ref))
    blob = parse(other.manifest_raw(model.id)).layers[0]
    proxy = Proxy(registry, blob.digest)
    numbers = random.Random(7)
    key = digests.hex_of(blob.digest)
    with serve(proxy.play) as server:
        name = f"{server.host}/org/killed:v1"
        arrived = [0]
        for _ in range(KILLS):
            proxy.reached.clear()
            proxy.hold_after = numbers.randrange(1, size // KILLS)
            puller = start_puller(store, name)
            assert proxy.reached.wait(60)
            while store.blobs.partial_bytes(key) <= arrived[-1] and puller.poll() is None:
                os.sched_yield()
            puller.send_signal(signal.SIGKILL)
            puller.communicate()
            arrived.append(store.blobs.partial_bytes(key))
            assert store.all() == []
            assert not store.blobs.has(blob.digest)
        proxy.hold_after = None
        puller = start_puller(store, name)
        output, errors = puller.communicate(timeout=60)
        offsets = [asked.offset for asked in server.asked if asked.path.endswith(blob.digest)]
    assert output.strip() == model.id, errors
    assert offsets == arrived
    assert arrived == sorted(arrived)
    assert arrived[-1] > 0
    assert store.bundle(name).model.read_bytes() == (tmp_path / "killed.gguf").read_bytes()


@pytest.mark.timeout(120)
def test_two_processes_bring_each_blob_once(store: Store, other: Store, tmp_path: Path) -> None:
    """The second waits for the first's lock and finds it done."""
    model = add_model(other, tmp_path, "m", size=2 << 20)
    honest = registry_of(other, model.id)
    both = threading.Barrier(3)

    def play(asked: Asked) -> Answer:
        if "/manifests/" in asked.path:
            both.wait(60)
        return honest(asked)

    with serve(play) as server:
        pullers = [start_puller(store, f"{server.host}/org/m") for _ in range(3)]
        ends = [puller.communicate(timeout=60) for puller in pullers]
        blobs = [asked.path for asked in server.asked if "/blobs/" in asked.path]
    assert [output.strip() for output, _ in ends] == [model.id] * 3, ends
    assert len(blobs) == len(set(blobs)) == 2
    assert [each.id for each in store.all()] == [model.id]


def test_many_processes_tag_and_lose_nothing(store: Store, tmp_path: Path) -> None:
    add_model(store, tmp_path, "m")

    def tag(worker: int) -> None:
        for at in range(20):
            open_store(store.root).tag("m", f"org/m:w{worker}-{at}")
            if at % 2:
                store.delete(f"org/m:w{worker}-{at}")

    children = [_fork(lambda worker=worker: tag(worker)) for worker in range(4)]  # type: ignore[misc]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    expected = {f"org/m:w{worker}-{at}" for worker in range(4) for at in range(0, 20, 2)}
    assert set(store.get("m").tags) == expected | {"ai/m:latest"}


def _fork(work: Callable[[], object]) -> int:
    """A child that does the work and ends with 0, or 1 if it fails."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001 - the child must never return into pytest
        os._exit(1)
    os._exit(0)


WRITES = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate"}
KILLED = 9


def _killed_at(step: int, root: Path, work: Callable[[], object]) -> bool:
    """Do the work in a child that dies before its `step`-th change below `root`; whether it did."""
    seen = 0

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event in WRITES or (event == "open" and _opens_to_write(arguments))
        if writes and str(arguments[0]).startswith(str(root)):
            seen += 1
            if seen == step:
                os._exit(KILLED)

    def watched() -> None:
        sys.addaudithook(audit)
        work()

    status = os.waitstatus_to_exitcode(os.waitpid(_fork(watched), 0)[1])
    assert status in (0, KILLED)
    return status == KILLED


def _opens_to_write(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@pytest.mark.parametrize("change", ["package", "tag", "repackage", "load", "delete", "bundle"])
def test_a_crash_before_any_file_operation_leaves_a_usable_store(
    tmp_path: Path, change: str
) -> None:
    """The change is as if never made, or made; and it can be made afterwards."""
    source = open_store(tmp_path / "source")
    add_model(source, tmp_path, "new", seed="new")
    tar = b"".join(archive.export(source, "new"))
    changes: dict[str, Callable[[Store], object]] = {
        "package": lambda store: add_model(store, tmp_path, "new", seed="new"),
        "tag": lambda store: store.tag("old", "new"),
        "repackage": lambda store: repackage(store, "old", "new", context_size=1),
        "load": lambda store: archive.load(store, io.BytesIO(tar)),
        "delete": lambda store: store.delete("gone"),
        "bundle": lambda store: store.bundle("old"),
    }
    step = 0
    crashed = True
    while crashed:
        step += 1
        store = open_store(tmp_path / f"store{step}")
        old = add_model(store, tmp_path, "old", seed="old")
        gone = add_model(store, tmp_path, "gone", seed="gone")
        crashed = _killed_at(step, store.root, lambda store=store: changes[change](store))  # type: ignore[misc]
        check(store, old.id, tmp_path)
        if crashed:
            if change != "delete" or any(model.id == gone.id for model in store.all()):
                changes[change](store)
            check(store, old.id, tmp_path)
    assert step > 3


def check(store: Store, old: str, folder: Path) -> None:
    """All that is listed is whole, and the old model is there."""
    models = store.all()
    assert [model.damaged for model in models] == [""] * len(models)
    assert store.get("old").id == old
    assert store.bundle("old").model.read_bytes() == (folder / "old.gguf").read_bytes()
    for model in models:
        assert store.bundle(model.id).model.stat().st_size > 0
    index = msgspec.json.decode((store.root / "models.json").read_bytes())
    tags = [tag for entry in index["models"] for tag in entry.get("tags", [])]
    assert len(tags) == len(set(tags))
