"""What `horus up` runs: the Procfile's lines, their environment, their addresses."""

from __future__ import annotations

import configparser
import shlex
import socket
import tempfile
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from horus_celery.crew import Crew, runner_name, whole_crew
from horus_celery.errors import ConfigurationError
from horus_celery.processes.addresses import (
    read_addresses,
    with_ports,
)
from horus_celery.processes.changes import Changes
from horus_celery.processes.lineup import Extent, lineup_of
from horus_celery.processes.platform import last_words
from horus_celery.processes.procfile import (
    PLATFORM,
    find_procfile,
    for_executors,
    read_procfile,
)
from horus_celery.processes.programs import (
    environment,
    label,
    program_of,
    programs,
    worker_command,
)
from horus_celery.processes.supervisord import (
    GROUP,
    REDIS,
    Program,
    ProgramStatus,
    configuration,
)
from horus_celery.settings import Actor, Settings, load_settings
from horus_celery.statedir import StateDirectory

SECRET = "an0ther-secret-that-nobody-guesses"  # noqa: S105 - opens nothing


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path, port=0, flower_port=0)


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --- Procfile --------------------------------------------------------------------


def test_the_procfile_has_a_runner_for_each_executor_under_its_own_name():
    lines = read_procfile(find_procfile().read_text())
    assert set(PLATFORM) < set(lines)
    for executor in set(lines) - set(PLATFORM):
        line = " ".join(lines[executor])
        assert line == (
            f"celery -A horus_celery worker -Q {executor} -n {runner_name(executor)}@%h"
        )


def test_the_default_executors_are_those_of_the_procfile(settings):
    lines = read_procfile(find_procfile().read_text())
    assert set(lines) == {*PLATFORM, *settings.executors}


def test_only_the_runners_of_wanted_executors_are_run():
    names = ["api", "coordinator", "flower", "python", "system"]
    lines = {name: [name[0]] for name in names}
    wanted = for_executors(lines, {"system": "system_runner_1"})
    assert list(wanted) == [*names[:3], "system"]


def test_an_executor_without_a_line_gets_a_worker_like_any_other():
    (line,) = for_executors({"api": ["a"]}, {"osis": "o_1"}, platform=()).values()
    assert " ".join(line) == "celery -A horus_celery worker -Q osis -n o_1@%h"


@pytest.mark.parametrize("text", ["api", "a: x\na: y", "a b: c", "api:"])
def test_a_line_that_is_none_of_a_procfile_is_refused(text):
    with pytest.raises(ConfigurationError, match="line"):
        read_procfile(text)


def test_comments_and_empty_lines_are_passed_over():
    assert read_procfile("# why\n\napi: run 'a b'\n") == {"api": ["run", "a b"]}


# --- supervisord -----------------------------------------------------------------


def parsed(text):
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(text)
    return parser


def test_redis_starts_first_and_ends_last_and_all_others_at_once():
    text = configuration(
        [Program(name="api", command=["a"]), Program(name="python", command=["p"])],
        redis=Program(name=REDIS, command=["r"]),
        password=SECRET,
    )
    told = parsed(text)
    assert told[f"program:{REDIS}"]["autostart"] == "true"
    assert told["program:api"]["autostart"] == "false"
    assert told[f"group:{GROUP}"]["programs"] == "api,python"
    before, after = told[f"program:{REDIS}"], told[f"group:{GROUP}"]
    assert int(before["priority"]) < int(after["priority"])


def test_without_a_redis_of_our_own_none_is_run():
    text = configuration(
        [Program(name="api", command=["a"])], redis=None, password=SECRET
    )
    assert REDIS not in text


def test_supervisord_reads_a_command_as_it_was_meant(tmp_path, monkeypatch):
    command = ["python", "-n", "one@%h", "a b", "100%", "it's"]
    program = Program(name="api", command=command, environment={"LC_ALL": "C"})
    process = read_back(program, tmp_path, monkeypatch)
    assert shlex.split(process.command) == command
    assert process.environment == {"LC_ALL": "C"}


