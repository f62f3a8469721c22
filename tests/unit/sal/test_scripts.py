"""Objects of SAL in the hands of a Rhai script."""

from __future__ import annotations

import pytest

from workers import sal

horus_rhai = pytest.importorskip(
    "horus_rhai", reason="needs the Rhai engine: pip install ./workers/rhai_engine"
)


@pytest.fixture
def rhai(script):
    """Run a Rhai script that has all functions, and return its value."""

    def offered(one):
        least = sum(each.is_required for each in one.parameters)
        return horus_rhai.Function(
            lambda *args: one.invoke(script.session, args), least, len(one.parameters)
        )

    engine = horus_rhai.Engine(
        {name: offered(one) for name, one in sal.FUNCTIONS.items()}
    )
    return lambda source: engine.run(engine.compile(source))


def test_a_script_holds_objects_and_calls_what_they_have(rhai, folder):
    (folder / "page").write_text("{{ name }} says {{ said }}")
    source = """
        let asked = run("printf 'a-b'").silent().env(#{ A: "1" });
        let said = asked.execute().stdout;
        let other = text_replacer_new()
            .pattern("-").replacement("+")
            .and().pattern("A").replacement("c").case_insensitive(true)
            .build().replace(said);
        file_write("deep/file", other);
        template_builder_open("page")
            .add_vars(#{ name: name_fix("My Name"), said: file_read("deep/file") })
            .render()
    """
    assert rhai(source) == "my_name says c+b"


def test_what_a_property_holds_can_be_called_as_well(rhai):
    assert rhai('let r = run_silent("echo hi"); r.stdout.trim(); r.stdout.len()') == 3


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("bah_new()", "ErrorFunctionNotFound"),
        ('run("true").nothing()', "ErrorFunctionNotFound"),
        ('exist("a", "b")', "ErrorFunctionNotFound"),
        ('run("true").nothing', "ErrorDotExpr"),
        ('let r = run_silent("true"); r.code = 1;', "ErrorDotExpr"),
    ],
)
def test_what_is_not_there_is_not_found_as_rhai_says_it(rhai, source, error):
    caught = rhai(f"let e = (); try {{ {source} }} catch (it) {{ e = it; }} e.error")
    assert caught == error


def test_a_failure_is_caught_with_its_sentence(rhai, folder):
    source = 'let e = (); try { file_read("a") } catch (it) { e = it; } e.message'
    assert rhai(source) == "file_read: No such file or directory: a"


def test_a_failure_that_is_not_caught_ends_the_script(rhai, folder):
    with pytest.raises(sal.SalError, match="file_read: No such file"):
        rhai('file_read("a")')


def test_an_object_as_a_value_is_its_properties(rhai):
    result = rhai('run_silent("echo hi")')
    assert result.rhai_plain() == {
        "stdout": "hi\n",
        "stderr": "",
        "success": True,
        "code": 0,
        "truncated": False,
    }
    with pytest.raises(sal.SalError, match="a Command is no value"):
        rhai('run("true")').rhai_plain()
