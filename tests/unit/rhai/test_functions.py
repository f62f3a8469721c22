"""Python functions as a script calls them, and their exceptions."""

from __future__ import annotations

import pytest

from tests.unit.rhai.engine import horus_rhai, run


class Refused(Exception):
    """Raised by a function of ours."""


class Unprintable(Exception):
    """Has no text."""

    def __str__(self):
        raise ValueError


def failing(error):
    def fail(*_):
        raise error

    return fail


def test_arguments_arrive_by_position_and_the_result_comes_back():
    assert run('f(1, "a", [2])', {"f": lambda *given: [len(given), given]}) == [
        3,
        [1, "a", [2]],
    ]


def test_the_counts_of_arguments_are_read_off_a_signature():
    def f(a, b=2, *, c=3):
        return [a, b, c]

    assert run("f(1)", {"f": f}) == [1, 2, 3]
    assert run("f(1, 5)", {"f": f}) == [1, 5, 3]
    for script in ("f()", "f(1, 2, 3)"):
        with pytest.raises(horus_rhai.RhaiError, match="Function not found: f"):
            run(script, {"f": f})


def test_or_given_with_the_function():
    f = horus_rhai.Function(lambda *given: len(given), 1, 2)
    assert run("f(0) + f(0, 0)", {"f": f}) == 3
    with pytest.raises(horus_rhai.RhaiError, match="Function not found"):
        run("f()", {"f": f})


def test_a_function_takes_up_to_16_arguments():
    def count(*given):
        return len(given)

    sixteen = ", ".join("0" * 16)
    assert run(f"f({sixteen})", {"f": count}) == 16
    with pytest.raises(ValueError, match="at most 16"):
        horus_rhai.Engine({"f": horus_rhai.Function(count, 0, 17)})
    with pytest.raises(ValueError, match="2 to 1"):
        horus_rhai.Engine({"f": horus_rhai.Function(count, 2, 1)})


def test_a_function_that_needs_names_is_refused():
    def f(*, named):
        return named

    with pytest.raises(ValueError, match="needs 'named' by name"):
        horus_rhai.Engine({"f": f})


def test_a_function_is_a_method_too_and_may_be_pointed_at():
    functions = {"shout": lambda text: text.upper()}
    assert run('"a".shout()', functions) == "A"
    assert run('Fn("shout").call("b")', functions) == "B"
    assert run('["a", "b"].map(Fn("shout"))', functions) == ["A", "B"]
    assert run('const C = "c"; C.shout() + shout(C)', functions) == "CC"


def test_a_function_of_the_script_goes_before_one_of_python():
    assert run("fn f() { 1 } f()", {"f": lambda: 2}) == 1


def test_a_function_cannot_change_what_it_is_given():
    assert run("let a = [1]; f(a); a", {"f": lambda a: a.append(2)}) == [1]


def test_an_uncaught_exception_comes_out_unchanged():
    error = Refused("no")
    for script in ("f()", "fn g() { f() } g()", "[1].map(|x| f())"):
        with pytest.raises(Refused) as caught:
            run(script, {"f": failing(error)})
        assert caught.value is error


def test_a_script_may_catch_it_as_a_map():
    script = "let r; try { f() } catch (e) { r = e } r"
    shown = {"type": "Refused", "message": "no"}
    assert run(script, {"f": failing(Refused("no"))}) == shown


@pytest.mark.parametrize("again", ["throw e", "throw", "let x = e; throw x"])
def test_what_was_caught_and_thrown_again_is_still_the_same(again):
    error = Refused("no")
    with pytest.raises(Refused) as caught:
        run(f"try {{ f() }} catch (e) {{ {again} }}", {"f": failing(error)})
    assert caught.value is error


def test_of_two_exceptions_the_one_that_was_thrown_comes_out():
    first, second = Refused("1"), Refused("2")
    functions = {"f": failing(first), "g": failing(second)}
    script = "try { f() } catch (e) { try { g() } catch { } throw e }"
    with pytest.raises(Refused) as caught:
        run(script, functions)
    assert caught.value is first


def test_a_map_that_only_looks_like_an_exception_is_a_value():
    script = """
        let copy;
        try { f() } catch (e) { copy = #{type: e.type, message: "no"} }
        throw copy
    """
    with pytest.raises(horus_rhai.RhaiError) as caught:
        run(script, {"f": failing(Refused("no"))})
    assert caught.value.value == {"type": "Refused", "message": "no"}


def test_an_exception_without_a_text_is_one_too():
    with pytest.raises(Unprintable):
        run("f()", {"f": failing(Unprintable())})


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_what_ends_the_process_is_not_caught(error):
    with pytest.raises(type(error)) as caught:
        run("loop { try { f() } catch { } }", {"f": failing(error)})
    assert caught.value is error


def test_an_exception_caught_in_a_loop_is_not_kept():
    made = []

    def fail():
        made.append(1)
        raise Refused

    assert run("for i in 0..1000 { try { f() } catch { } } 1", {"f": fail}) == 1
    assert len(made) == 1000


def test_a_script_may_run_in_a_function_of_a_script():
    inner = horus_rhai.Engine({})
    script = inner.compile("x * 2")
    double = {"double": lambda x: inner.run(script, {"x": x})}
    assert run("double(double(3)) + 1", double) == 13


def test_a_script_runs_only_by_the_engine_that_compiled_it():
    script = horus_rhai.Engine({}).compile("1")
    with pytest.raises(ValueError, match="compiled by another engine"):
        horus_rhai.Engine({}).run(script)


def test_only_mappings_and_callables_are_taken():
    with pytest.raises(TypeError):
        horus_rhai.Engine({"f": 1})
    with pytest.raises((TypeError, ValueError)):
        horus_rhai.Engine(5)
    with pytest.raises(TypeError, match="a name in Rhai is a string"):
        horus_rhai.Engine({1: len})