def read_back(program, tmp_path, monkeypatch):
    """Return a program as supervisord reads it from what we write."""
    monkeypatch.chdir(tmp_path)
    for folder in ("run", "logs"):
        Path(folder).mkdir(exist_ok=True)
    Path("run/supervisord.conf").write_text(
        configuration([program], redis=None, password=SECRET)
    )
    options = ServerOptions()
    options.realize(["-c", "run/supervisord.conf"])
    (group,) = options.process_group_configs
    (process,) = group.process_configs
    return process


def test_a_program_that_is_gone_keeps_none_from_starting_that_does_not_need_it(
    tmp_path,
):
    program = tmp_path / "program"
    program.touch(0o700)
    settings = Settings(
        state_dir=tmp_path,
        actors=[actor(id="one", binary_path=program, python_env=tmp_path)],
        v_path=program,
        hero_cli=program,
        python_env=tmp_path,
        sandbox_paths=[program],
    )
    given = environment(settings, base={})
    program.unlink()
    found = load_settings(env=given)
    assert found.v_path == found.hero_cli == found.sandbox_paths[0] == program
    assert found.actors[0].binary_path == program


def test_the_place_of_temporary_files_may_have_any_name(tmp_path, monkeypatch):
    place = tmp_path / "100%s of it"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    process = read_back(Program(name="a", command=["b"]), tmp_path, monkeypatch)
    assert process.name == "a"


@pytest.mark.parametrize("value", ["it's", 'a "b" c', "100%", "a,b=c", "%(here)s"])
def test_supervisord_reads_an_environment_as_it_was_meant(tmp_path, monkeypatch, value):
    program = Program(name="a", command=["b"], environment={"HORUS_DB_PATH": value})
    process = read_back(program, tmp_path, monkeypatch)
    assert process.environment == {"HORUS_DB_PATH": value}


@pytest.mark.parametrize("path", ["/a ;b", "/a #b", "/a\nb"])
def test_what_supervisord_would_take_for_a_comment_is_refused(path):
    with pytest.raises(ConfigurationError, match="choose another"):
        configuration([Program(name="a", command=[path])], redis=None, password=SECRET)


def test_an_environment_with_both_kinds_of_quotes_is_refused():
    program = Program(name="a", command=["b"], environment={"X": "'\""})
    with pytest.raises(ConfigurationError, match="quotes"):
        configuration([program], redis=None, password=SECRET)


# --- actors ----------------------------------------------------------------------


def actor(**given):
    return Actor.model_validate({"id": "a1", "executor": "python", **given})


def test_an_actor_is_a_worker_of_ours_for_its_executor_alone(tmp_path, monkeypatch):
    program = program_of(actor(name="osis:2", concurrency=3, stop_timeout=7))
    words = shlex.split("celery -A horus_celery worker -Q python -n osis:2@%h -c 3")
    assert list(program.command)[-len(words) :] == words
    process = read_back(program, tmp_path, monkeypatch)
    assert shlex.split(process.command)[-len(words) :] == words
    assert process.stopwaitsecs == 7
    assert label(process.name) == "osis:2"


def test_a_program_of_somebody_else_is_told_who_it_is(tmp_path, monkeypatch):
    given = actor(executor="osis", binary_path="/bin/true", db_path=tmp_path)
    process = read_back(program_of(given), tmp_path, monkeypatch)
    assert shlex.split(process.command)[-1] == "/bin/true"
    assert process.environment == {
        "HORUS_RUNNER_NAME": "a1",
        "HORUS_RUNNER_EXECUTOR": "osis",
        "HORUS_DB_PATH": str(tmp_path),
    }
    without = program_of(actor(binary_path="/bin/true"))
    assert "HORUS_DB_PATH" not in without.environment


@pytest.mark.parametrize(
    "name", ["api", "coordinator", "flower", "redis", "python", "horus"]
)
def test_no_name_of_an_actor_is_that_of_another_program(tmp_path, name):
    settings = Settings(state_dir=tmp_path, actors=[actor(name=name)])
    names = [each.name for each in lineup_of(settings, Extent.WHOLE).programs]
    assert len({*names, REDIS}) == len(names) + 1


