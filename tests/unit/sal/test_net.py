"""SAL's functions that reach other machines; here they are all this one."""

from __future__ import annotations

import pytest

from workers.sal import Net

from .conftest import make_script


def test_a_port_is_open_or_not(script, web, closed_port):
    assert script("tcp_check", "127.0.0.1", web.port) is True
    assert script("tcp_check", "127.0.0.1", closed_port) is False
    assert script("tcp_check", "no-such-host.invalid", 80, 1) is False


def test_a_connection_takes_some_milliseconds(script, web, closed_port):
    assert 0 < script("tcp_ping", "127.0.0.1", web.port, 5) < 5000
    said = script.refusal("tcp_ping", "127.0.0.1", closed_port)
    assert f"127.0.0.1, port {closed_port} cannot be reached" in said


@pytest.mark.parametrize("port", [0, 65536, -1, "80", True])
@pytest.mark.parametrize("name", ["tcp_check", "tcp_ping"])
def test_what_is_no_port_is_refused(script, name, port):
    assert script.refusal(name, "127.0.0.1", port).startswith(f"{name}: port must be")


def test_the_status_of_an_address_is_told(script, web):
    web.answer("GET", "/a", (200, b"{}"))
    web.answer("GET", "/moved", (302, b"/a"))
    web.answer("GET", "/broken", (503, b"{}"))
    assert script("http_status", f"{web.url}/a") == 200
    assert script("http_status", f"{web.url}/moved") == 200
    assert script("http_status", f"{web.url}/broken") == 503
    assert script("http_status", f"{web.url}/missing") == 404


def test_an_address_that_answers_with_success_is_well(script, web, closed_port):
    web.answer("GET", "/a", (204, b""))
    assert script("http_check", f"{web.url}/a") is True
    assert script("http_check", f"{web.url}/missing") is False
    assert script("http_check", f"http://127.0.0.1:{closed_port}/") is False


def test_a_server_that_is_not_there_is_named(script, closed_port):
    said = script.refusal("http_status", f"http://127.0.0.1:{closed_port}/")
    assert f"http://127.0.0.1:{closed_port}/ cannot be reached" in said


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a/b",
        "http://",
        "//a",
        "http://a:b/",
        "",
        "http://[/",
    ],
)
@pytest.mark.parametrize("name", ["http_check", "http_status"])
def test_only_the_web_is_asked(script, name, url):
    assert script.refusal(name, url).startswith(f"{name}: url must ")


def test_a_redirect_to_something_else_than_the_web_is_not_followed(script, web):
    web.answer("GET", "/a", (302, b"file:///etc/passwd"))
    assert "cannot be reached" in script.refusal("http_status", f"{web.url}/a")


# --- ssh ---------------------------------------------------------------------------

SSH = """
if words[-1] == 'fail':
    print('no', file=sys.stderr)
    sys.exit(3)
if words[-2] == 'nobody@there':
    print('ssh: connect to host there: Connection refused', file=sys.stderr)
    sys.exit(255)
print('said', words[-1])
"""


def test_a_command_is_run_elsewhere_word_for_word(script, stand_in):
    ssh = stand_in("ssh", SSH)
    result = script("ssh_execute", "ada@there", "ls $HOME; true")
    assert result.rhai_get("stdout") == "said ls $HOME; true\n"
    assert ssh.calls == [
        [
            *("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--"),
            *("ada@there", "ls $HOME; true"),
        ]
    ]
    assert script.printed() == b"said ls $HOME; true\n"


def test_a_code_from_elsewhere_is_told(script, stand_in):
    stand_in("ssh", SSH)
    assert script("ssh_execute", "there", "fail").rhai_get("code") == 3
    said = script.refusal("ssh_execute_output", "there", "fail")
    assert said == "ssh_execute_output: ssh ended with the code 3: no"


def test_output_from_elsewhere_is_returned_and_not_logged(script, stand_in):
    stand_in("ssh", SSH)
    assert script("ssh_execute_output", "there", "date") == "said date\n"
    assert script.log == []


def test_a_machine_is_there_or_not(script, stand_in):
    stand_in("ssh", SSH)
    assert script("ssh_ping_host", "ada@there") is True
    assert script("ssh_ping_host", "nobody@there") is False
    for name in ("ssh_execute", "ssh_execute_output"):
        said = script.refusal(name, "nobody@there", "date")
        assert "nobody@there cannot be reached: ssh: connect" in said


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "", "a\nb", "a\0b"])
@pytest.mark.parametrize("name", ["ssh_execute", "ssh_execute_output"])
def test_a_host_is_no_option(script, stand_in, host, name):
    ssh = stand_in("ssh", SSH)
    assert script.refusal(name, host, "date").startswith(f"{name}: host must ")
    assert "host must " in script.refusal("ssh_ping_host", host)
    assert ssh.calls == []


def test_there_is_a_command(script, stand_in):
    stand_in("ssh", SSH)
    assert "there is no command" in script.refusal("ssh_execute", "there", " ")


def test_ssh_is_off_unless_the_runner_allows_it(stand_in):
    ssh = stand_in("ssh", SSH)
    script = make_script(net=Net.HOST)
    said = script.refusal("ssh_ping_host", "there")
    assert 'sal_allow = ["ssh"]' in said
    assert ssh.calls == []
