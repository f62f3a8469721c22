"""What a Rhai script's end becomes: its result, or its error."""

from __future__ import annotations

import json

import pytest

rhai = pytest.importorskip(
    "workers.rhai", reason="the Rhai engine is not installed", exc_type=ImportError
)


class Refusal(Exception):
    """Why a function did not do it."""


class Held:
    def rhai_plain(self):
        return {"id": 7}

    def rhai_call(self, name, arguments):
        refuse()


def refuse():
    raise Refusal("not today")


@pytest.fixture
def host():
    functions = {"refuse": refuse, "held": Held, "thing": object}
    offered = {name: rhai.Function.of(call) for name, call in functions.items()}
    return rhai.Host(offered, {}, faults=[Refusal])


@pytest.fixture
def run(host, tmp_path, monkeypatch, capsys):
    """Run a script; return its exit code, its result and what it said."""
    result = tmp_path / "result"
    monkeypatch.setenv("HORUS_RESULT", str(result))

    def ended(script, *args, encoding="utf-8"):
        (tmp_path / "script").write_bytes(script.encode(encoding))
        code = host.run(str(tmp_path / "script"), args)
        said = capsys.readouterr()
        text = result.read_text() if result.exists() else None
        return code, text, said.out, said.err

    return ended


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("1 + 1", "2"),
        ("`a${1}`", "a1"),
        ('"line\\n"', "line\n"),
        ("'c'", "c"),
        ("()", ""),
        ("let x = 1;", ""),
        ("1.5", "1.5"),
        ("true", "true"),
        ("[1, (), 'ä']", '[1,null,"ä"]'),
        ("#{b: 1, a: [#{}]}", '{"a":[{}],"b":1}'),
        ("[1.0 / 0.0]", "[null]"),
        ("blob(2, 7)", "[7,7]"),
        ("held()", '{"id":7}'),
        ("[held()]", '[{"id":7}]'),
        ("fn f(x) { x + 1 } f(1)", "2"),
        ("exit(3)", "3"),
    ],
)
def test_the_value_of_a_script_is_its_result(run, script, result):
    code, text, _, _ = run(script)
    assert (code, text) == (0, result)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("let x = nope;", "Variable not found: nope (line 1, position 9)\n"),
        ("\nlet x = ;", "(line 2, position 9)\n"),
        ("\nrefuse()", "not today (line 2, position 1)\n"),
        ("let a = held();\n  a.save(1)", "not today (line 2, position 5)\n"),
        ("throw 7", "7 (line 1, position 1)\n"),
        ("thing()", "the script's value is a object, which is no result"),
        ("|x| x", "a function cannot leave its script"),
        ("#{at: timestamp()}", "a timestamp cannot leave its script"),
        ("let a = [];\nenv(|x| x)", "cannot leave its script: it has no form outside"),
        ("let a = [];\nenv(timestamp())", "outside (line 2, position 1)\n"),
        ("let a = []; for i in 0..64 { a = [a]; } a", "nested more than 64 deep\n"),
        ('input("rows")', "no input 'rows'; it has none (line 1, pos"),
    ],
)
def test_a_script_that_fails_says_why_and_where(run, script, said):
    code, text, out, err = run(script)
    assert (code, text, out) == (1, None, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_fault_of_a_function_is_no_end_if_the_script_takes_it(run):
    script = 'let said = ""; try { refuse() } catch (e) { said = e.message; } said'
    code, text, _, _ = run(script)
    assert (code, text) == (0, "not today")


def test_what_a_script_prints_is_its_output_and_what_it_debugs_its_error(run):
    code, text, out, err = run('print("a");\ndebug([1]);')
    assert (code, text, out) == (0, "", "a\n")
    assert err == "2:1 | [1]\n"


def test_a_script_has_its_arguments_and_its_environment(run, monkeypatch):
    monkeypatch.setenv("GREETING", "hi")
    _, text, _, _ = run('[args, env("GREETING"), env("NONE")]', "a", "b c")
    assert json.loads(text) == [["a", "b c"], "hi", ""]


@pytest.mark.parametrize(
    ("name", "variable"), [("input", "HORUS_INPUTS"), ("secret", "HORUS_SECRETS")]
)
def test_a_script_reads_what_it_was_given_by_name_alone(
    run, monkeypatch, tmp_path, name, variable
):
    given = tmp_path / "given"
    given.mkdir()
    (given / "rows").write_bytes(b"1\n")
    (given / "bytes").write_bytes(b"\xff")
    monkeypatch.setenv(variable, str(given))
    assert run(f'{name}("rows")')[1] == "1\n"
    for wrong in ("../given/rows", "", ".", "none"):
        assert (
            f"the job has no {name} '{wrong}'; it has bytes, rows"
            in run(f'{name}("{wrong}")')[3]
        )
    assert "is no UTF-8 text" in run(f'{name}("bytes")')[3]


def test_a_script_that_is_no_text_is_refused(run):
    code, _, _, err = run("'ä'", encoding="latin-1")
    assert (code, err) == (1, "the script is no UTF-8 text (byte 1)\n")


def test_a_rehearsal_leaves_nothing_behind(host, capsys):
    host.rehearse()
    assert capsys.readouterr() == ("", "")
