"""`caravan pull`, `caravan models …`, `caravan ps|df|unload|configure`: all of it over HTTP.

So they work from any machine that reaches the api, and need no Redis and no store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli import model_views as views
from cli.client import url_of
from cli.model_client import Api, open_api, path_of
from cli.problems import Problem, disk_problem
from shared import settings

Url = Annotated[str, typer.Option(help="The api; empty: CARAVAN_HOST, CARAVAN_PORT")]
Token = Annotated[str, typer.Option(help="Token for the registry or the Hub, for this once")]
Model = Annotated[str, typer.Argument(help="A model's name or ID")]
SHARD = re.compile(r"(.+)-00001-of-(\d{5})\.gguf")

models = typer.Typer(no_args_is_help=True, help="The models there are: bring, name, take away.")
console = Console(highlight=False)


def register(app: typer.Typer) -> None:
    """Put the commands into `caravan`."""
    app.add_typer(models, name="models")
    for command in (pull, ps, df, unload, configure):
        app.command()(command)


@contextmanager
def api(url: str) -> Iterator[Api]:
    """The api meant; Ctrl-C is a sentence."""
    found = settings.read()
    try:
        with open_api(url or url_of(found.host, found.port)) as opened:
            yield opened
    except KeyboardInterrupt:
        raise Problem("stopped; run it again and it goes on where it was") from None


@models.command("pull")
def pull(
    source: Annotated[str, typer.Argument(help="NAME, hf.co/ORG/REPO:QUANT, file:/x.gguf, https…")],
    token: Token = "",
    url: Url = "",
) -> None:
    """Bring a model here: from a registry, the Hugging Face Hub, a file, a URL with its digest."""
    body = {"from": source} | ({"bearer-token": token} if token else {})
    with api(url) as opened:
        _follow(opened, "/models/create", body)


@models.command()
def push(name: Model, token: Token = "", url: Url = "") -> None:
    """Bring a model to the registry its name says."""
    body = {"bearer-token": token} if token else {}
    with api(url) as opened:
        _follow(opened, path_of(name, "push"), body)


def _follow(opened: Api, path: str, body: dict[str, str]) -> None:
    with views.bars(console) as progress:
        shown, last = views.Bars(progress), ""
        for line in opened.follow(path, body):
            shown.show(line)
            last = line.message
    console.print(last)


@models.command()
def ls(
    url: Url = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs")] = False,
) -> None:
    """List the models."""
    with api(url) as opened:
        found = opened.ask("GET", "/models")
    if json:
        console.print_json(data=found)
    elif found:
        console.print(views.listed(found))
    else:
        console.print("There is no model yet: `caravan pull ai/smollm2` brings one.")


@models.command()
def show(
    name: Model,
    remote: Annotated[bool, typer.Option(help="What its registry has, without pulling it")] = False,
    url: Url = "",
) -> None:
    """Everything known of one model, as JSON."""
    with api(url) as opened:
        query = {"remote": "true"} if remote else {}
        console.print_json(data=opened.ask("GET", path_of(name), **query))


@models.command()
def rm(
    names: Annotated[list[str], typer.Argument(help="Names or IDs")],
    force: Annotated[bool, typer.Option("--force", "-f", help="By ID: with all its names")] = False,
    url: Url = "",
) -> None:
    """Take names away; a model goes with its last one."""
    with api(url) as opened:
        for name in names:
            query = {"force": "true"} if force else {}
            for action in opened.ask("DELETE", path_of(name), **query):
                for what, of in action.items():
                    console.print(f"{what}: {of}")


@models.command()
def tag(name: Model, target: Annotated[str, typer.Argument()], url: Url = "") -> None:
    """Give a model one more name."""
    with api(url) as opened:
        console.print(_tag(opened, name, target))


def _tag(opened: Api, name: str, target: str) -> str:
    repository, colon, version = target.rpartition(":")
    if not colon or "/" in version:
        repository, version = target, "latest"
    answer = opened.ask("POST", path_of(name, "tag"), repo=repository, tag=version)
    return str(answer["message"])


@models.command()
def export(
    name: Model,
    to: Annotated[Path | None, typer.Option("--output", "-o", help="File; - is stdout")] = None,
    url: Url = "",
) -> None:
    """Write a model into a tar."""
    with api(url) as opened:
        found = opened.ask("GET", path_of(name))
        path = to or Path(re.sub(r"[^\w.-]+", "-", views.short(name)) + ".tar")
        if str(path) == "-":
            for piece in opened.download(path_of(name, "export")):
                typer.get_binary_stream("stdout").write(piece)
            return
        _write(opened, found["id"], path)
    console.print(f"{path}: {views.size(path.stat().st_size)}")


def _write(opened: Api, name: str, path: Path) -> None:
    """Into a file beside, that gets its name when it is whole."""
    part = path.with_name(path.name + ".part")
    try:
        with views.bars(console) as progress, part.open("wb") as file:
            task = progress.add_task(path.name, total=None)
            for piece in opened.download(path_of(name, "export")):
                file.write(piece)
                progress.update(task, advance=len(piece))
        part.replace(path)
    except OSError as error:
        raise disk_problem(error, path) from error
    finally:
        part.unlink(missing_ok=True)


@models.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A tar of `export`, or a GGUF (its first part)")],
    name: Annotated[str, typer.Argument(help="What to call it; of a GGUF: its file's name")] = "",
    url: Url = "",
) -> None:
    """Store a model that is in a file here."""
    if not path.is_file():
        raise Problem(f"there is no file {path}")
    with api(url) as opened:
        if path.suffix.lower() == ".gguf":
            found = _import_gguf(opened, path, name or path.stem)
        else:
            found = _import_tar(opened, path, name)
    console.print(f"Imported: {found}")


def _import_tar(opened: Api, path: Path, name: str) -> str:
    with views.bars(console) as progress:
        headers = opened.upload("/models/load", views.pieces(path, progress))
    model = headers["x-caravan-model"]
    if name:
        _tag(opened, model, name)
    return name or model


def _import_gguf(opened: Api, path: Path, name: str) -> str:
    files = {}
    with views.bars(console) as progress:
        for part in _parts(path):
            digest = f"sha256:{_digest(part)}"
            if not opened.has(f"/api/blobs/{digest}"):
                opened.upload(f"/api/blobs/{digest}", views.pieces(part, progress))
            files[part.name] = digest
    opened.ask("POST", "/api/create", body={"model": name, "files": files, "stream": False})
    return name


def _parts(path: Path) -> list[Path]:
    """All parts of a GGUF whose first part is `path`."""
    found = SHARD.fullmatch(path.name)
    if not found:
        return [path]
    stem, count = found.group(1), int(found.group(2))
    parts = [path.with_name(f"{stem}-{at:05d}-of-{count:05d}.gguf") for at in range(1, count + 1)]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise Problem(f"parts of the model are missing: {', '.join(missing)}")
    return parts


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ps(url: Url = "") -> None:
    """List the models that are loaded, in every worker."""
    with api(url) as opened:
        found = opened.ask("GET", "/engines/ps")
    console.print(views.running(found) if found else "No model is loaded.")


def df(url: Url = "") -> None:
    """Show what the models take on disk."""
    with api(url) as opened:
        found = opened.ask("GET", "/engines/df")
    console.print(f"models: {views.size(found['models_disk_usage'])}")


def unload(
    names: Annotated[list[str] | None, typer.Argument(help="Models; none: see --all")] = None,
    every: Annotated[bool, typer.Option("--all", help="All; their configurations go too")] = False,
    url: Url = "",
) -> None:
    """Let idle models go from memory."""
    if not names and not every:
        raise Problem("say which models to unload, or --all")
    with api(url) as opened:
        body = {"all": every, "models": names or []}
        found = opened.ask("POST", "/engines/unload", body=body)
    console.print(f"unloaded: {found['unloaded_runners']}")


def configure(
    name: Model,
    context_size: Annotated[int | None, typer.Option(help="Longest context, in tokens")] = None,
    keep_alive: Annotated[str | None, typer.Option(help="5m, 1h30m, 0, -1 (for ever)")] = None,
    reasoning_budget: Annotated[int | None, typer.Option(help="Tokens; -1 = no limit")] = None,
    flags: Annotated[str | None, typer.Option(help="Engine flags, in one string")] = None,
    url: Url = "",
) -> None:
    """Set how a model is served; what is not given stays as it is. Without any: show it."""
    thinking = {"reasoning-budget": reasoning_budget} if reasoning_budget is not None else None
    given: dict[str, Any] = {
        "context-size": context_size,
        "keep_alive": keep_alive,
        "llamacpp": thinking,
        "raw-runtime-flags": flags,
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    with api(url) as opened:
        if chosen:
            opened.ask("POST", "/engines/_configure", body={"model": name, **chosen})
        console.print_json(data=opened.ask("GET", "/engines/_configure", model=name))
