"""Python objects in a script: held and handed back, and closed but for their offers."""

from __future__ import annotations

import gc
import weakref

import pytest

from tests.unit.rhai.engine import horus_rhai, place_of, run


class Note:
    """Offers whatever its fields are called, which nobody knows beforehand."""

    def __init__(self, *fields):
        self.fields = dict.fromkeys(fields)

    def rhai_call(self, name, arguments):
        match name, arguments:
            case "save", ():
                return dict(self.fields)
            case "fail", ():
                raise KeyError(name)
            case "both", (other,):
                return [self.fields, other.fields]
            case field, (value,) if field in self.fields:
                self.fields[field] = value
                return self
        raise horus_rhai.NoSuchFunction(name)

    def rhai_get(self, name):
        if name == "fail":
            raise KeyError(name)
        if name not in self.fields:
            raise horus_rhai.NoSuchProperty(name)
        return self.fields[name]

    def rhai_set(self, name, value):
        if name == "fail":
            raise KeyError(name)
        if name not in self.fields:
            raise horus_rhai.NoSuchProperty(name)
        self.fields[name] = value

    def __str__(self):
        return "a note"

    def __repr__(self):
        return "Note()"


class Store:
    """Makes notes; has no properties at all."""

    def rhai_call(self, name, arguments):
        if name == "new":
            return Note(*arguments)
        raise horus_rhai.NoSuchFunction(name)


class Closed:
    """Offers nothing."""

    inside = "x"

    def method(self):
        return self.inside


class AnswersEverything:
    """Has any attribute that it is asked for, as a mock or a proxy does."""

    def __getattr__(self, name):
        return lambda *_: "leaked"


@pytest.fixture
def held():
    return {"db": Store(), "note": Note("title", "tag"), "closed": Closed()}


def test_an_object_is_handed_back_as_itself():
    mine = Closed()
    assert run("x", variables={"x": mine}) is mine
    assert (
        run("f([#{a: x}])", {"f": lambda a: a[0]["a"]}, variables={"x": mine}) is mine
    )


def test_functions_that_only_the_object_knows_are_called(held):
    script = 'db.new("title", "body").title("a").body([1]).save()'
    assert run(script, names=held) == {"title": "a", "body": [1]}


def test_also_in_functions_of_the_script_and_as_a_function(held):
    assert run('fn f() { db.new("a").a(1).save() } f()', names=held) == {"a": 1}
    assert run('fn f(n) { n.title("t") } f(note).save()["title"]', names=held) == "t"
    assert run('title(note, "x").save().title', names=held) == "x"
    assert run('[note][0].title("y").title', names=held) == "y"
    assert run('const N = db.new("a"); N.a(3); N.a', names=held) == 3


def test_objects_are_arguments_too(held):
    script = 'note.both(db.new("x"))'
    assert run(script, names=held) == [{"title": None, "tag": None}, {"x": None}]


def test_properties_are_read_and_written(held):
    script = 'note.title = "a"; note.title += "b"; note.title + note["title"]'
    assert run(script, names=held) == "abab"


def test_what_a_method_has_changed_is_written_back(held):
    assert run("note.title = [1]; note.title.push(2); note.title", names=held) == [1, 2]


def test_the_tag_that_rhai_gives_every_value_is_the_objects_own(held):
    assert run("note.tag = 5; note.tag", names=held) == 5
    assert run('note.tag("x").tag', names=held) == "x"
    with pytest.raises(
        horus_rhai.RhaiError, match=r"Function not found: tag \(Store\)"
    ):
        run("db.tag()", names=held)


MISSING = [
    ('note.nope("x")', "Function not found: nope (Note, string)"),
    ("note.nope(1, note, [], #{}, ())", "nope (Note, i64, Note, array, map, ())"),
    ("nope(note)", "Function not found: nope (Note)"),
    ("note.nope", "Unknown property 'nope' of 'Note'"),
    ("note.nope = 1", "No writable property 'nope' of 'Note'"),
    ("db.anything", "Unknown property 'anything' of 'Store'"),
    ("closed.method()", "Function not found: method (Closed)"),
    ("closed.inside", "Unknown property 'inside' of 'Closed'"),
    ("closed.inside = 1", "No writable property 'inside' of 'Closed'"),
    ("closed.__class__", "Unknown property '__class__' of 'Closed'"),
    ("note.__class__", "Unknown property '__class__' of 'Note'"),
    ("note.rhai_call(1)", "Function not found: rhai_call (Note, i64)"),
    ("note + 1", "Function not found: + (object, i64)"),
    ("note()", "Function not found: note ()"),
    ("note[0]", "object [i64]"),
]


