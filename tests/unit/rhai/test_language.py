"""What scripts come to: the language as its documentation describes it."""

from __future__ import annotations

import pytest

from tests.unit.rhai.engine import horus_rhai, run
from tests.unit.rhai.language import collections, control, functions, numbers, strings
from tests.unit.rhai.language.expect import Fails, Near, Refused

CASES = [
    pytest.param(script, expected, id=f"{area.__name__.rpartition('.')[2]}: {script}")
    for area in (numbers, strings, collections, functions, control)
    for script, expected in area.CASES
]


def typed(value):
    """Show the types of a value too: 1 is neither True nor 1.0."""
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return type(value), value


@pytest.mark.parametrize(("script", "expected"), CASES)
def test_a_script_comes_to_what_the_language_says(script, expected):
    match expected:
        case Fails(text):
            with pytest.raises(horus_rhai.RhaiError) as caught:
                run(script)
            assert type(caught.value) is horus_rhai.RhaiError
            assert text in str(caught.value)
        case Refused(text):
            with pytest.raises(horus_rhai.RhaiSyntaxError) as refused:
                run(script)
            assert text in str(refused.value)
        case Near(number):
            assert run(script) == pytest.approx(number, abs=1e-12)
        case value:
            assert typed(run(script)) == typed(value)


def test_there_are_cases_of_every_area():
    assert len(CASES) > 300
    assert len({script for script, *_ in (case.values for case in CASES)}) == len(CASES)
