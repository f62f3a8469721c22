"""The page on HeroScript shows what its scripts say, and the actors that there are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from workers.actors.actor import TEXT, Actor, Wanted
from workers.actors.ensemble import gather
from workers.actors.functions import actors_of
from workers.actors.reference import table
from workers.hosts import hero
from workers.sal import FUNCTIONS, SalError, Session

PAGE = Path(__file__).parents[3] / "docs" / "heroscript.md"
SHOWN = re.findall(
    r"```heroscript\n(.*?)```\n\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL
)


def test_the_page_shows_scripts():
    assert len(SHOWN) == PAGE.read_text().count("```heroscript") == 5


@pytest.fixture
def further():
    session = Session()
    functions = FUNCTIONS.values()
    return tuple(actors_of("sal", functions, lambda: session, failures=[SalError]))


@pytest.mark.parametrize(("script", "shown"), SHOWN)
def test_a_script_says_what_is_shown_below_it(
    script, shown, around, tmp_path, capsys, said
):
    (tmp_path / "script").write_text(script)
    code = hero.perform_file(str(tmp_path / "script"), [], around, gather(around))
    errors = capsys.readouterr().err
    assert code == (1 if errors else 0)
    assert "".join(f"{line}\n" for line in said) + errors == shown


def test_the_table_of_actors_is_theirs(around):
    shown = re.search(
        r"^\| action \|.*?\n\n", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    assert shown is not None
    assert shown[0] == f"{table(gather(replace(around, further=())))}\n"


def test_a_row_of_the_table_says_what_may_be_left_away():
    wanted = (
        Wanted(name="a", kind=TEXT, doc="first"),
        Wanted(name="b", kind=TEXT, default=True, alias="c"),
        Wanted(name="d", kind=TEXT, default=None),
    )
    actor = Actor(name="x.y", doc="Do it | or not.", wanted=wanted, call=dict)
    row = table([actor]).splitlines()[-1]
    assert (
        row == "| `x.y` | `a` (first), [`b` or `c` = true], [`d`] | Do it \\| or not. |"
    )
