"""Settings: where they come from, which wins, and what is said of a wrong one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horus_celery.errors import ConfigurationError
from horus_celery.settings import OTHER_VARIABLES, Settings, load_settings

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
    ("admin_secrets", '["with a space in it 0123456789"]', "printable"),
    ("admin_secrets", "[", 'write ["A", "B"], or A,B'),
    ("executors", "[" * 100_000, 'write ["A", "B"], or A,B'),
    ("executors", "[1]", "a list of at least one name"),
    ("executors", '{"a": 1}', "a list of at least one name"),
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


@pytest.mark.parametrize("name", Settings.model_fields)
def test_what_has_the_wrong_type_is_told_in_words_for_people(name):
    with pytest.raises(ConfigurationError) as caught:
        load(**{name: object()})
    assert caught.value.detail.startswith(f"{name} (from the command line): must be ")
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
    assert caught.value.detail.startswith("state_dir (from the command line): ")
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


def test_the_address_of_a_redis_is_never_repeated_in_what_is_said():
    for url in (f"http://:{SECRET}@h", f"redis://:{SECRET}@h", f"x:{SECRET}"):
        said = complaint("HORUS_REDIS_URL", url)
        assert SECRET not in str(said)
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
    assert settings.admin_secrets[0].get_secret_value() == SECRET


@given(st.sampled_from(sorted(Settings.model_fields)), st.text())
def test_whatever_a_variable_holds_is_taken_or_refused_with_its_name(name, value):
    said = complaint(f"HORUS_{name.upper()}", value)
    assert said is None or (name in said and "\n" not in said)


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
