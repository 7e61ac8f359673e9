"""docs/dialects.md says of every field what the code does."""

from __future__ import annotations

import inspect

import msgspec

from api.dialects.openai import embeddings, ranking, tokens, types
from tests.api.dialects.openai.test_parse import NO_EFFECT, REFUSED
from tests.api.dialects.tables import table

MODULES = (types, embeddings, ranking, tokens)
ONLY_IN_COMPANY = {"add_generation_prompt"}  # honoured beside continue_final_message


def read_fields() -> set[tuple[str, str]]:
    """(Struct, field) of all that is read; of a Struct that extends another, what it adds."""
    structs = [
        struct
        for module in MODULES
        for struct in vars(module).values()
        if isinstance(struct, type)
        and issubclass(struct, types.Wire)
        and struct.__module__ == module.__name__
    ]
    return {
        (struct.__name__, field.encode_name)
        for struct in structs
        for field in msgspec.structs.fields(struct)
        if field.name in inspect.get_annotations(struct)
    }


def test_the_page_lists_every_field_and_no_other() -> None:
    assert set(table("OpenAI")) == read_fields()


def test_the_page_says_of_chat_what_the_tests_show() -> None:
    states = {
        field: state
        for (struct, field), state in table("OpenAI").items()
        if struct in ("Generation", "ChatRequest")
    }
    refused = set(REFUSED) - ONLY_IN_COMPANY
    assert {field for field, state in states.items() if state == "no effect"} == set(NO_EFFECT)
    assert {field for field, state in states.items() if state == "refused"} == refused
