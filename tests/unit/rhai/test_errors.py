"""What a caller is told of a script that failed."""

from __future__ import annotations

import pickle

import pytest

from tests.unit.rhai.engine import horus_rhai, run

PLACES = [
    ("let x = 1;\n  x.foo()", (2, 5)),
    ("let x = ;", (1, 9)),
    ("\n\nnope", (3, 1)),
    ("fn f() {\n  throw 1\n}\n\nf()", (2, 3)),
    ("[1].map(|x| {\n  nope\n})", (2, 3)),
    ("#!/usr/bin/env rhai\nnope", (2, 1)),
    ("let a = [];\nlet x = a[3];", (2, 11)),
    ('"never closed', (1, 1)),
]


@pytest.mark.parametrize(("script", "place"), PLACES)
def test_an_error_knows_its_place_and_says_it_once(script, place):
    with pytest.raises(horus_rhai.RhaiError) as caught:
        run(script)
    assert (caught.value.line, caught.value.column) == place
    assert "line" not in str(caught.value)
    assert "position" not in str(caught.value)


def test_an_error_in_a_function_names_the_calls():
    with pytest.raises(horus_rhai.RhaiError) as caught:
        run("fn f() { throw 1 }\nfn g() { f() }\ng()")
    assert str(caught.value).splitlines() == [
        "Runtime error: 1",
        "in call to function 'f'",
        "in call to function 'g'",
    ]


def test_where_rhai_does_not_say_the_place_it_is_that_of_the_call():
    with pytest.raises(horus_rhai.RhaiError, match="Division by zero") as caught:
        run("fn f(x) { 1 / x }\nf(0)")
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("thrown", "value"),
    [("1", 1), ('"x"', "x"), ("#{code: [7]}", {"code": [7]}), ("()", None)],
)
def test_an_error_has_what_was_thrown(thrown, value):
    with pytest.raises(horus_rhai.RhaiError) as caught:
        run(f"throw {thrown}")
    assert caught.value.value == value


def test_what_was_thrown_and_has_no_form_in_python_is_its_text():
    with pytest.raises(horus_rhai.RhaiError) as caught:
        run('throw Fn("abs")')
    assert caught.value.value == "Fn(abs)"


def test_every_error_is_a_rhai_error():
    for name in ("RhaiSyntaxError", "RhaiLimitError", "RhaiTerminated"):
        assert issubclass(getattr(horus_rhai, name), horus_rhai.RhaiError)
    assert not issubclass(horus_rhai.NoSuchFunction, horus_rhai.RhaiError)


def test_an_error_survives_pickling():
    with pytest.raises(horus_rhai.RhaiTerminated) as caught:
        run("loop { }", timeout=0.0)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert type(copy) is horus_rhai.RhaiTerminated
    assert (str(copy), copy.reason) == (str(caught.value), "timeout")


REACHING_OUT = [
    ('import "os" as os;', horus_rhai.RhaiSyntaxError),
    ('import "/etc/passwd";', horus_rhai.RhaiSyntaxError),
    ("export let x = 1;", horus_rhai.RhaiSyntaxError),
    ('eval("1")', horus_rhai.RhaiSyntaxError),
    ('"1".eval()', horus_rhai.RhaiSyntaxError),
    ('let e = Fn("eval"); e.call("1")', horus_rhai.RhaiError),
    ('call(Fn("eval"), "1")', horus_rhai.RhaiError),
    ('open_file("/etc/passwd")', horus_rhai.RhaiError),
    ("get_fn_metadata_list().x", horus_rhai.RhaiError),
]


@pytest.mark.parametrize(("script", "error"), REACHING_OUT)
def test_a_script_reaches_nothing_beyond_what_it_was_given(script, error):
    with pytest.raises(error):
        run(script)


def test_print_and_debug_go_to_their_callables_and_nowhere_else(capfd):
    heard: list[object] = []
    script = 'print("a"); print(1, 2);\n  debug("b"); print()'
    with pytest.raises(horus_rhai.RhaiError, match="Function not found: print"):
        run(script, print=heard.append)
    heard.clear()
    script = 'print("a");\n  debug("b"); print([1]); print()'
    run(script, print=heard.append, debug=lambda *given: heard.append(given))
    assert heard == ["a", ('"b"', 2, 3), "[1]", ""]
    run(script)
    assert capfd.readouterr() == ("", "")


def test_an_exception_of_print_ends_the_script():
    def full(_text):
        raise BufferError("full")

    with pytest.raises(BufferError, match="full"):
        run("loop { try { print(1) } catch { } }", print=full)
    with pytest.raises(BufferError, match="full"):
        run("print(1)", print=full)
