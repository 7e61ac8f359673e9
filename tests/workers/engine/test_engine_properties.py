"""Whatever comes in whatever order: every job has exactly one end, nothing is left behind, and the
text of those that finish is what they would have said alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.requests import Sampling
from tests.fakes import ScriptedRunner
from tests.workers.engine.desk import Desk
from tests.workers.engine.drafters import Free, Knowing
from workers.engine.speculation import Speculation

PREFIXES = st.sampled_from(["", "s" * 40, "s" * 40 + "t" * 30, "u" * 70])
SAME = ("max_tokens", "choices", "lane", "seed", "adapters")
JOBS = st.fixed_dictionaries(
    {
        "prefix": PREFIXES,
        "tail": st.text("xyz", min_size=1, max_size=20),
        "max_tokens": st.integers(1, 40),
        "choices": st.sampled_from([1, 1, 1, 2, 3]),
        "lane": st.sampled_from(["interactive", "batch"]),
        "seed": st.integers(0, 3),
        "mirostat": st.sampled_from([0, 0, 0, 2]),
        "resumed": st.sampled_from([0, 0, 3]),
        "adapters": st.sampled_from([(), (), (("one", 1.0),), (("two", 1.0),)]),
    }
)
ACTIONS = st.lists(
    st.one_of(
        JOBS,
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("step"), st.integers(1, 5)),
        st.tuples(st.just("refuse"), st.integers(1, 2)),
    ),
    max_size=30,
)
CONFIG = ("prefix_cache", "host_cache_bytes", "prefill_budget")
ENGINES = st.fixed_dictionaries(
    {
        "slots": st.integers(1, 5),
        "cells": st.sampled_from([128, 256, 2048]),
        "can_cut": st.booleans(),
        "exact": st.booleans(),
        "prefix_cache": st.sampled_from([-1, 0, 50]),
        "host_cache_bytes": st.sampled_from([0, 150, 10_000]),
        "prefill_budget": st.sampled_from([5, 30, 200]),
        "draft_max": st.sampled_from([0, 3, 20]),
    }
)


def config_of(engine: dict) -> dict:
    """The engine's part of it; the runner's stays."""
    speculation = Speculation(Knowing(), most=engine.pop("draft_max"), prices=Free())
    return {name: engine.pop(name) for name in CONFIG} | {"speculation": speculation}


def said_alone(job: dict, count: int) -> list[list[int]]:
    """What the job's choices say with nobody else there, their first `count` tokens."""
    desk = Desk(ScriptedRunner(slots=8))
    submit(desk, {**job, "resumed": 0, "max_tokens": count}, key="alone")
    desk.run()
    return [desk.tokens["alone"][choice] for choice in range(job["choices"])]


def submit(desk: Desk, job: dict, *, key: str) -> None:
    fields = {name: job[name] for name in SAME}
    if job["resumed"]:
        count = min(job["resumed"], job["max_tokens"])
        fields["resumed"] = tuple(map(tuple, said_alone(job, count)))
    sampling = Sampling(temperature=0.7, mirostat=job["mirostat"])
    desk.submit(job["prefix"] + job["tail"], key=key, sampling=sampling, **fields)


def play(desk: Desk, actions: list) -> dict[str, dict]:
    jobs: dict[str, dict] = {}
    for action in actions:
        match action:
            case ("step", times):
                desk.step(times)
            case ("cancel", number):
                desk.engine.cancel(f"job {number}")
            case ("refuse", times):
                desk.runner.refuse = times
            case job:
                key = f"job {len(jobs)}"
                jobs[key] = job
                submit(desk, job, key=key)
    desk.run(most=5000)
    desk.step()
    return jobs


@settings(max_examples=100, deadline=None)
@given(ENGINES, ACTIONS)
def test_every_job_has_one_end_and_nothing_is_left(engine: dict, actions: list) -> None:
    config = config_of(engine)
    desk = Desk(ScriptedRunner(context_length=128, batch_rows=256, **engine), **config)
    jobs = play(desk, actions)
    assert desk.ends.keys() == jobs.keys()
    assert desk.engine.slots.live == 0
    assert desk.runner.open_samplers == 0
    assert desk.runner.used == desk.engine.slots.used
    kinds = {"finished", "cancelled", "preempted"}
    if any(action[0] == "refuse" for action in actions if isinstance(action, tuple)):
        kinds.add("failed")  # a prompt alone that finds no cells cannot go on
    assert {end.kind for end in desk.ends.values()} <= kinds


@settings(max_examples=50, deadline=None)
@given(
    ENGINES, st.lists(st.one_of(JOBS, st.tuples(st.just("step"), st.integers(1, 9))), max_size=12)
)
def test_company_changes_nobodys_text(engine: dict, actions: list) -> None:
    config = config_of(engine)
    desk = Desk(ScriptedRunner(context_length=128, batch_rows=256, **engine), **config)
    for key, job in play(desk, actions).items():
        skipped = min(job["resumed"], job["max_tokens"])
        for choice, whole in enumerate(said_alone(job, job["max_tokens"])):
            said = desk.tokens[key][choice]
            assert said == whole[skipped : skipped + len(said)]
            cells_ended_it = engine["cells"] == 128 and job["choices"] > 1
            if desk.ends[key].kind == "finished" and not cells_ended_it:
                assert len(said) == len(whole) - skipped
