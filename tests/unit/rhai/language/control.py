"""Branches, loops, switch, errors that are thrown and caught, and how a script ends."""

from __future__ import annotations

from tests.unit.rhai.language.expect import Fails, Refused

BRANCHES = [
    ("if true { 1 } else { 2 }", 1),
    ("if 1 > 2 { 1 } else if 2 > 1 { 2 } else { 3 }", 2),
    ("if false { 1 }", None),
    ("let x = if true { 5 } else { 6 }; x", 5),
    ("if 1 { 2 }", Refused("Expecting a boolean expression, not a number")),
    ("let x = 1; if x { 2 }", Fails("Data type incorrect: i64 (expecting bool)")),
    ("if true 1", Refused("Expecting '{' to start a statement block")),
    ("let x = 5; if x == 5 { x = 6; } x", 6),
]

LOOPS = [
    ("let n = 0; while n < 5 { n += 1 } n", 5),
    ("let n = 0; loop { n += 1; if n == 3 { break; } } n", 3),
    ("let n = 0; do { n += 1 } while n < 3; n", 3),
    ("let n = 0; do { n += 1 } until n >= 4; n", 4),
    ("let s = 0; for i in 0..5 { s += i } s", 10),
    ("let s = 0; for i in 0..=5 { s += i } s", 15),
    ("let s = 0; for i in 0..10 { if i % 2 == 0 { continue; } s += i } s", 25),
    ("let s = 0; for (x, i) in [5, 6] { s += x * i } s", 6),
    ('let s = ""; for x in [1, "b"] { s += x } s', "1b"),
    ("let o = []; for k in #{b: 1, a: 2}.keys() { o.push(k) } o", ["a", "b"]),
    ("let a = [1, 2]; for x in a { a.push(x) } a", [1, 2, 1, 2]),
    ("let x = loop { break 7; }; x", 7),
    ("let x = for i in 0..9 { if i == 4 { break i } }; x", 4),
    ('let x = while true { break "out" }; x', "out"),
    ("let x = for i in 0..3 { }; x", None),
    ("for i in 5 { }", Refused("Expecting an iterable value, not a number")),
    ("let x = 5; for i in x { }", Fails("For loop expects iterable type")),
    ("break", Refused("Break statement should only be used inside a loop")),
    ("continue", Refused("Break statement should only be used inside a loop")),
    ("let c = 0; for i in 0..3 { for j in 0..3 { if j == 1 { break } c += 1 } } c", 3),
    ("for i in 0..3 { } i", Fails("Variable not found: i")),
    ("for (a, a) in [1] { }", Refused("Duplicated variable name: a")),
    ("let i = 9; for i in 0..2 { } i", 9),
]

SWITCH = [
    ('switch 2 { 1 => "a", 2 => "b", _ => "c" }', "b"),
    ('switch 9 { 1 => "a", _ => "c" }', "c"),
    ("switch 9 { 1 => 2 }", None),
    ('switch "x" { "x" | "y" => 1, _ => 0 }', 1),
    ("switch 5 { 0..5 => 1, 5..=9 => 2, _ => 3 }", 2),
    ('switch [1, 2] { [1, 2] => "yes", _ => "no" }', "yes"),
    ("switch #{a: 1} { #{a: 1} => 1, _ => 0 }", 1),
    ("let x = 5; switch x { 5 if x > 9 => 1, 5 if x > 1 => 2, _ => 3 }", 2),
    ("switch 1 { 1 => { let x = 2; x * 2 } _ => 0 }", 4),
    ("switch 'c' { 'c' => true, _ => false }", True),
    ("switch true { true => 1, false => 0 }", 1),
    ("switch 1 { _ => 1, 2 => 3 }", Refused("Default switch case must be the last")),
    ("let y = 1; switch 1 { y => 1 }", Refused("Expecting a literal")),
    ("switch 1.5 { 1.5 => 1, _ => 0 }", 1),
    ("for i in 0..5 { switch i { 3 => break i, _ => () } }", 3),
]

