"""SAL's functions for containers, by a stand-in for nerdctl."""

from __future__ import annotations

from typing import Any

import pytest

from workers.sal import MODULES, Net

from .conftest import make_script

NERDCTL = """
if 'broken' in words:
    print('no such container: broken', file=sys.stderr)
    sys.exit(1)
if words[0] == 'run' and '--detach' in words:
    print('0123abcd')
elif words[0] == 'exec' and '--interactive' in words:
    print('in:', sys.stdin.read())
else:
    print('done')
"""


@pytest.fixture
def nerdctl(stand_in):
    return stand_in("nerdctl", NERDCTL)


FUNCTIONS: list[tuple[str, list[Any], list[str]]] = [
    ("nerdctl_run", ["img"], ["run", "--detach", "img"]),
    ("nerdctl_run_with_name", ["img", "n"], ["run", "--detach", "--name=n", "img"]),
    (
        "nerdctl_run_with_port",
        ["img", "n", "80:80"],
        ["run", "--detach", "--name=n", "--publish=80:80", "img"],
    ),
    ("nerdctl_exec", ["n", "echo 'a b'"], ["exec", "n", "echo", "a b"]),
    ("nerdctl_exec", ["n", ["ls", "-l"]], ["exec", "n", "ls", "-l"]),
    ("nerdctl_copy", ["n:/a", "b"], ["cp", "n:/a", "b"]),
    ("nerdctl_stop", ["n"], ["stop", "n"]),
    ("nerdctl_remove", ["n"], ["rm", "n"]),
    ("nerdctl_list", [True], ["ps", "--all"]),
    ("nerdctl_list", [False], ["ps"]),
    ("nerdctl_logs", ["n"], ["logs", "n"]),
    ("nerdctl_image_remove", ["img"], ["rmi", "img"]),
    ("nerdctl_image_tag", ["img", "new"], ["tag", "img", "new"]),
    ("nerdctl_image_push", ["img", "reg/img"], ["push", "reg/img"]),
    ("nerdctl_image_pull", ["img"], ["pull", "img"]),
    ("nerdctl_image_commit", ["n", "img"], ["commit", "n", "img"]),
    ("nerdctl_image_build", ["t", "."], ["build", "--tag=t", "."]),
]


@pytest.mark.parametrize(("name", "args", "words"), FUNCTIONS)
def test_a_function_is_one_command(script, nerdctl, name, args, words):
    result = script(name, *args)
    assert result.rhai_get("success") is True
    assert nerdctl.calls[-1] == words


def test_images_are_listed_with_what_they_are(script, nerdctl):
    script("nerdctl_images")
    ((verb, form),) = nerdctl.calls
    assert verb == "images"
    assert form.count("\t") == 4


def test_options_of_a_run_are_a_map(confined):
    assert confined("new_run_options") == {
        "name": "",
        "detach": True,
        "ports": [],
        "snapshotter": "",
    }


ON_A_CONTAINER = [
    (name, args) for name, args, _ in FUNCTIONS if args[0] in {"n", "img"}
]


@pytest.mark.parametrize(("name", "args"), ON_A_CONTAINER)
def test_what_fails_is_told_and_options_are_none(script, nerdctl, name, args):
    said = script.refusal(name, "broken", *args[1:])
    assert said == f"{name}: nerdctl ended with the code 1: no such container: broken"
    assert "must not begin with '-'" in script.refusal(name, "--privileged", *args[1:])


@pytest.mark.parametrize("name", ["nerdctl_list", "nerdctl_images"])
def test_without_nerdctl_the_program_is_named(script, monkeypatch, name):
    monkeypatch.setenv("PATH", "/nowhere")
    args = [True] if name == "nerdctl_list" else []
    assert "there is no program nerdctl here" in script.refusal(name, *args)


def test_copies_and_builds_are_of_words(script, nerdctl):
    assert "source must not begin" in script.refusal("nerdctl_copy", "-x", "b")
    assert "context_path must" in script.refusal("nerdctl_image_build", "t", "-")


