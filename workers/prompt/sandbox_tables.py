"""What templates may and may not use. Data only."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STRING_METHODS = _words("""
    capitalize casefold count endswith find format index isalnum isalpha isascii isdecimal isdigit
    islower isnumeric isspace isupper join lower lstrip partition removeprefix removesuffix replace
    rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
""")
NO_FILTERS = _words("""
    batch center filesizeformat pprint random slice sum urlize wordwrap xmlattr
""")
# Filters that look at a value without printing, comparing or hashing what is in it.
LOOKING_FILTERS = _words("""
    do_attr do_default do_first do_items do_last do_list do_map do_reject do_rejectattr do_reverse
    do_select do_selectattr len sync_do_first sync_do_list sync_do_map sync_do_reject
    sync_do_rejectattr sync_do_select sync_do_selectattr
""")
COMPARING_TESTS = _words("""
    != < <= == > >= eq equalto ge greaterthan gt in le lessthan lt ne
""")
