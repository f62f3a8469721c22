"""What the distribution says of itself is what it is built from."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

from tests.unit.rhai.engine import horus_rhai

CRATE = Path(__file__).parents[3] / "workers" / "rhai_engine"


def read(name):
    return tomllib.loads((CRATE / name).read_text())


def test_the_version_of_the_package_is_that_of_the_crate():
    assert horus_rhai.__version__ == read("Cargo.toml")["package"]["version"]
    assert horus_rhai.__version__ == version("horus-rhai")


def test_the_version_of_rhai_is_the_one_that_is_locked():
    locked = {
        crate["name"]: crate["version"] for crate in read("Cargo.lock")["package"]
    }
    assert locked["rhai"] == horus_rhai.RHAI_VERSION
    asked = read("Cargo.toml")["dependencies"]["rhai"]["version"]
    assert asked == f"={horus_rhai.RHAI_VERSION}"


def test_a_panic_is_caught_and_never_ends_the_process():
    assert read("Cargo.toml")["profile"]["release"]["panic"] == "unwind"


def test_the_stub_names_the_parameters_that_there_are():
    stub = (CRATE / "horus_rhai" / "_native.pyi").read_text()
    for function in (horus_rhai.Engine, horus_rhai.Engine.run):
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name != "self":
                assert f"{parameter.name}:" in stub


def test_the_example_of_its_readme_runs():
    blocks = re.findall(
        r"```python\n(.*?)```", (CRATE / "README.md").read_text(), re.DOTALL
    )
    assert blocks
    for block in blocks:
        exec(block, {})  # noqa: S102 - our own text
