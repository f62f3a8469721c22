"""Functions of SAL where they are used: by a script, in the sandbox of a runner."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import uuid

import pytest

from tests.acceptance.conftest import HORUS, Up, clean_environment, make_folder

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        importlib.util.find_spec("horus_rhai") is None,
        reason="needs the Rhai engine: pip install ./workers/rhai_engine",
    ),
]


@pytest.fixture(scope="module")
def deployment():
    folder = make_folder()
    up = Up(folder / "s", "--port", "0", "--executors", "sal")
    yield up
    up.close()
    shutil.rmtree(folder)


def run(deployment, script, *words, code=0):
    done = subprocess.run(  # noqa: S603 - our own command
        [
            *(*HORUS, "run", "--state-dir", str(deployment.state_dir)),
            *("--executor", "sal", *words, "-c", script),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment(),
    )
    assert done.returncode == code, done.stderr
    return done


WORK = """
file_write("in/page.txt", "{% for one in all %}{{ one }};{% endfor %}");
let text = template_builder_open("in/page.txt").add_var("all", [1, 2]).render();
let told = run(["sh", "-c", "cat; echo loud >&2; echo $WHO"])
    .input(text).env(#{ WHO: "me" }).timeout(20).execute();
run("git init --quiet repo").execute();
file_write("repo/a", "x");
let own = process_list("").filter(|one| one.command.contains("HORUS-NOBODY")).len();
#{
    out: told.stdout,
    changed: git_tree_new(".").get("repo").has_changes,
    found: find_files("in", "*.txt"),
    name: name_fix("A b.TXT"),
    own: own,
    moved: chdir("in"),
}
"""


def test_a_script_works_on_what_is_its_own(deployment):
    done = run(deployment, WORK)
    value = json.loads(done.stdout[done.stdout.rindex('{"') :])
    assert value == {
        "changed": True,
        "found": ["in/page.txt"],
        "moved": value["moved"],
        "name": "a_b.txt",
        "out": "1;2;me\n",
        "own": 0,
    }
    assert value["moved"].endswith("/in")
    assert done.stderr.count("loud\n") == 1


REFUSED = """
let said = [];
for asked in [
    || tcp_check("127.0.0.1", 80),
    || http_check("http://127.0.0.1/"),
    || download("http://127.0.0.1/a", "."),
    || git_clone("https://example.invalid/a"),
    || pg_connect("postgresql://"),
    || mycelium_list_peers("http://127.0.0.1:8989"),
    || kubernetes_manager_new("default"),
    || redis_ping(),
    || package_remove("git"),
    || zinit_list("/run/zinit.sock"),
    || nerdctl_images(),
    || ssh_ping_host("there"),
] {
    try { asked.call(); said.push("allowed"); } catch (e) { said.push(e.message); }
}
said
"""


def test_a_script_without_net_is_told_what_it_may_not(deployment):
    done = run(deployment, REFUSED)
    said = json.loads(done.stdout)
    assert ["net: host" in one for one in said] == [True] * 8 + [False] * 4
    assert ["sal_allow" in one for one in said] == [False] * 8 + [True] * 4


HERODB = """
redis_set("k", "v");
redis_rpush("l", "a");
let said = "";
try { http_status("http://127.0.0.1/") } catch (e) { said = e.message; }
[redis_ping(), redis_get("k"), redis_lrange("l", 0, -1), said.contains("net: herodb")]
"""


def test_a_script_with_net_herodb_reaches_that_and_no_more(deployment):
    done = run(deployment, HERODB, "--net", "herodb")
    assert json.loads(done.stdout) == ["PONG", "v", ["a"], True]


def test_a_script_that_waits_for_a_command_ends_when_its_time_is_up(deployment):
    seconds = f"300.{uuid.uuid4().int}"
    run(deployment, f'run("sleep {seconds}").execute()', "--timeout", "1", code=124)
    assert_gone(seconds)


def test_what_a_script_started_is_gone_with_it(deployment):
    # As many seconds as nobody else waits.
    seconds = f"300.{uuid.uuid4().int}"
    run(deployment, f'run(["sh", "-c", "sleep {seconds} & :"]).execute();')
    assert_gone(seconds)


def assert_gone(seconds):
    found = subprocess.run(  # noqa: S603 - our own argv
        ["pgrep", "-f", seconds],  # noqa: S607 - that of the tests' PATH
        capture_output=True,
        check=False,
    )
    assert found.stdout == b""