ERRORS = [
    ("let r = 0; try { throw 5 } catch (e) { r = e } r", 5),
    ("let r = 0; try { throw } catch (e) { r = e } r", None),
    ("let r = 0; try { let x = 1 / 0; } catch { r = 1 } r", 1),
    ("let r = (); try { throw #{code: 7} } catch (e) { r = e.code } r", 7),
    (
        "let r = (); try { let x = nope; } catch (e) { r = e.error } r",
        "ErrorVariableNotFound",
    ),
    ("let r = (); try { let x = nope; } catch (e) { r = e.variable } r", "nope"),
    (
        "let r = (); try { let x = nope; } catch (e) { r = [e.line, e.position] } r",
        [1, 27],
    ),
    (
        "let r = (); try { foo(1) } catch (e) { r = e.message } r",
        "Function not found: foo (i64)",
    ),
    ("let r = (); try { foo(1) } catch (e) { r = e.function } r", "foo (i64)"),
    (
        "let r = 0; let a = [1]; try { a[5] } catch (e) { r = [e.index, e.length] } r",
        [5, 1],
    ),
    ("let r = 0; try { nope; } catch { r = 1 } r", 1),
    ("fn f() { throw 9 } let r = 0; try { f() } catch (e) { r = e } r", 9),
    ("try { throw 1 } catch (e) { throw e + 1 }", Fails("Runtime error: 2")),
    ("try { throw 1 } catch { throw }", Fails("Runtime error: 1")),
    (
        "let r; try { try { throw 1 } catch (e) { throw 2 } } catch (e) { r = e } r",
        2,
    ),
    (
        "let r = []; for i in 0..3 { try { r.push(1 / i) } catch { r.push(-1) } } r",
        [-1, 1, 0],
    ),
    ("let e = 5; try { throw 1 } catch (e) { } e", 5),
    ("fn f() { try { return 1 } catch { } 2 } f()", 1),
    ("let n = 0; loop { try { break } catch { n = 1 } } n", 0),
    ("throw", Fails("Runtime error")),
    ('throw "boom"', Fails("Runtime error: boom")),
    ("throw 42", Fails("Runtime error: 42")),
    ("try { throw 1 }", Refused("Expecting 'catch'")),
    ("let a = 1; a.b.c", Fails("Unknown property 'b'")),
    ("let a = 5; a(1)", Fails("Function not found: a (i64)")),
    ('"a" * 2', Fails("Function not found: * (string, i64)")),
]

ENDING = [
    ("", None),
    ("// nothing but a comment", None),
    ("/* nested /* comment */ */ 1", 1),
    ("1; 2; 3", 3),
    ("1;", 1),
    ("return 4; 5", 4),
    ("exit(3); 4", 3),
    ("exit()", None),
    ("fn f() { exit(9) } f(); 1", 9),
    ("try { exit(1) } catch { 2 } 3", 1),
    ("try { [1].map(|x| exit(5)) } catch { throw 1 } 1", 5),
    ("[1, 2].map(|x| exit(x))", 1),
    ("let x = ;", Refused("Unexpected ';'")),
    ("(1 + 2", Refused("Expecting ')'")),
    ("{ 1", Refused("Expecting ';' to terminate this statement")),
    ("1 2", Refused("Expecting ';' to terminate this statement")),
    ("@", Refused("'@'")),
    ("let x = 1 +", Refused("Script is incomplete")),
    ("debug(1); print(2)", None),
    ('eval("1")', Refused("'eval' is disabled")),
    ('import "x" as y;', Refused("'import' is a reserved keyword")),
    ("export x", Refused("'export' is a reserved keyword")),
    ("#!/usr/bin/env rhai\n1 + 1", 2),
    ("#!only this", None),
]

CASES = [*BRANCHES, *LOOPS, *SWITCH, *ERRORS, *ENDING]
