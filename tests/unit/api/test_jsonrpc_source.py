"""Flask-JSONRPC is loaded from its source, even where its compiled form comes first."""

import inspect
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder

import pytest

from api.jsonrpc import JSONRPC, FromSource


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a module as source and compiled, and one only compiled."""
    for name in ("both", "compiled"):
        (tmp_path / f"{name}{EXTENSION_SUFFIXES[0]}").touch()
    (tmp_path / "both.py").touch()
    (tmp_path / "namespace").mkdir()
    return tmp_path


def test_the_source_of_a_module_is_found_beside_its_compiled_form(folder):
    usual = PathFinder.find_spec("flask_jsonrpc.both", [str(folder)])
    assert usual is not None
    assert usual.origin == str(folder / f"both{EXTENSION_SUFFIXES[0]}")
    spec = FromSource().find_spec("flask_jsonrpc.both", [str(folder)])
    assert spec is not None
    assert spec.origin == str(folder / "both.py")


@pytest.mark.parametrize("name", ["compiled", "namespace", "nowhere"])
def test_what_has_no_source_is_not_found(folder, name):
    assert FromSource().find_spec(f"flask_jsonrpc.{name}", [str(folder)]) is None


@pytest.mark.parametrize("name", ["both", "flask_jsonrpc_more.both"])
def test_other_packages_are_found_as_ever(folder, name):
    assert FromSource().find_spec(name, [str(folder)]) is None


def test_the_library_came_from_its_source():
    assert inspect.getsource(JSONRPC)
