"""Whatever somebody gives to the commands of the state directory, one line tells."""

from __future__ import annotations

import socket

import pytest

from horus_celery.statedir import StateDirectory

MAKING = [["init"], ["up", "--port", "0"]]
LOOKING = [
    ["key", "list"],
    ["key", "show", "default"],
    ["key", "new", "alice"],
    ["trust", "show"],
    ["trust", "renew"],
    ["trust", "revoke", "x"],
    ["run", "-c", "1"],
]


@pytest.fixture(autouse=True)
def _flower_anywhere(monkeypatch):
    monkeypatch.setenv("HORUS_FLOWER_PORT", "0")


def is_one_line(told):
    return (
        told.code == 1 and told.err.startswith("horus: ") and told.err.count("\n") == 1
    )


def odd_paths(folder):
    (folder / "file").touch()
    (folder / "link").symlink_to(folder / "nowhere")
    return [folder / name for name in ("a" * 300, "a\nb", "file", "file/s", "link")]


@pytest.mark.parametrize("arguments", [*MAKING, *LOOKING])
def test_a_path_that_is_none_is_told_by_every_command(horus, tmp_path, arguments):
    for path in odd_paths(tmp_path):
        told = horus(*arguments, "--state-dir", path)
        assert is_one_line(told), told


def test_the_doctor_tells_of_a_path_that_is_none(horus, tmp_path):
    for path in odd_paths(tmp_path):
        assert horus("doctor", "--state-dir", path).code == 1


@pytest.mark.parametrize("arguments", LOOKING)
def test_a_state_directory_that_is_not_there_is_said_to_be_not_there(
    horus, state_dir, arguments
):
    told = horus(*arguments)
    assert is_one_line(told)
    assert f"there is no state directory at {state_dir}" in told.err
    assert not state_dir.exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("192.0.2.1", "there is no address '192.0.2.1' to listen on"),
        ("2001:db8::1", "there is no address '2001:db8::1' to listen on"),
        ("a" * 300, "there is no address"),
        ("nowhere.invalid", "there is no address"),
    ],
)
@pytest.mark.parametrize("port", ["0", "3999"])
def test_an_address_that_is_not_of_this_machine_makes_nothing(
    horus, state_dir, monkeypatch, address, said, port
):
    monkeypatch.setenv("HORUS_INSECURE_HTTP", "true")
    told = horus("up", "--bind-address", address, "--port", port)
    assert is_one_line(told)
    assert said in told.err
    assert not state_dir.exists()


def test_other_machines_are_not_let_in_without_tls(horus, state_dir):
    told = horus("up", "--bind-address", "0.0.0.0", "--port", "0")  # noqa: S104 - it is refused
    assert is_one_line(told)
    for way_out in ("tls_cert and tls_key", "127.0.0.1", "insecure_http = true"):
        assert way_out in told.err
    assert not state_dir.exists()


def test_a_taken_port_makes_nothing(horus, state_dir):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        told = horus("up", "--port", port)
    assert is_one_line(told)
    assert f"port {port} of 127.0.0.1 is taken" in told.err
    assert not state_dir.exists()


@pytest.mark.parametrize("arguments", MAKING)
def test_a_key_that_others_may_read_stops_the_start(horus, state_dir, arguments):
    horus("init")
    path = StateDirectory(state_dir).root_key
    path.chmod(0o644)
    told = horus(*arguments)
    assert is_one_line(told)
    assert f"chmod 600 {path}" in told.err
    assert "as it must be" not in told.out
    assert f"chmod 600 {path}" in horus("doctor").out


@pytest.mark.parametrize("name", ["run/up.lock", "run/changes.lock"])
def test_a_lock_that_cannot_be_opened_is_told(horus, state_dir, name):
    horus("init")
    path = state_dir / name
    path.unlink(missing_ok=True)
    path.mkdir()
    told = horus("up", "--port", "0")
    assert is_one_line(told)
    assert str(path) in told.err


def test_the_doctor_tells_a_fault_once(horus, state_dir):
    horus("init")
    (state_dir / "trust.json").write_text("{}")
    told = horus("doctor")
    assert told.code == 1
    assert told.out.count("trust.json") == 1