def test_an_executor_that_there_is_not_needs_a_program(tmp_path):
    def only(one):
        return Settings(state_dir=tmp_path, actors=[one])

    for extent in Extent:
        with pytest.raises(ConfigurationError, match="no executor 'osi' here"):
            lineup_of(only(actor(executor="osi")), extent)
        assert lineup_of(only(actor(executor="osi", binary_path="/bin/true")), extent)


def test_an_actor_is_told_of_the_virtual_environment_of_its_scripts():
    program = program_of(actor(executor="python", python_env="/opt/env"))
    assert program.environment == {"HORUS_PYTHON_ENV": "/opt/env"}


def test_a_name_that_celery_would_cut_is_refused():
    with pytest.raises(ConfigurationError, match="'a@b'"):
        program_of(actor(name="a@b"))
    assert program_of(actor(name="a@b", binary_path="/bin/true"))


def test_one_worker_may_serve_several_executors():
    words = worker_command("one", ["python", "system"])
    assert "python,system" in words
    assert "-c" not in words


# --- who is run by what ------------------------------------------------------------


def test_horus_up_runs_all_and_waits_for_what_is_ours(tmp_path):
    settings = Settings(
        state_dir=tmp_path,
        executors=("python",),
        actors=[
            actor(id="here"),
            actor(id="there", process_manager="tmux:hero"),
            actor(id="other", executor="osis", binary_path="/bin/true"),
        ],
    )
    lineup = lineup_of(settings, Extent.WHOLE)
    names = {program.name for program in lineup.programs}
    platform = {"api", "coordinator", "flower"}
    assert names == {*platform, "python", "actor.here", "actor.other"}
    assert set(lineup.windows) == {"there"}
    kinds = {one.name: (one.kind, one.process.program) for one in lineup.runners}
    assert kinds == {
        "python_runner_1": ("simple", "python"),
        "here": ("simple", "actor.here"),
        "there": ("tmux:hero", "there"),
        "other": ("simple", "actor.other"),
    }
    assert lineup.awaited == {"python_runner_1", "here", "there"}
    assert lineup.vital == {"redis", "api", "coordinator"}
    assert {one.name for one in lineup.wanted} == set(kinds)


def test_a_supervisor_runs_the_api_and_its_actors(tmp_path):
    settings = Settings(state_dir=tmp_path, actors=[actor(id="here")])
    lineup = lineup_of(settings, Extent.SUPERVISOR)
    assert [program.name for program in lineup.programs] == ["api", "actor.here"]
    assert lineup.awaited == {"here"}
    assert [one.name for one in lineup.wanted] == ["here"]


def test_a_coordinator_runs_its_worker_beside_that(tmp_path):
    settings = Settings(state_dir=tmp_path, actors=[actor(id="here")])
    lineup = lineup_of(settings, Extent.COORDINATOR)
    names = [program.name for program in lineup.programs]
    assert names == ["api", "coordinator", "actor.here"]
    assert lineup.vital == {"redis", "api", "coordinator"}


def test_an_actor_takes_the_place_of_the_runner_of_its_name(tmp_path):
    given = actor(id="python_runner_1", contexts=["a"])
    settings = Settings(state_dir=tmp_path, actors=[given])
    crew = whole_crew(settings)
    assert crew == Crew(executors={"system": "system_runner_1"}, actors=(given,))
    assert [one.contexts for one in crew.wanted] == [None, ("a",)]


def test_one_name_is_not_for_two_executors(tmp_path):
    given = actor(id="python_runner_1", executor="system")
    settings = Settings(state_dir=tmp_path, actors=[given])
    with pytest.raises(ConfigurationError, match="leave python out of executors"):
        whole_crew(settings)


# --- environment -----------------------------------------------------------------


