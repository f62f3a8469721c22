"""What `horus up` runs: the Procfile's lines, their environment, their addresses."""

from __future__ import annotations

import configparser
import shlex
import socket
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from horus_celery.errors import ConfigurationError
from horus_celery.processes.addresses import (
    read_addresses,
    with_ports,
)
from horus_celery.processes.platform import changes, last_words
from horus_celery.processes.procfile import (
    PLATFORM,
    find_procfile,
    for_executors,
    read_procfile,
)
from horus_celery.processes.programs import environment, programs
from horus_celery.processes.supervisord import (
    GROUP,
    REDIS,
    Program,
    ProgramStatus,
    configuration,
)
from horus_celery.settings import Settings
from horus_celery.statedir import StateDirectory, runner_name

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
    lines = {"api": ["a"], "flower": ["f"], "python": ["p"], "system": ["s"]}
    assert list(for_executors(lines, ["system"])) == ["api", "flower", "system"]


@pytest.mark.parametrize("executor", ["osis", "api", "flower"])
def test_an_executor_without_a_line_is_refused_with_those_that_there_are(executor):
    lines = {"api": ["a"], "flower": ["f"], "python": ["p"]}
    with pytest.raises(ConfigurationError, match=f"'{executor}' here.* are: python"):
        for_executors(lines, [executor])


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
    )
    told = parsed(text)
    assert told[f"program:{REDIS}"]["autostart"] == "true"
    assert told["program:api"]["autostart"] == "false"
    assert told[f"group:{GROUP}"]["programs"] == "api,python"
    before, after = told[f"program:{REDIS}"], told[f"group:{GROUP}"]
    assert int(before["priority"]) < int(after["priority"])


def test_without_a_redis_of_our_own_none_is_run():
    text = configuration([Program(name="api", command=["a"])], redis=None)
    assert REDIS not in text


def test_supervisord_reads_a_command_as_it_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("run", "logs"):
        Path(folder).mkdir()
    command = ["python", "-n", "one@%h", "a b", "100%", "it's"]
    program = Program(name="api", command=command, environment={"LC_ALL": "C"})
    Path("run/supervisord.conf").write_text(configuration([program], redis=None))
    options = ServerOptions()
    options.realize(["-c", "run/supervisord.conf"])
    (group,) = options.process_group_configs
    (process,) = group.process_configs
    assert shlex.split(process.command) == command
    assert process.environment == {"LC_ALL": "C"}


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
    assert all(SECRET not in word for each in programs(given) for word in each.command)


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
    given = Settings(bind_address=bind, flower_basic_auth=login)
    assert given.flower_address == address


def test_a_person_is_shown_an_address_that_can_be_opened():
    assert Settings(bind_address="0.0.0.0").api_url == "http://127.0.0.1:3030"  # noqa: S104 - not bound to
    assert Settings(bind_address="::1").api_url == "http://[::1]:3030"
    assert Settings(bind_address="horus.lan").flower_url == "http://127.0.0.1:5555"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_addresses_that_cannot_be_read_are_none(tmp_path, text):
    state = StateDirectory(tmp_path)
    assert read_addresses(state) is None
    state.run.mkdir()
    (state.run / "up.json").write_text(text)
    assert read_addresses(state) is None


# --- what is told ----------------------------------------------------------------


def status(word, pid):
    return {"api": ProgramStatus(name="api", pid=pid, word=word, exit_status=0)}


def test_a_program_that_died_is_told_with_its_log():
    logs = Path("/logs")
    for after in (status("RUNNING", 2), status("EXITED", 0)):
        again = changes(status("RUNNING", 1), after, logs=logs)
        told = "api ended and is started again; its log: /logs/api.log"
        assert list(again) == [told]
    down = changes(status("BACKOFF", 0), status("FATAL", 0), logs=logs)
    assert list(down) == [
        "api ended again and again and stays down; its log: /logs/api.log"
    ]


def test_a_program_that_goes_on_is_no_news():
    logs = Path("/logs")
    assert not list(changes({}, status("RUNNING", 1), logs=logs))
    assert not list(changes(status("EXITED", 0), status("RUNNING", 2), logs=logs))
    assert not list(changes(status("STARTING", 1), status("RUNNING", 1), logs=logs))


def test_the_last_words_of_a_log_are_one_clean_line(tmp_path):
    log = tmp_path / "api.log"
    assert last_words(log) == ""
    log.write_bytes(b"first\nlast\x1b[31m \xff words\n\n")
    assert last_words(log) == f": last[31m \ufffd words (its log: {log})"
