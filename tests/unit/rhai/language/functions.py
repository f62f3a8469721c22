"""Functions, closures, function pointers, methods, variables and their scope."""

from __future__ import annotations

from tests.unit.rhai.language.expect import Fails, Refused

DEFINING = [
    ("fn add(a, b) { a + b } add(1, 2)", 3),
    ("add(1, 2); fn add(a, b) { a + b }", 3),
    ("add(1, 2) fn add(a, b) { a + b }", Refused("Expecting ';' to terminate")),
    ("fn f() { return 5; 6 } f()", 5),
    ("fn f() { } f()", None),
    ("fn f(x) { if x { return 1 } 2 } [f(true), f(false)]", [1, 2]),
    ("fn fib(n) { if n < 2 { n } else { fib(n - 1) + fib(n - 2) } } fib(15)", 610),
    ("fn f() { 0 } fn f(a) { 1 } fn f(a, b) { 2 } [f(), f(9), f(9, 9)]", [0, 1, 2]),
    ("fn f(x) { x += 1; } let a = 1; f(a); a", 1),
    ("fn f(a) { a.push(1); a } let x = []; f(x); x", []),
    ("fn f() { g() } fn g() { 7 } f()", 7),
    ("private fn f() { 3 } f()", 3),
    ("fn f() { x } let x = 1; f()", Fails("Variable not found: x")),
    ("const X = 4; fn f() { global::X } f()", 4),
    ("fn f(a, a) { a }", Refused("Duplicated parameter a for function f")),
    (
        "fn f(a) { a } fn f(b) { b }",
        Refused("Function f with 1 parameter already exists"),
    ),
    ("fn (a) { a }", Refused("Expecting function name")),
    ("fn f", Refused("Expecting parameters for function f")),
    ("fn f()", Refused("Expecting body")),
    ("{ fn f() { 1 } }", Refused("Function definitions must be at global level")),
    ("f(1)", Fails("Function not found: f (i64)")),
    ("fn f(a) { a } f(1, 2)", Fails("Function not found: f (i64, i64)")),
    ("fn f() { throw 1 } f()", Fails("in call to function 'f'")),
    ("let f = 1; fn f() { 2 } f()", 2),
    ("fn f() { 5 } f!()", 5),
    ("fn f() { y += 1; y } let y = 3; f!() + y", 8),
    ('is_def_fn("f", 1) fn f(x) {}', Refused("Expecting ';'")),
    ('fn f(x) {} [is_def_fn("f", 1), is_def_fn("f", 2)]', [True, False]),
]

METHODS = [
    ("fn add(y) { this += y; } let x = 1; x.add(5); x", 6),
    ("fn twice() { this * 2 } 21.twice()", 42),
    ("fn int.twice() { this * 2 } 4.twice()", 8),
    ('fn "string".twice() { this + this } "ab".twice()', "abab"),
    ('fn int.twice() { this * 2 } "x".twice()', Fails("Function not found")),
    ("fn f() { this } f()", Fails("'this' not bound")),
    ("this", Refused("'this' can only be used in functions")),
    ("fn f() { this.a = 9 } let m = #{a: 1}; m.f(); m.a", 9),
    ("fn inc() { this += 1 } let a = [1]; a[0].inc(); a", [2]),
    ("fn inc() { this += 1 } const X = 1; X.inc()", Fails("constant")),
    ("let x = 1; x.foo()", Fails("Function not found: foo (i64)")),
    ("1.type_of()", "i64"),
    ('"abc".len() + "abc".len', 6),
]

CLOSURES = [
    ("let f = |x| x * 2; f.call(4)", 8),
    ("let f = || 5; f.call()", 5),
    ("let f = |x, y| { let z = x + y; z * 2 }; f.call(1, 2)", 6),
    ("let y = 10; let f = |x| x + y; f.call(1)", 11),
    ("let a = [1]; let f = || a.len; a.push(2); f.call()", 2),
    ("let n = 0; let f = || { n += 1; n }; f.call(); f.call(); n", 2),
    ("let n = 1; let f = || n; is_shared(n)", True),
    ("let n = 1; is_shared(n)", False),
    ("fn make(n) { |x| x + n } let f = make(3); f.call(4)", 7),
    ("let f = |x| |y| x + y; f.call(1).call(2)", 3),
    ("let x = 1; let f = || { let x = 5; x }; [f.call(), x]", [5, 1]),
    ("fn run(f) { f.call(3) } run(|x| x + 1)", 4),
    ("let f = |x| x; f.call()", Fails("Function not found")),
    ("let f = || this + 1; 5.call(f)", 6),
    ("type_of(|x| x)", "Fn"),
]

POINTERS = [
    ('fn f(x) { x + 1 } Fn("f").call(1)', 2),
    ("fn f(x) { x + 1 } let g = f; g.call(1)", 2),
    ("fn f(x) { x + 1 } [1, 2].map(f)", [2, 3]),
    ('Fn("abs").call(-3)', 3),
    ('fn add(a, b) { a + b } let f = Fn("add").curry(10); f.call(1)', 11),
    ('fn add(a, b) { a + b } curry(Fn("add"), 1).curry(2).call()', 3),
    ('call(Fn("abs"), -2)', 2),
    ('Fn("f").name', "f"),
    ("(|x| x).is_anonymous", True),
    ('Fn("nope").call()', Fails("Function not found: nope")),
    ('Fn("1x")', Fails("Function not found: 1x")),
    ('Fn("+")', Fails("'+' is a reserved symbol")),
    ('fn f() { this + 1 } let p = Fn("f"); 4.call(p)', 5),
]

SCOPE = [
    ("let x = 10; { let x = 1; } x", 10),
    ("let x = 10; { x = 1; } x", 1),
    ("let x = 1; let x = x + 1; x", 2),
    ("{ let y = 1; } y", Fails("Variable not found: y")),
    ("x = 1", Fails("Variable not found: x")),
    ("let x; x", None),
    ("const X = 1; X + 1", 2),
    ("const X = 1; X = 2", Refused("Cannot assign to constant X")),
    ("const X = 1; X += 2", Refused("Cannot assign to constant X")),
    ("const X = 1; { let X = 2; X += 1; X }", 3),
    ('let x = 1; is_def_var("x")', True),
    ('is_def_var("x")', False),
    ("let x = { let y = 2; y * 3 }; x", 6),
    ("let x = 1; let y = x; y += 1; [x, y]", [1, 2]),
    ("let x = 42; let y = take(x); [x, y]", [None, 42]),
    ("1 = 2", Refused("Cannot assign to")),
    ("let if = 1", Refused("Expecting name of a variable")),
    ("let var = 1", Refused("'var' is a reserved keyword")),
    ("let ä = 1", Refused("ä")),
    ("let new = 3; new", 3),
]

CASES = [*DEFINING, *METHODS, *CLOSURES, *POINTERS, *SCOPE]
