"""`docs/workflows.md` says what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from horus_celery.authoring.files import read_file
from horus_celery.authoring.schema import Defaults, FileEntry, StepEntry
from horus_celery.dag.progress import RULES

PAGE = (Path(__file__).parents[3] / "docs" / "workflows.md").read_text()


def section(heading):
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_the_shown_file_is_a_workflow(tmp_path):
    block = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    path = tmp_path / "etl.toml"
    path.write_text(block[1])
    assert read_file(path).graph().names == ("extract", "clean", "alarm")


def test_the_shown_python_makes_a_workflow():
    block = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    scope: dict[str, Any] = {}
    exec(block[1], scope)  # noqa: S102 - our own page
    assert scope["etl"].draft().graph().names == ("extract", "clean", "alarm")


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("file", set(FileEntry.model_fields)),
        ("step", set(StepEntry.model_fields) - set(Defaults.model_fields)),
        ("step, defaults", set(Defaults.model_fields)),
    ],
)
def test_every_key_of_a_file_is_listed_and_no_other(where, keys):
    rows = re.findall(
        r"^\| `(\w+)` \| ([a-z, ]+) \|", section("A file's keys"), re.MULTILINE
    )
    assert {key for key, place in rows if place == where} == keys


def test_the_shown_rules_are_the_table():
    rows = re.findall(
        r"^\| `(\w+)` \| (?:one ([\w ]+): (\w+)|-) \| (\w+) \|$",
        section("When a step starts"),
        re.MULTILINE,
    )
    shown = {
        when: (set(ends.split(" or ")) - {""}, at_once or None, at_last)
        for when, ends, at_once, at_last in rows
    }
    assert shown == {
        when: (
            {end.value for end in rule.decisive},
            rule.at_once.value if rule.decisive else None,
            rule.at_last.value,
        )
        for when, rule in RULES.items()
    }
