"""SAL's functions that work on text."""

from __future__ import annotations

import pytest


def test_common_indentation_goes(confined):
    assert confined("dedent", "  a\n    b\n\n  c\n") == "a\n  b\n\nc\n"


def test_every_line_gets_a_prefix_but_blank_ones(confined):
    assert confined("prefix", "a\n\n  b", "> ") == "> a\n\n>   b"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Hello World", "hello_world"),
        ("my.file.MD", "my_file.md"),
        ("a--b", "a__b"),
        ("a.b.c", "a_b.c"),
        ("a_-b", "a_b"),
        (".hidden", "_hidden"),
        ("a-_b", "a__b"),
        ("x#y", "x"),
        ("A:B;C", "a_b_c"),
        ("__a__", "_a_"),
        ("  é%a ", "a"),
        ("", ""),
        ("a.", "a_"),
    ],
)
def test_a_text_becomes_a_name(confined, text, name):
    assert confined("name_fix", text) == name


def test_only_the_last_part_of_a_path_is_changed(confined):
    assert confined("path_fix", "/My Files/My File.TXT") == "/My Files/my_file.txt"
    assert confined("path_fix", "My File") == "my_file"
    assert confined("path_fix", "My Folder/") == "My Folder/"


@pytest.mark.parametrize("name", ["dedent", "name_fix", "path_fix"])
@pytest.mark.parametrize("value", [None, 1, b"a", ["a"], "\ud800", "x" * (2**24 + 1)])
def test_what_is_no_text_is_refused(confined, name, value):
    assert confined.refusal(name, value).startswith(f"{name}: text must ")


def test_a_prefix_is_text(confined):
    assert "before must be a string" in confined.refusal("prefix", "a", 1)


# --- replacements ------------------------------------------------------------------


def built(script, *calls, by="text_replacer_new"):
    builder = script(by)
    for name, *args in calls:
        assert builder.rhai_call(name, args) is builder
    return builder.rhai_call("build", [])


@pytest.mark.parametrize("by", ["text_replacer_new", "text_replacer_builder"])
def test_a_pattern_is_taken_as_it_stands(confined, by):
    replacer = built(confined, ("pattern", "a.c"), ("replacement", "$1\\1"), by=by)
    assert replacer.rhai_call("replace", ["a.c abc A.C"]) == "$1\\1 abc A.C"


def test_replacements_follow_each_other(confined):
    replacer = built(
        confined,
        *(("pattern", "a"), ("replacement", "b"), ("and",)),
        *(("pattern", "b"), ("replacement", "c"), ("case_insensitive", True)),
    )
    assert replacer.rhai_call("replace", ["aAbB"]) == "cAcc"


@pytest.mark.parametrize(
    ("replacement", "text"),
    [
        ("$2-$1", "two-one"),
        ("${2}x", "twox"),
        ("$2x", ""),
        ("$name", "one"),
        ("$$1", "$1"),
        ("$9", ""),
        ("$", "$"),
        ("\\1", "\\1"),
    ],
)
def test_a_regular_expression_has_groups(confined, replacement, text):
    replacer = built(
        confined,
        ("pattern", r"(?P<name>\w+) (\w+)"),
        ("replacement", replacement),
        ("regex", True),
    )
    assert replacer.rhai_call("replace", ["one two"]) == text


@pytest.mark.parametrize(
    "calls",
    [
        (),
        (("pattern", "a"),),
        (("replacement", "a"),),
        (("pattern", ""), ("replacement", "a")),
        (("pattern", "a"), ("replacement", "a"), ("and",)),
        (("pattern", "("), ("replacement", "a"), ("regex", True)),
        (("pattern", "a{99999999999}"), ("replacement", "a"), ("regex", True)),
    ],
)
def test_what_cannot_replace_is_not_built(confined, calls):
    with pytest.raises(Exception, match=r"^build: "):
        built(confined, *calls)


@pytest.mark.parametrize("method", ["pattern", "replacement"])
def test_a_replacement_is_made_of_text(confined, method):
    with pytest.raises(Exception, match="must be a string"):
        built(confined, (method, 1))