def test_the_programs_find_the_settings_and_no_secret_of_ours(settings):
    given = settings.model_copy(update={"port": 4000, "flower_port": 4001})
    base = {"PATH": "/bin", "HORUS_SECRET": SECRET, "HORUS_URL": "x", "LANG": "C"}
    made = environment(given, base=base)
    assert made["HORUS_PORT"] == "4000"
    assert made["HORUS_FLOWER_PORT"] == "4001"
    assert made["HORUS_EXECUTORS"] == '["python", "system"]'
    assert made["HORUS_STATE_DIR"] == str(settings.state_dir)
    assert made["HORUS_REDIS_URL"].startswith("unix://")
    assert made["LANG"] == "C"
    assert made["PATH"].endswith(":/bin")
    assert "HORUS_URL" not in made
    assert SECRET not in made.values()


def test_secrets_of_the_settings_stay_where_they_were_written(settings):
    given = Settings(state_dir=settings.state_dir, user_secrets=(SECRET,))
    assert all(SECRET not in value for value in environment(given, base={}).values())
    for each in programs(whole_crew(given)):
        assert all(SECRET not in word for word in each.command)


def test_paths_are_handed_on_as_they_were_seen_here(settings):
    given = settings.model_copy(
        update={"actors": (actor(binary_path="/bin/true"),), "tls_cert": Path("/c.pem")}
    )
    made = environment(given, base={})
    assert Settings(actors=made["HORUS_ACTORS"]).actors == given.actors
    assert made["HORUS_TLS_CERT"] == "/c.pem"
    assert "HORUS_ACTORS" not in environment(settings, base={})


def test_of_a_secret_of_the_node_only_its_place_is_handed_on(settings, tmp_path):
    (tmp_path / "token").write_text(SECRET)
    kept = {"token": {"file": str(tmp_path / "token")}}
    given = Settings(state_dir=settings.state_dir, node_secrets=kept)
    made = environment(given, base={})
    assert Settings(node_secrets=made["HORUS_NODE_SECRETS"]) == Settings(
        node_secrets=given.node_secrets
    )
    assert SECRET not in str(made)
    assert "HORUS_NODE_SECRETS" not in environment(settings, base={})


def test_the_file_that_counts_is_handed_on(settings):
    (settings.state_dir / "horus.toml").write_text("port = 1")
    made = environment(settings, base={"PATH": "/bin"})
    assert made["HORUS_CONFIG"] == str(settings.state_dir / "horus.toml")


# --- addresses -------------------------------------------------------------------


def test_port_0_takes_free_ports_that_differ(settings):
    chosen = with_ports(settings)
    assert chosen.port
    assert chosen.flower_port
    assert chosen.port != chosen.flower_port


def test_a_port_that_is_taken_is_refused_with_the_remedy(settings, taken_port):
    given = settings.model_copy(update={"port": taken_port})
    with pytest.raises(ConfigurationError, match=f"port {taken_port} .*--port"):
        with_ports(given)


def test_flower_moves_unless_its_port_was_chosen(tmp_path, taken_port):
    chosen = Settings(state_dir=tmp_path, port=0, flower_port=taken_port)
    with pytest.raises(ConfigurationError, match="flower_port"):
        with_ports(chosen)
    by_default = Settings.model_construct(
        _fields_set={"port"}, **{**dict(chosen), "flower_port": taken_port}
    )
    assert with_ports(by_default).flower_port != taken_port


def test_an_address_that_is_not_of_this_machine_is_refused(settings):
    given = settings.model_copy(update={"bind_address": "nowhere.invalid"})
    with pytest.raises(ConfigurationError, match=r"no address 'nowhere\.invalid'"):
        with_ports(given)


@pytest.mark.parametrize(
    ("bind", "login", "address"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("::1", None, "::1"),
        ("0.0.0.0", None, "127.0.0.1"),  # noqa: S104 - not bound to
        ("192.168.0.7", None, "127.0.0.1"),
        ("192.168.0.7", "me:secret", "192.168.0.7"),
    ],
)
def test_flower_is_on_loopback_or_behind_a_password(bind, login, address):
    given = Settings(bind_address=bind, flower_basic_auth=login, insecure_http=True)
    assert given.flower_address == address