@pytest.mark.parametrize(("script", "text"), MISSING)
def test_what_an_object_does_not_offer_is_rhais_own_error(held, script, text):
    with pytest.raises(horus_rhai.RhaiError) as caught:
        run(f"let x = 0;\n  {script}", names=held)
    assert text in str(caught.value)
    assert caught.value.line == 2


def test_a_script_can_catch_that_it_is_missing(held):
    script = "let r; try { note.nope() } catch (e) { r = e.error } r"
    assert run(script, names=held) == "ErrorFunctionNotFound"


@pytest.mark.parametrize(
    "script", ["x.anything", "x.anything()", "x.rhai_get", 'x["a"]']
)
def test_an_object_that_answers_to_every_name_is_closed_too(script):
    with pytest.raises(horus_rhai.RhaiError):
        run(script, variables={"x": AnswersEverything()})


@pytest.mark.parametrize("script", ["note.fail()", "note.fail", "note.fail = 1"])
def test_an_exception_of_an_object_comes_out_unchanged(held, script):
    with pytest.raises(KeyError, match="fail"):
        run(script, names=held)


PLACES = [
    ("note.fail()", (2, 8)),
    ("fail(note)", (2, 3)),
    ('note.title("a")\n  .fail()', (3, 4)),
    ('note.title("a").title(\nnote.fail())', (3, 6)),
    ("note?.fail()", (2, 9)),
    ('db.new("a").fail()', (2, 15)),
    ("[note][0].fail()", (2, 13)),
    ("#{n: note}.n.fail()", (2, 16)),
    ("const N = note; N.fail()", (2, 21)),
    ("[1, note.fail()]", (2, 12)),
    ("`${note.fail()}`", (2, 11)),
    ("x += note.fail()", (2, 13)),
    ("if x == 0 && note.fail() { }", (2, 21)),
    ("switch x { 0 if note.fail() => 1 }", (2, 24)),
    ("switch x { 1 => 1, _ => note.fail() }", (2, 32)),
    ("for i in note.fail() { }", (2, 17)),
    ("while note.fail() { }", (2, 14)),
    ("do { note.fail() } until x > 0", (2, 13)),
    ("loop { break note.fail() }", (2, 21)),
    ("return note.fail()", (2, 15)),
    ("throw note.fail()", (2, 14)),
    ("try { note.fail() } catch (e) { throw e }", (2, 35)),
    ("try { throw 1 } catch { note.fail() }", (2, 32)),
    ("fn f(n) {\n  n.fail()\n}\nf(note)", (3, 5)),
    ("fn f() {\n  this.fail()\n}\nlet n = note;\nn.f()", (3, 8)),
    ("[note].map(|n|\n n.fail())", (3, 4)),
    ("let n = note; let f = || n.fail();\nf.call()", (2, 30)),
    ("note.fail", (2, 7)),
    ("note.fail = 1", (2, 7)),
    ('note["fail"]', (2, 7)),
]


@pytest.mark.parametrize(("script", "place"), PLACES)
def test_an_exception_of_an_object_knows_its_place(held, script, place):
    with pytest.raises(KeyError, match="fail") as caught:
        run(f"let x = 0;\n  {script}", names=held)
    assert place_of(caught.value) == place


def test_only_a_name_that_the_script_made_up_has_no_place(held):
    script = 'let f = "fa"; f += "il"; Fn(f).call(note)'
    with pytest.raises(KeyError) as caught:
        run(script, names=held)
    assert place_of(caught.value) == (None, None)
    with pytest.raises(KeyError) as caught:
        run(f"fn g(note) {{ {script} }}\n g(note)", names=held)
    assert place_of(caught.value) == (2, 2)
    assert run('let f = "title"; Fn(f).call(note, "x").title', names=held) == "x"


def test_a_result_that_has_no_form_in_rhai_knows_its_place():
    class Counter:
        def rhai_call(self, name, arguments):
            return 2**64

    with pytest.raises(OverflowError) as caught:
        run("\n x.count()", variables={"x": Counter()})
    assert place_of(caught.value) == (2, 4)


