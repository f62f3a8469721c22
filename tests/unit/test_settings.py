"""Settings: where they come from, which wins, and what is said of a wrong one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horus_celery.errors import ConfigurationError
from horus_celery.settings import (
    OTHER_VARIABLES,
    Origin,
    Settings,
    Source,
    load_settings,
    load_with_origins,
)

SECRET = "an0ther-secret-that-nobody-guesses"  # noqa: S105 - opens nothing
WRONG = [
    ("port", "abc", "must be a whole number from 0 to 65535"),
    ("port", "70000", "must be a whole number from 0 to 65535"),
    ("namespace", "two words", "must be 1 to 128 letters, digits"),
    ("redis_url", "http://127.0.0.1", "redis"),
    ("executors", "python,python", "twice"),
    ("executors", "[]", "must be a list of at least one name, such as python"),
    ("concurrency", "0", "must be a whole number from 1 to 1024"),
    ("max_batch", "101", "100"),
    ("max_job_bytes", str(2**21), "1048576"),
    ("flower_basic_auth", "nocolon", "USER:PASSWORD"),
    ("admin_secrets", '["short"]', "too easy to guess"),
    ("admin_secrets", f'["{"a" * 40}"]', "too easy to guess"),
    ("admin_secrets", '["0123456789abcdef0123456"]', "too easy to guess"),
    ("admin_secrets", '["with a space in it 0123456789"]', "printable"),
    ("admin_secrets", "[", 'write ["A", "B"], or A,B'),
    ("executors", "[" * 100_000, 'write ["A", "B"], or A,B'),
    ("executors", "[1]", "a list of at least one name"),
    ("executors", '{"a": 1}', "a list of at least one name"),
    ("concurrency", "1.0", "must be a whole number from 1 to 1024"),
    ("insecure_http", "maybe", "must be true or false"),
    ("result_ttl", "59", "must be a whole number from 60 to 3153600000 (seconds)"),
    ("result_ttl", "99999999999", "from 60 to 3153600000 (seconds)"),
    ("rate_limit", "0", "must be a whole number that is 1 or more"),
    ("redis_url", "redis://[", "redis"),
    ("tls_cert", "cert.pem", "cannot be without tls_key"),
    ("tls_key", "key.pem", "cannot be without tls_cert"),
    ("bind_address", "0.0.0.0", "insecure_http = true"),  # noqa: S104 - it is refused
    ("bind_address", "horus.lan", "tls_cert and tls_key"),
    ("bind_address", "[::]", "tls_cert and tls_key"),
    ("bind_address", "[::1", "tls_cert and tls_key"),
    ("allowed_hosts", "https://example.org", "without scheme and port"),
    ("allowed_hosts", "*", "without scheme and port"),
    ("allowed_origins", "*", "and not *"),
    ("allowed_origins", "example.org", "such as https://example.org"),
    ("allowed_origins", "https://example.org/path", "such as https://example.org"),
    ("allowed_origins", "ftp://example.org", "such as https://example.org"),
    ("trusted_proxies", "proxy.lan", "an address or a network"),
    ("trusted_proxies", "10.0.0.0/33", "an address or a network"),
    ("actors", "a,b", "must be tables under [[actors]]"),
    ("user_secrets", '[{"contexts": ["a"]}]', "user_secrets[0] is missing"),
    ("node_secrets", "a=b", 'is no table: write JSON such as {"NAME": {"file"'),
    ("node_secrets", "[" * 100_000, "is no table"),
    ("node_secrets", '["a"]', "must be a table of secrets, such as NAME = {file ="),
    ("user_secrets", f'[{{"secret": "{SECRET}", "contexts": []}}]', "list of names"),
    (
        "admin_secrets",
        f'[{{"secret": "{SECRET}", "contexts": ["a"]}}]',
        "only user_secrets may have contexts",
    ),
]
#: A text, the line that is named, and what is said of it.
WRONG_LINES = [
    ("# a comment\n\nport = 70000", 3, "port must be a whole number from 0 to 65535"),
    ('port = "3030"', 1, "port must be a whole number"),
    ("port = true", 1, "port must be a whole number"),
    ('insecure_http = "true"', 1, "insecure_http must be true or false"),
    ("insecure_http = 1", 1, "insecure_http must be true or false"),
    ("namespace = 2020-01-01", 1, "namespace must be 1 to 128 letters"),
    ('port = 1\nnamspace = "a"', 2, "'namspace' is no setting (did you mean namesp"),
    ("port = 1\n[jobs]\nport = 1", 2, "'jobs' is no setting"),
    ("executors = [\n 'python',\n 'a b']", 3, "executors must be a list"),
    ("executors = [\n {name = 'a'},\n 'a b']", 3, "executors must be a list"),
    ("executors = [\n 'python',\n {}]", 3, "executors[0].name is missing"),
    ("allowed_origins = [\n 'https://a.org',\n '*']", 3, "allowed_origins[1] must be"),
    (
        "[[executors]]\nname = 'a'\ncommand = ['b']",
        3,
        "executors[0].command must be a list of words such as",
    ),
    (
        "[[executors]]\nname = 'a'\ncommand = ['b', 'c']",
        3,
        "executors[0].command must hold the word {script} once",
    ),
    (
        "[[executors]]\nname = 'flower'\ncommand = ['b', '{script}']",
        2,
        "executors[0].name 'flower' is taken",
    ),
    (
        "[[executors]]\nname = 'python'\ncommand = ['b', '{script}']",
        2,
        "executors[0].name 'python' is taken: choose another name",
    ),
    ("[actors]\nid = 'a'", 1, "actors must be tables under [[actors]]"),
    ("\n[executors]\nname = 'a'", 2, "executors must be tables under [[executors]]"),
    (
        "[[actors]]\nid = 'a'\nexector = 'python'",
        3,
        "actors[0].exector is no setting (did you mean executor?)",
    ),
    (
        f"user_secrets = [\n {{secert = '{SECRET}'}}]",
        2,
        "user_secrets[0].secert is no setting (did you mean secret?)",
    ),
    ("\ufeff\nport = 'x'", 2, "port must be a whole number"),
    ("[[actors]]\nid = 'a'", 1, "actors[0].executor is missing: it must be 1 to"),
    ("[[actors]]\n\nid = 'a b'\nexecutor='x'", 3, "actors[0].id must be 1 to 128"),
    ("user_secrets = [\n 'short',\n]", 2, "user_secrets[0] is too easy to guess"),
    (
        f"user_secrets = [\n '{SECRET}',\n {{secret = '{SECRET}2', context = ['a']}}]",
        3,
        "user_secrets[1].context is no setting (did you mean contexts?)",
    ),
    (
        f"admin_secrets = ['{SECRET}']\nuser_secrets = ['{SECRET}']",
        2,
        "user_secrets[0] stands twice",
    ),
    ("[node_secrets]\n\n'a b' = {file = 'x'}", 3, "node_secrets must be a table of"),
    ("[node_secrets]\nport = 'x'", 2, "node_secrets must be a table of secrets"),
    ("[node_secrets.port]\n\nfile = 5", 3, "node_secrets.port.file must be a path"),
    ("[node_secrets]\na = {}", 2, "node_secrets.a.file is missing: it must be a path"),
    (
        f"[node_secrets.a]\nfile = 'x'\nflie = '{SECRET}'",
        3,
        "node_secrets.a.flie is no setting (did you mean file?)",
    ),
    (
        f"[node_secrets]\na = {{file = 'x', value = '{SECRET}'}}",
        2,
        "node_secrets.a.value is no setting",
    ),
    ("node_secrets = ['a']", 1, "node_secrets must be a table of secrets, such as"),
    ("tls_key = 'key.pem'", 1, "tls_key cannot be without tls_cert"),
    ("port = 1\nbind_address = '0.0.0.0'", 2, "bind_address would let other"),
]
ACTOR = "[[actors]]\nid = '{}'\nexecutor = 'python'\n"
#: What follows the table of an actor on line 4, and what is said of it.
WRONG_ACTORS = [
    ("concurrency = 0", "concurrency must be a whole number from 1 to 1024"),
    ("concurrency = '4'", "concurrency must be a whole number from 1 to 1024"),
    ("concurency = 4", "concurency is no setting (did you mean concurrency?)"),
    ("contexts = []", 'contexts must be a list of names, or ["*"]'),
    ("contexts = ['a', 'a']", "contexts names one twice"),
    ("contexts = ['a b']", 'contexts must be a list of names, or ["*"]'),
    ("process_manager = 'zinit'", 'cannot be "zinit", which is not there yet'),
    ("process_manager = 'tmux'", 'process_manager must be "simple" or "tmux:SESSION"'),
    ("process_manager = 'tmux:a b'", 'must be "simple" or "tmux:SESSION"'),
    ("process_manager = 5", 'must be "simple" or "tmux:SESSION"'),
    ("stop_timeout = 0", "stop_timeout must be a whole number from 1 to 86400"),
    ("binary_path = 'nothing'", "nothing, which is no file that this user may execute"),
    ("binary_path = '/etc'", "names /etc, which is no file"),
    ("binary_path = '/etc/passwd'", "names /etc/passwd, which is no file"),
    ("db_path = 5", "db_path must be a path"),
    ("python_env = '/etc'", "/etc, which has no Python: make it with `python3 -m venv"),
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(text=None, *, env=None, **flags):
    if text is not None:
        Path("horus.toml").write_text(text)
    flags.setdefault("state_dir", "state")
    return load_settings(env=env or {}, **flags)


def test_the_defaults_are_those_of_the_protocol():
    settings = load_settings(env={"HORUS_CONFIG": ""})
    assert settings.namespace == "hero"
    assert settings.bind_address == "127.0.0.1"
    assert settings.port == 3030
    assert settings.redis_url is None
    assert settings.state_dir == Path("~/.horus").expanduser()
    assert settings.admin_secrets == ()


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file():
    text = 'port = 1001\nnamespace = "file"\nbind_address = "127.0.0.3"'
    env = {"HORUS_PORT": "1002", "HORUS_NAMESPACE": "variable"}
    settings = load(text, env=env, port=1003)
    assert settings.port == 1003
    assert settings.namespace == "variable"
    assert settings.bind_address == "127.0.0.3"


def test_a_flag_that_is_none_is_absent():
    assert load("port = 1001", port=None).port == 1001


def test_an_empty_variable_is_absent():
    assert load(env={"HORUS_PORT": ""}).port == 3030


def test_the_file_of_the_variable_wins_over_the_one_of_the_folder():
    Path("other.toml").write_text("port = 1002")
    assert load("port = 1001", env={"HORUS_CONFIG": "other.toml"}).port == 1002


def test_the_file_of_the_working_directory_wins_over_that_of_the_state_directory():
    Path("state").mkdir()
    Path("state/horus.toml").write_text("port = 1001")
    assert load().port == 1001
    assert load("port = 1002").port == 1002


def test_lists_are_written_as_json_or_between_commas():
    assert load(executors="python, system").executors == ("python", "system")
    env = {"HORUS_EXECUTORS": '["system"]'}
    assert load(env=env).executors == ("system",)
    assert load('executors = ["python"]').executors == ("python",)


def test_the_state_directory_is_absolute():
    assert load(state_dir="here").state_dir == Path.cwd() / "here"


def complaint(variable, value):
    try:
        load(env={variable: value})
    except ConfigurationError as error:
        return error.detail
    return None


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_a_wrong_value_is_named_with_where_it_stands(name, value, said):
    variable = f"HORUS_{name.upper()}"
    env = {variable: value}
    with pytest.raises(ConfigurationError) as caught:
        load(env=env)
    assert name in caught.value.detail
    assert variable in caught.value.detail
    assert said in caught.value.detail


def test_a_name_that_stands_twice_is_told_to_do_so():
    text = "executors = ['python']\n[[executors]]\nname = 'a'\n"
    with pytest.raises(ConfigurationError) as refusal:
        load(text)
    assert refusal.value.detail.endswith(
        "horus.toml is no TOML: a name stands there twice, at line 2, column 12"
    )


def test_names_and_tables_of_executors_may_stand_in_one_list():
    one = '{ name = "perl", command = ["perl", "{script}"] }'
    settings = load(f'executors = ["osis", "perl", {one}]\n')
    assert settings.executors == ("osis", "perl")
    assert [own.name for own in settings.executor_commands] == ["perl"]


@pytest.mark.parametrize(("text", "line", "said"), WRONG_LINES)
def test_what_is_wrong_in_the_file_is_named_with_its_line(text, line, said):
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    path = Path("horus.toml").absolute()
    assert caught.value.detail.startswith(f"{path} line {line}: {said}")


@pytest.mark.parametrize(("text", "said"), WRONG_ACTORS)
def test_what_is_wrong_with_an_actor_is_named_with_its_line(text, said):
    with pytest.raises(ConfigurationError) as caught:
        load(ACTOR.format("a") + ACTOR.format("b") + text)
    path = Path("horus.toml").absolute()
    assert caught.value.detail.startswith(f"{path} line 7: actors[1].")
    assert said in caught.value.detail


@pytest.mark.parametrize("field", ["id", "name"])
def test_no_two_actors_are_called_alike(field):
    text = (
        ACTOR.format("a") + "name = 'b'\n" + ACTOR.format("a" if field == "id" else "b")
    )
    with pytest.raises(
        ConfigurationError, match="is another actor's as well"
    ) as caught:
        load(text)
    assert f"actors[1].{field}" in caught.value.detail


def test_an_actor_is_what_the_protocol_shows():
    program = Path("runner")
    program.touch(0o700)
    actor = load(
        "[[actors]]\nid = 'osis_1'\nexecutor = 'osis'\nconcurrency = 4\n"
        "contexts = ['a', 'b']\nprocess_manager = 'tmux:horus'\n"
        "binary_path = 'runner'\ndb_path = '/var/lib/horus/osis'"
    ).actors[0]
    assert (actor.id, actor.name, actor.executor) == ("osis_1", "osis_1", "osis")
    assert actor.concurrency == 4
    assert actor.contexts == ("a", "b")
    assert actor.process_manager == "tmux:horus"
    assert actor.binary_path == program.absolute()
    assert actor.db_path == Path("/var/lib/horus/osis")


def test_an_actor_needs_little():
    (actor,) = load(ACTOR.format("a")).actors
    assert actor.name == "a"
    assert actor.contexts == ("*",)
    assert actor.process_manager == "simple"
    assert (actor.concurrency, actor.stop_timeout) == (1, 60)


def test_actors_may_come_by_a_variable():
    env = {"HORUS_ACTORS": '[{"id": "a", "executor": "python"}]'}
    assert load(env=env).actors[0].name == "a"


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_a_file_of_tls_that_cannot_be_read_is_named_with_its_line(name):
    Path("there").touch()
    paths = {"tls_cert": "there", "tls_key": "there", name: "nowhere"}
    text = "\n".join(f"{key} = '{path}'" for key, path in paths.items())
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    line = list(paths).index(name) + 1
    assert f"line {line}: {name} names {Path.cwd()}/nowhere" in caught.value.detail
    assert "No such file" in caught.value.detail


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "redis_url = 'rediss://h?ssl_ca_certs=/nowhere/ca.pem'",
            "redis_url names /nowhere/ca.pem as ssl_ca_certs: No such file",
        ),
        ("redis_url = 'rediss://h?ssl_keyfile=/nowhere'", "as ssl_keyfile: No such"),
        ("herodb_url = 'rediss://h?ssl_keyfile=/nowhere'", "as ssl_keyfile: No such"),
        ("v_path = '/nowhere'", "which is no file that this user may execute"),
        ("hero_cli = 'there'", "which is no file that this user may execute"),
        ("python_env = '/nowhere'", "which has no Python: make it with `python3 -m"),
        ("state_dir = 'there'", "there, which is no directory: remove it"),
    ],
)
def test_a_path_that_cannot_be_used_is_named_with_its_line(text, said):
    Path("there").touch()
    with pytest.raises(ConfigurationError) as caught:
        load(f"port = 0\n{text}", state_dir=None)
    assert f"horus.toml line 2: {text.split()[0]} names " in caught.value.detail
    assert said in caught.value.detail


@pytest.fixture
def secret_file():
    path = Path("secret")
    path.write_text("correct horse")
    path.chmod(0o600)
    return path


@pytest.mark.usefixtures("secret_file")
@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("[node_secrets]\ntoken = {file = 'secret'}", {}),
        ("[node_secrets.token]\nfile = 'secret'", {}),
        ("", {"HORUS_NODE_SECRETS": '{"token": {"file": "secret"}}'}),
    ],
)
def test_a_secret_of_the_node_is_known_by_its_file(text, env):
    settings = load(text, env=env)
    assert {name: one.file for name, one in settings.node_secrets.items()} == {
        "token": Path.cwd() / "secret"
    }
    with pytest.raises(TypeError):
        settings.node_secrets["other"] = settings.node_secrets["token"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "which cannot be read: No such file"),
        (lambda file: file.chmod(0o640), "which others may use: chmod 600"),
        (lambda file: file.write_text("short"), "holds a value of less than 8 bytes"),
        (lambda file: file.write_text("x" * 70_000), "is larger than 65536 bytes"),
    ],
    ids=["missing", "open", "short", "large"],
)
def test_a_file_of_a_secret_that_cannot_be_used_is_named_with_its_line(
    secret_file, spoil, said
):
    spoil(secret_file)
    with pytest.raises(ConfigurationError) as caught:
        load("port = 0\n[node_secrets]\n# why\ntoken = {file = 'secret'}")
    place = f"line 4: node_secrets.token.file names {Path.cwd()}/secret, "
    assert place in caught.value.detail
    assert said in caught.value.detail


def test_with_tls_others_are_let_in_and_the_address_is_https():
    Path("there").touch()
    settings = load("bind_address = '0.0.0.0'\ntls_cert = 'there'\ntls_key = 'there'")
    assert settings.api_url == "https://127.0.0.1:3030"


def test_without_tls_others_are_let_in_where_somebody_says_so():
    assert load("bind_address = '::'\ninsecure_http = true").insecure_http
    env = {"HORUS_BIND_ADDRESS": "horus.lan", "HORUS_INSECURE_HTTP": "1"}
    assert load(env=env).api_url == "http://horus.lan:3030"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_this_machine_needs_no_tls(address):
    assert load(bind_address=address).bind_address == address.strip("[]")


def test_an_address_in_brackets_is_one_without():
    settings = load("bind_address = '[::1]'\nflower_basic_auth = 'a:b'")
    assert (settings.bind_address, settings.flower_address) == ("::1", "::1")
    assert settings.api_url == "http://[::1]:3030"


def test_a_user_s_secret_may_be_bound_to_contexts():
    bare, bound = load(
        f"user_secrets = ['{SECRET}', {{secret = '{SECRET}2', contexts = ['a']}}]"
    ).user_secrets
    assert bare.contexts == ("*",)
    assert bound.contexts == ("a",)
    assert bound.secret.get_secret_value() == f"{SECRET}2"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://example.org", "https://example.org"),
        ("https://Example.ORG/", "https://example.org"),
        ("https://example.org:443", "https://example.org"),
        ("http://localhost:080", "http://localhost"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_read_as_browsers_write_it(written, meant):
    assert load(allowed_origins=written).allowed_origins == (meant,)


def test_every_value_has_its_origin():
    Path("horus.toml").write_text('\nport = 1\nnamespace = "a"\nmax_batch = 5')
    env = {"HORUS_NAMESPACE": "b", "HORUS_MAX_BATCH": "6"}
    settings, origins = load_with_origins(env=env, max_batch=7, state_dir="state")
    path = str(Path("horus.toml").absolute())
    assert origins.keys() == Settings.model_fields.keys()
    assert origins["port"] == Origin(source=Source.FILE, name=path, line=2)
    assert str(origins["port"]) == f"{path} line 2"
    assert origins["namespace"] == Origin(
        source=Source.VARIABLE, name="HORUS_NAMESPACE"
    )
    assert str(origins["max_batch"]) == "--max-batch"
    assert str(origins["executors"]) == "default"
    assert (settings.port, settings.namespace, settings.max_batch) == (1, "b", 7)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_what_has_the_wrong_type_is_told_in_words_for_people(name):
    with pytest.raises(ConfigurationError) as caught:
        load(**{name: object()})
    option = "--" + name.replace("_", "-")
    assert caught.value.detail.startswith(f"{option}: {name} must be ")
    assert "None" not in caught.value.detail


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a\nb", "line break"),
        ("a\0b", "cannot be shown"),
        ("a\udcffb", "cannot be shown"),
        ("~no-such-user/x", "write it in full"),
    ],
)
def test_a_path_that_nothing_can_be_made_of_is_named_with_where_it_stands(path, said):
    with pytest.raises(ConfigurationError) as caught:
        load(state_dir=path)
    assert caught.value.detail.startswith("--state-dir: state_dir ")
    assert said in caught.value.detail


def test_a_path_that_is_too_long_is_named_and_no_traceback():
    with pytest.raises(ConfigurationError, match="File name too long"):
        load(state_dir="a" * 300)


def test_a_working_directory_that_was_removed_is_no_traceback(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load(state_dir=str(tmp_path)).state_dir == tmp_path
    with pytest.raises(ConfigurationError, match="beginning with /"):
        load()


def test_a_further_path_of_scripts_that_is_not_there_is_named_with_its_line():
    with pytest.raises(ConfigurationError) as caught:
        load("sandbox_paths = [\n '/etc',\n '/nowhere',\n]")
    said = "line 3: sandbox_paths[1] names /nowhere, which is not there"
    assert said in caught.value.detail


@pytest.mark.parametrize("name", ["redis_url", "herodb_url"])
@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@h",
        f"redis://:{SECRET}?db=x@h",
        f"x:{SECRET}",
        # A password in which somebody has left the letters of an option.
        f"redis://:a?{SECRET}=b@h",
    ],
)
def test_the_address_of_a_redis_is_never_repeated_in_what_is_said(name, url):
    with pytest.raises(ConfigurationError) as caught:
        load(f"{name} = '{url}'")
    assert f"line 1: {name} " in caught.value.detail
    assert SECRET not in caught.value.detail


def test_an_address_of_a_redis_is_not_in_the_settings_as_text():
    settings = load(redis_url=f"redis://:{SECRET}@h")
    assert SECRET not in f"{settings!r} {settings}"


def test_an_unknown_key_of_the_file_is_named_with_the_nearest_one():
    with pytest.raises(ConfigurationError, match=r"'prot' .*did you mean port\?"):
        load("prot = 3")


def test_an_unknown_variable_is_named_with_the_nearest_one():
    with pytest.raises(ConfigurationError, match=r"HORUS_PROT .*HORUS_PORT"):
        load(env={"HORUS_PROT": "3"})


def test_variables_that_a_script_finds_are_no_settings():
    assert load(env=dict.fromkeys(OTHER_VARIABLES - {"HORUS_CONFIG"}, "x")).port == 3030


@pytest.mark.parametrize(
    "text", ["port = ", "[[[", "port = 1\nport = 2", "a" * 300_000]
)
def test_a_file_that_is_no_toml_is_named(text):
    with pytest.raises(ConfigurationError, match=r"horus\.toml"):
        load(text)


def test_a_number_that_python_does_not_read_is_named_with_its_line():
    with pytest.raises(ConfigurationError, match="a number is too long, at line 2"):
        load(f"namespace = 'a'\nport = {'9' * 5000}")


def test_a_file_that_is_not_utf8_is_named():
    Path("horus.toml").write_bytes(b'namespace = "\xff"')
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load()


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: No such file"):
        load_settings(env={}, config=Path("nowhere.toml"))


def test_one_secret_may_not_open_two_scopes():
    with pytest.raises(ConfigurationError, match="twice"):
        load(admin_secrets=[SECRET], user_secrets=[SECRET])


def test_a_secret_is_never_shown():
    settings = load(
        admin_secrets=[SECRET],
        flower_basic_auth=f"me:{SECRET}",
        redis_url=f"redis://:{SECRET}@127.0.0.1",
    )
    assert SECRET not in repr(settings)
    assert settings.admin_secrets[0].secret.get_secret_value() == SECRET


@given(st.sampled_from(sorted(Settings.model_fields)), st.text())
def test_whatever_a_variable_holds_is_taken_or_refused_with_its_name(name, value):
    said = complaint(f"HORUS_{name.upper()}", value)
    assert said is None or (name in said.lower() and "\n" not in said)


def test_reading_settings_is_light():
    code = "import sys, horus_celery.settings; print(*sys.modules)"
    modules = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    ).stdout.split()
    assert not {"celery", "flask", "redis", "httpx"} & set(modules)


# --- supervisors elsewhere -------------------------------------------------------

OTHER = """
[[supervisors]]
name = '{}'
url = 'https://n.example.org'
secret_file = 'secret'
"""


def test_another_supervisor_is_named_with_its_secret(secret_file):
    (other,) = load(OTHER.format("north")).supervisors
    assert (other.name, other.url) == ("north", "https://n.example.org")
    assert (other.secret_file, other.tls_ca) == (secret_file.absolute(), None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OTHER.format("a b"), "supervisors[0].name must be"),
        (OTHER.format("a").replace("https:", "ftp:"), "supervisors[0].url must be"),
        (OTHER.format("a").replace("//n", "//u:p@n"), "supervisors[0].url must be"),
        (OTHER.format("a").replace("'secret'", "'x'"), "supervisors[0].secret_file"),
        (OTHER.format("a") + "tls_ca = 'x'", "supervisors[0].tls_ca names"),
        (OTHER.format("a") * 2, "'a' is another supervisor's as well"),
    ],
)
def test_what_is_wrong_with_another_supervisor_is_named(secret_file, text, said):
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert said in caught.value.detail
