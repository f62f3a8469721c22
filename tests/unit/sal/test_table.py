"""What holds for every function and object of SAL."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workers import sal
from workers.sal import FUNCTIONS, MODULES, Net, NoSuchFunction, Power, SalObject
from workers.sal.docs import data, page, shown

from .conftest import make_script

ROOT = Path(__file__).parents[3]
TESTS = "".join(
    path.read_text()
    for folder in ("unit", "integration")
    for path in sorted((ROOT / "tests" / folder / "sal").glob("test_*.py"))
    if path != Path(__file__)
)
#: Every name in sal.md that Horus has, by the module there.
NAMES = """
exist find_file find_files find_dir find_dirs delete mkdir file_size rsync chdir
file_read file_write file_write_append copy copy_bin mv which cmd_ensure_exists
download download_file download_install chmod_exec
package_install package_remove package_update package_upgrade package_list
package_search package_is_installed package_set_debug package_platform
platform_is_osx platform_is_linux platform_is_arm platform_is_x86
platform_check_linux_x86 platform_check_macos_arm
run run_command run_silent run_with_options kill process_list process_get
git_tree_new git_clone
tcp_check tcp_ping http_check http_status ssh_execute ssh_execute_output ssh_ping_host
dedent prefix name_fix path_fix text_replacer_new text_replacer_builder
template_builder_open
redis_ping redis_set redis_get redis_del redis_hset redis_hget redis_hgetall redis_hdel
redis_rpush redis_lpush redis_llen redis_lrange redis_reset
pg_connect pg_ping pg_reset pg_execute pg_query pg_query_one
pg_install pg_create_database pg_execute_sql pg_is_running
zinit_list zinit_status zinit_start zinit_stop zinit_restart zinit_monitor zinit_forget
zinit_kill zinit_create_service zinit_delete_service zinit_get_service zinit_logs
zinit_logs_all
mycelium_get_node_info mycelium_list_peers mycelium_add_peer mycelium_remove_peer
mycelium_list_selected_routes mycelium_list_fallback_routes mycelium_send_message
mycelium_receive_messages
nerdctl_container_new nerdctl_container_from_image nerdctl_run nerdctl_run_with_name
nerdctl_run_with_port nerdctl_exec nerdctl_copy nerdctl_stop nerdctl_remove nerdctl_list
nerdctl_logs new_run_options nerdctl_images nerdctl_image_remove nerdctl_image_push
nerdctl_image_tag nerdctl_image_pull nerdctl_image_commit nerdctl_image_build
kubernetes_manager_new
"""

objects = [one for module in MODULES for one in module.objects]
methods = [(one.name, method) for one in objects for method in one.methods]
properties = [(one.name, read) for one in objects for read in one.properties]
documented: list[Any] = [
    *FUNCTIONS.values(),
    *(one for _, one in [*methods, *properties]),
]


def test_the_functions_are_those_of_sal():
    assert set(FUNCTIONS) == set(NAMES.split())


def test_no_name_is_given_twice():
    names = [one.name for module in MODULES for one in module.functions]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("one", documented, ids=lambda one: one.name)
def test_everything_is_documented_in_sentences(one):
    assert re.fullmatch(r"[A-Z].*[.:]", one.doc.splitlines()[0])


@pytest.mark.parametrize("one", objects, ids=lambda one: one.name)
def test_every_object_is_documented_and_has_something(one):
    assert one.doc
    assert one.methods or one.properties


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_called_by_a_test_of_its_own(name):
    assert f'"{name}"' in TESTS


@pytest.mark.parametrize(("owner", "one"), [*methods, *properties])
def test_every_method_and_property_is_tested(owner, one):
    families = r'f"\{(?:kind|resource)\}(_list|_delete)"'
    made = {found[1] for found in re.finditer(families, TESTS)}
    by_family = any(one.name.endswith(suffix) for suffix in made)
    assert re.search(rf'"{one.name}"', TESTS) or by_family


@pytest.mark.parametrize("one", documented[: len(FUNCTIONS)], ids=lambda one: one.name)
def test_a_signature_shows_what_is_taken(one):
    assert one.signature.startswith(f"{one.name}(")
    assert all(given.name in one.signature for given in one.parameters)
    assert "_ " not in one.signature
    assert " -> " in one.signature
    assert "Path" not in one.result


def test_what_a_function_returns_is_known():
    known = {one.name for one in objects} | {
        *("nothing", "string", "integer", "float", "bool", "map", "map of strings"),
        *("array", "array of strings", "array of maps"),
        *(f"array of {one.name}" for one in objects),
    }
    assert {one.result for one in documented} <= known


# --- calls -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("bah_new", ["a"], "bah_new (string)"),
        ("exist", [], "exist ()"),
        ("exist", ["a", 1], "exist (string, integer)"),
        ("__class__", [], "__class__ ()"),
    ],
)
def test_an_unknown_name_or_number_of_values_is_not_found(confined, name, args, said):
    with pytest.raises(NoSuchFunction) as caught:
        confined(name, *args)
    assert str(caught.value) == f"Function not found: {said}"
    assert caught.value.name == name


HOSTILE = {
    "NUL": "a\0b",
    "half a character": "\ud800",
    "huge": "x" * (2**24 + 1),
    "long": "y" * 5000,
    "lines": "a\nb",
    "empty": "",
    "option": "--help",
    "nothing": None,
    "bytes": b"\x00",
    "huge integer": 2**80,
    "not a number": float("nan"),
    "endless": float("inf"),
    "object": object(),
    "array": [None],
    "map": {1: object()},
    "class": str,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_hostile_value_is_an_error_or_does_no_harm(script, folder, monkeypatch, name):
    monkeypatch.setenv("PATH", "/nowhere")
    function = FUNCTIONS[name]
    counts = [n for n in range(len(function.parameters) + 1) if function.takes(n)]
    refused = {
        kind
        for kind, value in HOSTILE.items()
        for count in counts
        if was_refused(script, name, [value] * count)
    }
    if function.parameters:
        assert refused >= {"nothing", "object", "class"}


def was_refused(script, name, args):
    try:
        script(name, *args)
    except sal.SalError as error:
        return str(error).startswith(f"{name}: ")
    return False


REACHING = ("download", "net", "postgres", "mycelium", "kubernetes")
#: One value of each kind that is taken.
SENSIBLE = {
    "string": "400::1",
    "path": "here",
    "integer": 80,
    "seconds": 1,
    "array": [],
    "map": {},
    "command line, or array of words": "true",
}


def sensible(parameter):
    if parameter.name in {"url", "api_url"}:
        return "http://127.0.0.1/a.deb"
    return "" if parameter.name == "sha256" else SENSIBLE[parameter.kind.name]


@pytest.mark.parametrize(
    "one",
    [
        one
        for module in MODULES
        if module.name in REACHING
        for one in module.functions
        if one.name != "chmod_exec"
    ],
    ids=lambda one: one.name,
)
@pytest.mark.parametrize("net", [Net.NONE, Net.HERODB])
def test_what_leaves_the_sandbox_needs_the_network(one, net):
    powers = frozenset(Power) - {Power.CONTAINERS}
    script = make_script(net=net, allowed=powers)
    said = script.refusal(one.name, *map(sensible, one.parameters))
    by_container = ("pg_install", "pg_create_database", "pg_execute_sql")
    if one.name in {*by_container, "pg_is_running"}:
        assert "sal_allow" in said
    else:
        assert f"the job has net: {net}" in said


def test_an_object_shows_nothing_but_its_table():
    class Thing(SalObject):
        """A thing."""

        def _hidden(self) -> None:
            """Hide."""

        def shown(self) -> str:
            """Show."""
            return "shown"

        methods = (shown,)

    thing = Thing()
    assert thing.rhai_call("shown", []) == "shown"
    for name in ("_hidden", "hidden", "methods", "table", "__init__", ""):
        with pytest.raises(NoSuchFunction):
            thing.rhai_call(name, [])


def test_to_import_it_costs_little():
    heavy = ("httpx", "jinja2", "pydantic", "celery", "redis", "psycopg", "kubernetes")
    source = (
        "import sys; from workers import sal;"
        f" print([name for name in {heavy!r} if name in sys.modules])"
    )
    asked = subprocess.run(  # noqa: S603 - our own argv
        [sys.executable, "-c", source], check=True, capture_output=True, text=True
    )
    assert asked.stdout == "[]\n"


# --- documents ---------------------------------------------------------------------


def test_the_page_is_what_the_tables_say():
    assert (ROOT / "docs/sal.md").read_text() == page(MODULES)


def test_everything_stands_in_every_form_of_the_documents():
    as_text, as_page, as_data = shown(MODULES), page(MODULES), json.dumps(data(MODULES))
    for one in documented:
        assert one.name in as_text
        assert one.name in as_page
        assert f'"name": "{one.name}"' in as_data


def test_a_default_is_shown_as_scripts_write_it():
    signatures = {name: one.signature for name, one in FUNCTIONS.items()}
    assert signatures["git_clone"].endswith("path: path = ()) -> Repository")
    assert "timeout: seconds = 5)" in signatures["tcp_check"]
    assert 'signal: string = "SIGTERM"' in signatures["zinit_kill"]
    assert 'sha256: string = "", max_mb: integer = 1024' in signatures["download"]