def test_an_object_is_asked_once_whatever_becomes_of_its_answer():
    asked = []

    class Witness:
        def rhai_call(self, name, arguments):
            asked.append((name, arguments))
            if name == "fail":
                raise KeyError(name)
            if name == "none":
                raise horus_rhai.NoSuchFunction(name)
            return "x" * 100

    for script in ("x.fail(1)", "x.none()", "x.long()", "long(x)"):
        with pytest.raises((KeyError, horus_rhai.RhaiError)) as caught:
            run(script, variables={"x": Witness()}, limits={"max_string_size": 99})
        assert place_of(caught.value) == (1, 1 if script == "long(x)" else 3)
    assert asked == [("fail", (1,)), ("none", ()), ("long", ()), ("long", ())]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 15, 16, 17, 40])
def test_an_object_takes_as_many_arguments_as_it_says(count):
    class Counter:
        def rhai_call(self, name, arguments):
            return len(arguments)

    given = ", ".join(["1", "x", '"a"', "[2]"][each % 4] for each in range(count))
    assert run(f"x.count({given})", variables={"x": Counter()}) == count


def test_what_an_object_offers_stands_behind_all_that_has_its_name(held):
    def title(_note, _text):
        return "python"

    script = 'note.title("x")'
    assert run(script, {"title": title}, names=held) == "python"
    assert run(f"fn title(t) {{ this.save() }} {script}", names=held) == {
        "title": None,
        "tag": None,
    }
    assert run('fn title(n, t) { "script" } title(note, "x")', names=held) == "script"
    assert held["note"].fields["title"] is None
    assert run('fn title(n) { } title(note, "x").title', names=held) == "x"


def test_a_function_that_failed_is_not_asked_of_the_object_again(held):
    calls = []

    def title(*given):
        calls.append(given)
        raise KeyError("python")

    with pytest.raises(KeyError, match="python"):
        run('note.title("x")', {"title": title}, names=held)
    assert len(calls) == 1
    assert held["note"].fields["title"] is None


WHAT_EVERYTHING_HAS = [
    ("note.exit(); 1", Note),
    ("exit(note); 1", Note),
    ("let n = note; take(n)", Note),
    ("note.to_string()", str),
    ("note.to_debug()", str),
    ("note.type_of()", str),
    ("print(note)", type(None)),
]


@pytest.mark.parametrize(("script", "kind"), WHAT_EVERYTHING_HAS)
def test_what_every_value_has_is_never_asked_of_an_object(held, script, kind):
    assert type(run(script, names=held)) is kind


def test_an_object_is_shown_as_its_class_says(held):
    printed: list[object] = []
    script = 'print(note); debug(note); print("<" + note + `${note}` + [note] + ">")'
    run(script, names=held, print=printed.append, debug=lambda *a: printed.append(a))
    assert printed == ["a note", ("Note()", 1, 14), "<a notea note[Note()]>"]


def test_an_object_whose_text_fails_ends_the_script():
    class Silent:
        def __str__(self):
            raise KeyError("no text")

    for script in ("print(x)", "x.to_string()", '"" + x', "`${x}`"):
        with pytest.raises(KeyError, match="no text"):
            run(f"try {{ {script} }} catch {{ }} 1", variables={"x": Silent()})


def test_objects_are_equal_only_to_themselves():
    one, other = Closed(), Closed()
    script = "[a == a, a != a, a == b, a != b, a in [b], a in [b, a], a == 1]"
    assert run(script, variables={"a": one, "b": other}) == [
        True,
        False,
        False,
        True,
        False,
        True,
        False,
    ]


def test_no_object_is_asked_after_the_run_has_ended():
    asked = []

    class Witness:
        def rhai_call(self, name, arguments):
            asked.append(name)
            return 1

    # The 1,001st operation of many that are calls: asked once for each that counts.
    with pytest.raises(horus_rhai.RhaiLimitError):
        run(
            "loop { x.f() }",
            variables={"x": Witness()},
            limits={"max_operations": 1000},
        )
    before = len(asked)
    with pytest.raises(horus_rhai.RhaiTerminated):
        run("loop { try { x.f() } catch { } }", variables={"x": Witness()}, timeout=0.0)
    assert len(asked) == before


def test_an_object_is_let_go_when_its_run_has_ended():
    mine = Closed()
    gone = weakref.ref(mine)
    run("let a = [x, x]; a.clear(); [x].map(|y| y); 1", variables={"x": mine})
    del mine
    gc.collect()
    assert gone() is None


def test_also_when_it_was_in_an_exception_that_was_caught():
    mine = Closed()
    gone = weakref.ref(mine)

    def fail(x):
        raise KeyError(x)

    run("try { f(x) } catch (e) { }", {"f": fail}, variables={"x": mine})
    del mine
    gc.collect()
    assert gone() is None
