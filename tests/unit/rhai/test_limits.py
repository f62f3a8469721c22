"""The limits of an engine: each ends a script that goes over it, and no other."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tests.unit.rhai.engine import horus_rhai, run

RECURSIVE = "fn f(n) { if n == 0 { 0 } else { f(n - 1) } } "
GROW = 'let s = ""; for i in 0..20 { s += "ab" } s'

OVER = [
    ("max_operations", 1000, "loop { }"),
    (
        "max_operations",
        1000,
        "let a = []; a.pad(9999, 0); a.for_each(|| { this += 1 })",
    ),
    ("max_operations", 10, "for i in 0..100 { }; let x = 0; while x < 9 { x += 1 }"),
    ("max_call_levels", 8, RECURSIVE + "f(8)"),
    ("max_call_levels", 0, "fn f() { 1 } f()"),
    ("max_expression_depth", 10, "let x = " + "(" * 12 + "1" + ")" * 12),
    ("max_expression_depth", 64, "let x = 1; " + "+".join("x" * 65)),
    ("max_function_expression_depth", 5, "fn f(x) { " + "+".join("x" * 8) + " }"),
    ("max_variables", 3, "let a = 1; let b = 2; let c = 3; let d = 4;"),
    ("max_functions", 1, "fn f() { } fn g() { }"),
    ("max_functions", 0, "fn f() { }"),
    ("max_string_size", 16, GROW),
    ("max_string_size", 16, '"0123456789abcdefg"'),
    ("max_string_size", 11, '"朝朝朝朝".len'),
    ("max_string_size", 16, "let x = \"x\"; x.pad(100, 'y')"),
    ("max_string_size", 16, 'f("0123456789")'),
    ("max_array_size", 8, "let a = []; for i in 0..20 { a.push(i) }"),
    ("max_array_size", 8, "blob(100)"),
    ("max_array_size", 11, "let a = [1, 2, 3]; [a, a, a]"),
    ("max_array_size", 8, "let a = [1, 2, 3, 4, 5]; a + a"),
    ("max_map_size", 8, 'let m = #{}; for i in 0..20 { m["k" + i] = i } m.len()'),
]

WITHIN = [
    ("max_operations", 0, "for i in 0..5000 { } 1"),
    ("max_call_levels", 8, RECURSIVE + "f(7); 1"),
    ("max_call_levels", 0, "1"),
    ("max_expression_depth", 64, "let x = 1; " + "+".join("x" * 60) + "; 1"),
    ("max_function_expression_depth", 32, "fn f(x) { x + x } 1"),
    ("max_variables", 3, "let a = 1; { let b = 2; let c = 3; } let d = 4; 1"),
    ("max_functions", 1, "fn f() { 1 } f()"),
    ("max_string_size", 12, 'let x = "朝朝朝朝"; 1'),
    ("max_string_size", 0, GROW + "; 1"),
    ("max_array_size", 12, "let a = [1, 2, 3]; let b = [a, a, a]; 1"),
    ("max_array_size", 0, "blob(100000); 1"),
    ("max_map_size", 8, "let m = #{a: 1, b: 2}; 1"),
]

FUNCTIONS = {"f": lambda text: text * 2}

#: What would overflow the stack of a thread, were it not for a limit.
DEEP = [
    ("fn f(n) { f(n + 1) + 1 } f(0)", {"max_call_levels": 1_000_000}),
    ('fn f(n) { [n + 1].map(Fn("f")) } f(0)', {"max_call_levels": 1_000_000}),
    # A closure within a closure takes twice as long to make: no more than usual.
    ("fn f(n) { [1].map(|x| f(n + 1)) } f(0)", {}),
    ("(" * 100_000, {"max_expression_depth": 256}),
    ("[" * 100_000, {"max_expression_depth": 256}),
    ("!" * 100_000 + "true", {"max_expression_depth": 256}),
    ("if true { " * 10_000, {"max_expression_depth": 256}),
]


@pytest.mark.parametrize(("limit", "most", "script"), OVER)
def test_a_script_over_a_limit_is_ended(limit, most, script):
    functions = FUNCTIONS if script.startswith("f(") else {}
    with pytest.raises(horus_rhai.RhaiLimitError):
        run(script, functions, limits={limit: most})


@pytest.mark.parametrize(("limit", "most", "script"), WITHIN)
def test_a_script_within_it_is_not(limit, most, script):
    assert run(script, limits={limit: most}) == 1


@pytest.mark.parametrize(
    ("limits", "body"),
    [
        ({"max_operations": 1000}, "loop { }"),
        ({"max_operations": 1000}, "[1].map(|x| { loop { } })"),
        ({"max_string_size": 16}, 'let s = ""; loop { s += "ab" }'),
        ({"max_array_size": 8}, "let a = []; loop { a.push(1) }"),
        ({"max_variables": 2}, "let a = 1; let b = 1; let c = 1; print(c)"),
        ({"max_call_levels": 8}, "f()"),
    ],
)
def test_a_limit_is_not_caught(limits, body):
    script = f"fn f() {{ f() }} try {{ {body} }} catch {{ }} 1"
    with pytest.raises(horus_rhai.RhaiLimitError):
        run(script, limits=limits)


def test_a_variable_keeps_the_limits_too():
    for value, limit in (("x" * 20, "max_string_size"), ([0] * 20, "max_array_size")):
        with pytest.raises(horus_rhai.RhaiLimitError):
            run("1", variables={"x": value}, limits={limit: 16})


class Generous:
    """Gives more than was asked for."""

    def rhai_call(self, name, arguments):
        return "x" * 100

    def rhai_get(self, name):
        return "x" * 100


@pytest.mark.parametrize("script", ["x.f()", "x.f", "f(x)", 'x["f"]'])
def test_what_an_object_gives_keeps_them_too(script):
    with pytest.raises(horus_rhai.RhaiLimitError):
        run(script, variables={"x": Generous()}, limits={"max_string_size": 16})


@pytest.mark.parametrize("depth", [0, 257])
@pytest.mark.parametrize(
    "limit", ["max_expression_depth", "max_function_expression_depth"]
)
def test_a_depth_that_the_parser_could_not_bear_is_refused(limit, depth):
    with pytest.raises(ValueError, match="nest 1 to 256 deep"):
        horus_rhai.Engine({}, **{limit: depth})


@pytest.mark.parametrize(("script", "limits"), DEEP, ids=lambda given: str(given)[:20])
def test_a_deep_script_ends_in_an_error_and_not_the_process(script, limits):
    code = f"""
import horus_rhai
script, limits = {script!r}, {limits!r}
engine = horus_rhai.Engine({{}}, **limits)
try:
    engine.run(engine.compile(script), timeout=5.0)
except horus_rhai.RhaiError as error:
    print(type(error).__name__)
"""
    done = subprocess.run(  # noqa: S603 - our own argv
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"RhaiLimitError", "RhaiTerminated"}


def test_runs_within_runs_end_before_the_stack_does():
    def again(n):
        return engine.run(script, {"n": n + 1})

    engine = horus_rhai.Engine({"again": again})
    script = engine.compile("again(n)")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises((horus_rhai.RhaiLimitError, RecursionError)):
            engine.run(script, {"n": 0})
    finally:
        sys.setrecursionlimit(before)


def test_a_thread_with_too_small_a_stack_is_told():
    caught: list[Exception] = []

    def work():
        try:
            run("1")
        except horus_rhai.RhaiLimitError as error:
            caught.append(error)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert [str(error) for error in caught] == [
        "Stack overflow: no room for more calls"
    ]
