"""The command `caravan`: what can be asked for, and how a failure is said."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from cli import flags, models
from cli.problems import Problem
from cli.variables import table
from shared import settings as variables
from shared.settings import BadSetting, Settings


class Help(TyperGroup):
    """The usual help, with every variable behind it."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print both."""
        super().format_help(ctx, formatter)
        Console().print(table())


app = typer.Typer(
    name="caravan",
    cls=Help,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="One inference endpoint for a whole team, any number of GPUs behind it.",
)


@app.command()
@flags.with_flags(*flags.COMMON, *flags.API, *flags.WORKER, *flags.SERVE)
def serve(settings: Settings, environment: dict[str, str]) -> None:
    """Start everything here: a Redis of its own (unless one is set), the api, the workers."""
    from cli.serve import serve as run
    from shared import logs

    logs.configure(settings, process="serve")
    asyncio.run(run(settings, environment, console=Console(highlight=False)))


@app.command()
@flags.with_flags(*flags.COMMON, *flags.API)
def api(settings: Settings, environment: dict[str, str]) -> None:
    """Start one api process; it needs a Redis (--redis-url, or that of a running `serve`)."""
    become("api", settings, environment)


@app.command()
@flags.with_flags(*flags.COMMON, *flags.WORKER)
def worker(settings: Settings, environment: dict[str, str]) -> None:
    """Start one worker process; it needs a Redis (--redis-url, or that of a running `serve`)."""
    become("workers", settings, environment)


def become(module: str, settings: Settings, environment: dict[str, str]) -> None:
    """Turn this process into `python -m module`, so that signals reach it and nothing stands by."""
    from cli.children import our_python
    from cli.embedded_redis import socket_path, url_of

    if not settings.redis_url and not socket_path(settings.home).exists():
        raise Problem(
            "no Redis: set CARAVAN_REDIS_URL (or --redis-url), or start `caravan serve`, which "
            "brings its own"
        )
    redis_url = {variables.variable("redis_url"): url_of(settings)}
    command, environment = our_python(module, {**environment, **redis_url})
    os.execve(command[0], command, environment)  # noqa: S606


@app.command()
def status(
    redis_url: Annotated[str, typer.Option(help="Redis to read; empty: as `serve` does")] = "",
    data_dir: Annotated[str, typer.Option(help="Data directory of the `serve` to look at")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay and refresh")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two refreshes", min=0.1)] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON, for programs")] = False,
) -> None:
    """Show workers, models, queues and speed."""
    from cli import status as page
    from cli.embedded_redis import url_of

    given = {"redis_url": redis_url, "data_dir": data_dir}
    settings = chosen(**{name: value for name, value in given.items() if value})
    every_s = every if watch else None
    asyncio.run(page.show(url_of(settings), Console(), every_s=every_s, as_json=json))


@app.command()
def chat(
    question: Annotated[str, typer.Argument(help="Ask this and leave; empty: converse")] = "",
    url: Annotated[str, typer.Option(help="The api; empty: CARAVAN_HOST, CARAVAN_PORT")] = "",
    model: Annotated[str, typer.Option(help="Model; empty: CARAVAN_MODEL")] = "",
    system: Annotated[str, typer.Option(help="System prompt")] = "",
    temperature: Annotated[float | None, typer.Option(help="0 = always the likeliest")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens")] = None,
) -> None:
    """Chat in the terminal; answers stream."""
    from cli import chat as terminal
    from cli.banner import served_name
    from cli.client import url_of

    settings = chosen()
    console = Console(highlight=False)
    options = {"temperature": temperature, "max_tokens": max_tokens}
    conversation = terminal.Conversation(
        url or url_of(settings.host, settings.port),
        model=model or served_name(settings),
        system=system,
        options={name: value for name, value in options.items() if value is not None},
        console=console,
    )
    if question:
        raise typer.Exit(0 if conversation.say(question) else 1)
    import readline  # noqa: F401  (input() gets history and editing from it)

    terminal.talk(conversation, ask=lambda: input("> "), console=console)


models.register(app)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(version_of("caravan"))


def chosen(**given: str) -> Settings:
    """The settings with these laid over the environment."""
    return variables.read(variables.environment(**given))


def main() -> None:
    """Run; what an operator can mend is one sentence and exit status 1."""
    try:
        app()
    except (Problem, BadSetting) as problem:
        sys.exit(f"caravan: {problem}")