def test_a_person_is_shown_an_address_that_can_be_opened():
    everywhere = Settings(bind_address="0.0.0.0", insecure_http=True)  # noqa: S104 - not bound to
    assert everywhere.api_url == "http://127.0.0.1:3030"
    assert Settings(bind_address="::1").api_url == "http://[::1]:3030"
    named = Settings(bind_address="horus.lan", tls_cert="cert", tls_key="key")
    assert named.api_url == "https://horus.lan:3030"
    assert named.flower_url == "http://127.0.0.1:5555"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_addresses_that_cannot_be_read_are_none(tmp_path, text):
    state = StateDirectory(tmp_path)
    assert read_addresses(state) is None
    state.run.mkdir()
    (state.run / "up.json").write_text(text)
    assert read_addresses(state) is None


def test_without_flower_no_port_is_chosen_for_it(tmp_path, taken_port):
    chosen = Settings(state_dir=tmp_path, port=0, flower_port=taken_port)
    assert with_ports(chosen, flower=False).flower_port == taken_port


# --- what is told ----------------------------------------------------------------


def status(word, pid, name="api"):
    return {name: ProgramStatus(name=name, pid=pid, word=word)}


def told(*looks):
    """Return what is said of programs at the last of some looks at them."""
    changes = Changes(Path("/logs"))
    return [changes.seen(look, {}) for look in looks][-1]


def told_of_windows(*looks):
    changes = Changes(Path("/logs"))
    return [changes.seen({}, look) for look in looks][-1]


def test_a_program_that_died_is_told_with_its_log():
    for after in (status("RUNNING", 2), status("EXITED", 0)):
        assert told(status("RUNNING", 1), after) == (
            "api ended and is started again; its log: /logs/api.log",
        )
    assert told(status("BACKOFF", 0), status("FATAL", 0)) == (
        "api ended again and again and stays down; its log: /logs/api.log",
    )


def test_one_that_somebody_stopped_is_told_as_that():
    assert told(status("RUNNING", 1), status("STOPPED", 0)) == (
        "api was stopped; its log: /logs/api.log",
    )
    assert not told(status("RUNNING", 1), status("STOPPING", 1))
    assert not told(status("STOPPED", 0), status("STARTING", 2))


def test_an_actor_is_told_by_its_name():
    name = "actor.a+b"
    assert told(status("RUNNING", 1, name), status("FATAL", 0, name)) == (
        "a:b ended again and again and stays down; its log: /logs/actor.a+b.log",
    )


def test_what_ended_in_a_window_is_told_once():
    assert told_of_windows({"a": "running"}, {"a": "crashed"}) == (
        "a ended and stays down; its window of tmux shows what it said",
    )
    assert told_of_windows({"a": "running"}, {"a": "stopped"}) == ("a was stopped",)
    assert not told_of_windows({"a": "crashed"}, {"a": "crashed"})
    assert not told_of_windows({"a": "stopped"}, {"a": "running"})


def test_what_happened_while_a_process_manager_was_silent_is_told_after_it():
    before, after = status("RUNNING", 1), status("RUNNING", 2)
    assert told(before, {}, after) == told(before, after)
    assert told_of_windows({"a": "running"}, {}, {"a": "stopped"})
    assert not told_of_windows({"a": "stopped"}, {}, {"a": "stopped"})


def test_a_program_that_goes_on_is_no_news():
    assert not told({}, status("RUNNING", 1))
    assert not told(status("EXITED", 0), status("RUNNING", 2))
    assert not told(status("STARTING", 1), status("RUNNING", 1))


def test_the_last_words_of_a_log_are_one_clean_line(tmp_path):
    log = tmp_path / "api.log"
    assert last_words(log) == ""
    log.write_bytes(b"first\nlast\x1b[31m \xff words\n\n")
    assert last_words(log) == f": last \ufffd words (its log: {log})"