@pytest.mark.parametrize("method", ["regex", "case_insensitive"])
def test_a_replacement_is_switched_by_true_and_false(confined, method):
    with pytest.raises(Exception, match="must be true or false"):
        built(confined, (method, "yes"))


def test_files_are_replaced_in_three_ways(confined, folder):
    replacer = built(confined, ("pattern", "a"), ("replacement", "b"))
    (folder / "file").write_text("aa\r\n")
    assert replacer.rhai_call("replace_file", ["file"]) == "bb\r\n"
    replacer.rhai_call("replace_file_to", ["file", "sub/other"])
    assert (folder / "sub/other").read_bytes() == b"bb\r\n"
    assert (folder / "file").read_bytes() == b"aa\r\n"
    replacer.rhai_call("replace_file_in_place", ["file"])
    assert (folder / "file").read_bytes() == b"bb\r\n"


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("replace", [1]),
        ("replace_file", ["nowhere"]),
        ("replace_file_in_place", ["nowhere"]),
        ("replace_file_to", ["nowhere", "x"]),
    ],
)
def test_what_cannot_be_read_is_not_replaced(confined, folder, method, args):
    replacer = built(confined, ("pattern", "a"), ("replacement", "b"))
    with pytest.raises(Exception, match=f"^{method}: "):
        replacer.rhai_call(method, args)
    assert not (folder / "x").exists()


# --- templates ---------------------------------------------------------------------


@pytest.fixture
def template(confined, folder):
    """Write a template and open it."""

    def write(text, name="page.txt"):
        (folder / name).write_text(text)
        return confined("template_builder_open", name)

    return write


def test_a_template_is_filled(template):
    page = template(
        "{% for one in items %}{{ one.name | upper }};{% endfor %}{{ n }}\n"
    )
    assert page.rhai_call("add_var", ["n", 3]) is page
    assert (
        page.rhai_call("add_vars", [{"items": [{"name": "a"}, {"name": "b"}]}]) is page
    )
    assert page.rhai_call("render", []) == "A;B;3\n"


def test_a_filled_template_is_written(template, folder):
    page = template("{{ a }}").rhai_call("add_var", ["a", "é"])
    assert page.rhai_call("render_to_file", ["sub/out"]) is None
    assert (folder / "sub/out").read_text() == "é"
    with pytest.raises(Exception, match="render_to_file: Is a directory"):
        page.rhai_call("render_to_file", ["sub"])


def test_values_are_escaped_in_pages_and_not_in_texts(template):
    for name, text in (("a.html", "&lt;b&gt;"), ("a.txt", "<b>")):
        page = template("{{ a }}", name).rhai_call("add_var", ["a", "<b>"])
        assert page.rhai_call("render", []) == text


def test_a_template_includes_what_lies_beside_it_and_no_more(template, folder):
    (folder / "part").write_text("part")
    assert template("{% include 'part' %}").rhai_call("render", []) == "part"
    for path in ("/etc/passwd", "../outside"):
        with pytest.raises(Exception, match="there is no template"):
            template(f"{{% include '{path}' %}}").rhai_call("render", [])


@pytest.mark.parametrize(
    "source",
    [
        "{{ missing }}",
        "{% if %}",
        "{{ 1 / 0 }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ range(100000000) | list }}",
        "{{ 'a' + 1 }}",
        "{% include 'page.txt' %}",
    ],
)
def test_a_template_that_cannot_be_filled_is_an_error(template, source):
    with pytest.raises(Exception, match=r"^render: "):
        template(source).rhai_call("render", [])


@pytest.mark.parametrize(
    ("name", "value"),
    [("a b", 1), ("", 1), ("1a", 1), (1, 1), ("a", b"bytes"), ("a", object())],
)
def test_a_template_takes_data_under_names(template, name, value):
    with pytest.raises(Exception, match=r"^add_var: "):
        template("").rhai_call("add_var", [name, value])


def test_values_without_end_are_refused(template):
    value: list[object] = []
    value.append(value)
    with pytest.raises(Exception, match=r"add_vars: .*levels deep"):
        template("").rhai_call("add_vars", [{"a": value}])


def test_a_template_that_is_missing_is_named(confined, folder):
    said = confined.refusal("template_builder_open", "nowhere")
    assert said == "template_builder_open: there is no file nowhere"
