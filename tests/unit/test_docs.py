"""What the documents say is what the code does."""

from __future__ import annotations

import ast
import json
import re
import secrets
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.codes import RETRYABLE, STANDARD_REASONS, Code
from api.methods import METHODS
from horus_celery.cli import COMMANDS
from horus_celery.lifecycle import TRANSITIONS
from horus_celery.settings import OTHER_VARIABLES, PREFIX, Actor, Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
#: What a script finds and what nobody sets.
OTHER_WORDS = {
    *("HORUS_INPUTS", "HORUS_JOB_ID", "HORUS_CONTEXT_ID", "HORUS_RESULT"),
    *("HORUS_NET", "HORUS_SAL"),
}


def text_of(name):
    return (DOCS / name).read_text()


def pages(pattern):
    """Return every match of a pattern in the documents, with its page."""
    return [
        pytest.param(found, id=f"{page.name}: {found}")
        for page in PAGES
        for found in sorted(set(re.findall(pattern, page.read_text())))
    ]


# --- lifecycle ---------------------------------------------------------------------


def test_the_diagram_shows_the_table():
    text = text_of("lifecycle.md")
    drawn = re.findall(r"^ +(\w+) --> (\w+): ([\w ]+)$", text, flags=re.MULTILINE)
    table = [(str(a), str(b), str(event)) for (a, event), b in TRANSITIONS.items()]
    assert drawn == table


def test_every_event_is_explained_and_no_other():
    rows = re.findall(r"^\| ([a-z ]+) \|", text_of("lifecycle.md"), flags=re.MULTILINE)
    assert {row for row in rows if row != "event"} == {
        str(event) for _, event in TRANSITIONS
    }


# --- architecture ------------------------------------------------------------------