# --- containers --------------------------------------------------------------------

OPTIONS = [
    ("with_port", ["80:80"], ["--publish=80:80"]),
    ("with_ports", [["1:1", 2, "3:3"]], ["--publish=1:1", "--publish=3:3"]),
    ("with_volume", ["/a:/b"], ["--volume=/a:/b"]),
    ("with_volumes", [["/a:/b", None]], ["--volume=/a:/b"]),
    ("with_env", ["A", "x y"], ["--env=A=x y"]),
    ("with_envs", [{"A": "1", "B": 2}], ["--env=A=1"]),
    ("with_network", ["net"], ["--network=net"]),
    ("with_network_alias", ["a"], ["--network-alias=a"]),
    (
        "with_network_aliases",
        [["a", 1, "b"]],
        ["--network-alias=a", "--network-alias=b"],
    ),
    ("with_cpu_limit", ["1.5"], ["--cpus=1.5"]),
    ("with_cpu_shares", ["512"], ["--cpu-shares=512"]),
    ("with_memory_limit", ["1g"], ["--memory=1g"]),
    ("with_memory_swap_limit", ["2g"], ["--memory-swap=2g"]),
    ("with_restart_policy", ["always"], ["--restart=always"]),
    ("with_health_check", ["curl x"], ["--health-cmd=curl x"]),
    (
        "with_health_check_options",
        ["curl x", "30s", "", 3, "5s"],
        [
            *("--health-cmd=curl x", "--health-interval=30s"),
            *("--health-retries=3", "--health-start-period=5s"),
        ],
    ),
    ("with_snapshotter", ["native"], ["--snapshotter=native"]),
]


@pytest.fixture
def container(script, nerdctl):
    return script("nerdctl_container_from_image", "web", "nginx")


@pytest.mark.parametrize(("method", "args", "words"), OPTIONS)
def test_an_option_stands_in_the_command(container, nerdctl, method, args, words):
    assert container.rhai_call(method, args) is container
    assert container.rhai_call("build", []) is container
    assert nerdctl.calls == [["run", "--name=web", "--detach", *words, "nginx"]]


@pytest.mark.parametrize(("method", "args", "words"), OPTIONS)
def test_an_option_of_another_kind_is_refused(container, method, args, words):
    wrong = [object(), *args[1:]]
    with pytest.raises(Exception, match=f"^{method}: "):
        container.rhai_call(method, wrong)


def test_a_container_knows_what_it_is(container, script):
    container.rhai_call("with_port", ["80:80"])
    container.rhai_call("with_volume", ["/a:/b"])
    assert container.rhai_get("container_id") == ""
    container.rhai_call("build", [])
    facts = ("name", "image", "container_id", "ports", "volumes", "detach")
    assert [container.rhai_get(one) for one in facts] == [
        *("web", "nginx", "0123abcd", ["80:80"], ["/a:/b"], True)
    ]


def test_a_container_may_be_waited_for(container, nerdctl):
    container.rhai_call("with_detach", [False])
    container.rhai_call("build", [])
    assert nerdctl.calls == [["run", "--name=web", "nginx"]]
    assert container.rhai_get("container_id") == ""
    with pytest.raises(Exception, match="true or false"):
        container.rhai_call("with_detach", ["no"])


def test_after_a_reset_only_name_and_image_are_left(container, nerdctl):
    for method, args, _ in OPTIONS:
        container.rhai_call(method, args)
    assert container.rhai_call("reset", []) is container
    container.rhai_call("build", [])
    assert nerdctl.calls == [["run", "--name=web", "--detach", "nginx"]]


def test_a_container_without_an_image_is_not_made(script, nerdctl):
    new = script("nerdctl_container_new", "web")
    with pytest.raises(Exception, match="build: the container web has no image"):
        new.rhai_call("build", [])
    assert nerdctl.calls == []


USES = [
    ("start", [], ["start", "web"]),
    ("stop", [], ["stop", "web"]),
    ("remove", [], ["rm", "web"]),
    ("exec", ["ls /"], ["exec", "web", "ls", "/"]),
    ("logs", [], ["logs", "web"]),
    ("copy", ["web:/a", "b"], ["cp", "web:/a", "b"]),
]