def rooms():
    """Return the drawn tree as two sets of paths: modules and folders."""
    drawing = re.search(r"```text\n(.*?)```", text_of("architecture.md"), re.DOTALL)
    assert drawing is not None
    modules: set[str] = set()
    folders: set[str] = set()
    inside: list[str] = []
    for line in drawing[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.match(r"(\S+(?:\s+\S+\.py)*)", line.strip())
        assert names is not None, line
        inside = inside[:depth]
        for name in names[1].split():
            path = "/".join([*inside, name.rstrip("/")])
            (folders if name.endswith("/") else modules).add(path)
        if names[1].endswith("/"):
            inside.append(names[1].rstrip("/"))
    return modules, folders


def existing():
    return {
        path.relative_to(ROOT).as_posix()
        for package in ("horus_celery", "workers", "api")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }


def test_every_module_has_its_place_in_the_tree_and_none_is_invented():
    modules, _ = rooms()
    assert modules == existing()


def test_every_folder_of_the_tree_exists():
    _, folders = rooms()
    assert folders >= {"horus_celery", "workers", "api", "tests"}
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_every_folder_of_tests_is_named():
    named = re.search(r"^tests/ +(.*)$", text_of("architecture.md"), re.MULTILINE)
    assert named is not None
    there = {path.parent.name for path in ROOT.glob("tests/*/*") if path.is_file()}
    assert {word.rstrip("/") for word in named[1].split(" · ")} == there


def test_inside_the_core_no_import_leads_back():
    above = {name: set(imported_by(name)) for name in existing() if is_core(name)}
    while lowest := {name for name, needs in above.items() if not needs & above.keys()}:
        for name in lowest:
            del above[name]
    assert above == {}, "these import each other"


def is_core(module):
    return module.startswith("horus_celery/")


def imported_by(module):
    tree = ast.parse((ROOT / module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = node.module.replace(".", "/")
            yield f"{package}.py"
            yield from (f"{package}/{alias.name}.py" for alias in node.names)


MENTIONED = re.compile(r"`((?:horus_celery|workers|api|docs|tests)/[\w./-]+)`")


@pytest.mark.parametrize("path", pages(MENTIONED))
def test_a_file_that_is_mentioned_exists(path):
    found = ROOT / path
    assert found.exists() or found.with_suffix(".py").exists()


# --- settings ----------------------------------------------------------------------


def test_every_setting_of_the_protocol_exists_with_its_default():
    block = re.search(r"```toml\n(.*?)```", text_of("protocol.md"), re.DOTALL)
    assert block is not None
    settings = Settings.model_validate(tomllib.loads(block[1]))
    chosen = {"redis_url", "actors"}
    assert settings.model_dump(exclude=chosen) == Settings().model_dump(exclude=chosen)
    assert settings.actors[0].executor == "osis"


def shown_configuration():
    block = re.search(r"```toml\n(.*?)```", text_of("operations.md"), re.DOTALL)
    assert block is not None
    return block[1]


def test_the_shown_configuration_can_be_used_but_for_its_secrets():
    shown = shown_configuration()
    with pytest.raises(ValidationError, match="too easy to guess"):
        Settings.model_validate(tomllib.loads(shown))
    filled = re.sub("SECRET-[A-Z-]+", lambda _: secrets.token_urlsafe(32), shown)
    settings = Settings.model_validate(tomllib.loads(filled))
    assert settings.api_url.startswith("https://")
    assert [one.contexts for one in settings.user_secrets] == [
        ("billing",),
        ("lab", "shared"),
    ]
    kinds = [one.process_manager.partition(":")[0] for one in settings.actors]
    assert kinds == ["simple", "tmux"]


def test_every_setting_is_listed_with_its_default_and_no_other():
    section = text_of("operations.md").partition("## Settings")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\S.*?) \| .+ \|$", section, re.MULTILINE)
    defaults = {name: one.default for name, one in Settings.model_fields.items()}
    assert dict(rows) == {
        name: "-"
        if default in (None, (), {})
        else f"`{json.dumps(default, default=str)}`"
        for name, default in defaults.items()
    }
    assert Actor.model_fields.keys() <= set(re.findall(r"`(\w+)`", section))


@pytest.mark.parametrize("variable", pages(r"HORUS_[A-Z][A-Z_]*"))
def test_a_variable_that_is_named_exists(variable):
    settings = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    # `HORUS_*` is the whole family.
    assert variable in settings | OTHER_VARIABLES | OTHER_WORDS


# --- the command line --------------------------------------------------------------


@pytest.mark.parametrize("command", pages(r"(?:`|\$ |bin/)horus ([a-z-]+)"))
def test_a_command_that_is_named_exists(command):
    assert command in COMMANDS


# --- errors ------------------------------------------------------------------------


def error_table():
    text = text_of("protocol.md")
    said = re.search(r"^Errors: .*?^$", text, re.MULTILINE | re.DOTALL)
    assert said is not None
    flat = " ".join(said[0].split())
    listed = re.findall(r"(-32\d{3}) ([a-z][a-z ]*)(?: \(([^)]*)\))?[,.]", flat)
    return {int(code): (words, remark) for code, words, remark in listed}


def test_the_codes_of_the_protocol_are_those_of_the_api():
    standard = {code.value for code in STANDARD_REASONS}
    ours = {code.value for code in Code}
    assert error_table().keys() - standard == ours - standard


def test_what_may_be_sent_again_is_marked():
    marked = {code for code, (_, remark) in error_table().items() if "retry" in remark}
    assert marked == {code.value for code in RETRYABLE}


# --- older names -------------------------------------------------------------------

#: What the documents before ours call the methods, in both generations.
BEFORE = {
    *("jobs.create", "jobs.list", "job.run", "job.start", "job.stop", "job.delete"),
    *("job.status", "job.result", "register_runner", "list_runners", "start_runner"),
    *("stop_runner", "get_runner_status", "get_runner_logs", "add_secret"),
    *("remove_secret", "get_supervisor_info", "rpc.discover", "create_job", "get_job"),
    *("list_jobs", "delete_job", "get_job_logs", "get_job_result", "submit_workflow"),
}


def test_every_method_of_the_documents_before_ours_is_one_and_is_explained():
    section = text_of("hero-supervisor.md").partition("## Methods")[2]
    rows = re.findall(r"^\|.+\|$", section.partition("| flow |")[0], re.MULTILINE)
    explained = set(re.findall(r"`((?:jobs?\.|rpc\.)?[a-z_]{6,})`", "".join(rows)))
    explained |= set(re.findall(r"`(jobs?\.\w+)`", "".join(rows)))
    methods = {name for one in METHODS for name in (one.name, *one.aliases)}
    assert explained >= BEFORE
    assert explained <= methods | {"rpc.discover"}


# --- links -------------------------------------------------------------------------


def links():
    return [
        pytest.param(page, target, id=f"{page.name}: {target}")
        for page in [*PAGES, *ROOT.glob("bench/*.md"), *ROOT.glob("examples/*.md")]
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if "://" not in target
    ]


@pytest.mark.parametrize(("page", "target"), links())
def test_a_link_leads_somewhere(page, target):
    path, _, heading = target.partition("#")
    found = (page.parent / path) if path else page
    assert found.exists()
    assert not heading or heading in anchors(found)


def anchors(page):
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}