@pytest.mark.parametrize(("method", "args", "words"), USES)
def test_a_container_is_used(script, nerdctl, method, args, words):
    new = script("nerdctl_container_new", "web")
    assert new.rhai_call(method, args).rhai_get("stdout") == "done\n"
    assert nerdctl.calls == [words]


@pytest.mark.parametrize(("method", "args", "words"), USES)
def test_a_container_that_is_not_there_is_an_error(
    script, nerdctl, method, args, words
):
    broken = script("nerdctl_container_new", "broken")
    given = ["broken", "b"] if method == "copy" else args
    with pytest.raises(Exception, match=f"^{method}: nerdctl ended with the code 1"):
        broken.rhai_call(method, given)


# --- PostgreSQL in a container -----------------------------------------------------


def test_a_server_is_started_and_its_password_is_in_no_command_line(script, nerdctl):
    script("pg_install", "pg", "16", 5432, "ada", "secret")
    assert nerdctl.calls == [
        [
            *("run", "--detach", "--name", "pg", "--publish", "127.0.0.1:5432:5432"),
            *("--env", "POSTGRES_USER", "--env", "POSTGRES_PASSWORD"),
            "docker.io/library/postgres:16",
        ]
    ]


PSQL = [
    *("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--username=ada"),
]


def test_sql_is_run_in_the_container(script, nerdctl):
    said = script("pg_execute_sql", "pg", "ada", "shop", "SELECT 1")
    assert said == "in: SELECT 1\n"
    assert nerdctl.calls == [["exec", "--interactive", "pg", *PSQL, "--dbname=shop"]]


def test_a_database_is_made_in_the_container(script, nerdctl):
    assert script("pg_create_database", "pg", "ada", "shop") is None
    assert nerdctl.calls == [
        ["exec", "--interactive", "pg", *PSQL, "--dbname=postgres"]
    ]
    said = script.refusal("pg_create_database", "pg", "ada", 'x"; DROP DATABASE shop')
    assert "is no name of a database" in said


def test_a_server_runs_or_not(script, nerdctl):
    assert script("pg_is_running", "pg") is True
    assert script("pg_is_running", "broken") is False


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("pg_install", ["broken", "16", 5432, "ada", "secret"]),
        ("pg_create_database", ["broken", "ada", "shop"]),
        ("pg_execute_sql", ["broken", "ada", "shop", "SELECT 1"]),
    ],
)
def test_a_container_of_a_server_that_fails_is_an_error(script, nerdctl, name, args):
    assert "no such container: broken" in script.refusal(name, *args)
    if name == "pg_install":
        said = script.refusal(name, "pg", "16 --privileged", *args[2:])
        assert "is no version of the image" in said


# --- who may -----------------------------------------------------------------------


def calls():
    known = {name: args for name, args, _ in FUNCTIONS}
    known |= {"nerdctl_container_new": ["n"], "nerdctl_images": []}
    known |= {"nerdctl_container_from_image": ["n", "img"]}
    known |= {
        "pg_install": ["pg", "16", 5432, "ada", "secret"],
        "pg_is_running": ["pg"],
    }
    known |= {"pg_create_database": ["pg", "ada", "shop"]}
    known |= {"pg_execute_sql": ["pg", "ada", "shop", "SELECT 1"]}
    return known


@pytest.mark.parametrize(("name", "args"), calls().items())
def test_containers_are_off_unless_the_runner_allows_them(nerdctl, name, args):
    said = make_script(net=Net.HOST).refusal(name, *args)
    assert 'sal_allow = ["containers"]' in said
    assert nerdctl.calls == []


def test_no_function_for_containers_was_forgotten():
    (module,) = (one for one in MODULES if one.name == "nerdctl")
    assert {one.name for one in module.functions} == {
        *(name for name in calls() if name.startswith("nerdctl")),
        "new_run_options",
    }
