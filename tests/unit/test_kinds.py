from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from horus_celery.errors import ConfigurationError
from horus_celery.executors import names
from horus_celery.settings import Settings, load_settings
from workers.kinds import Kind, find

EXAMPLE = Path(__file__).parents[2] / "examples" / "executors"


@pytest.fixture
def settings(tmp_path):
    def make(**chosen):
        return Settings(state_dir=tmp_path, **chosen)

    return make


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package is installed that has an entry point of executors."""

    def install(name, target, source="raise SystemError", *, package="siteown"):
        (tmp_path / "siteown.py").write_text(source)
        metadata = tmp_path / f"{package}-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\n")
        (metadata / "entry_points.txt").write_text(
            f"[horus.executors]\n{name} = {target}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "siteown", raising=False)

    return install


def own(*command, name="own", **more):
    return {"executor_commands": [{"name": name, "command": [*command], **more}]}


def test_python_is_the_python_that_runs_the_runner(settings):
    assert find("python", settings()) == Kind()


def test_python_may_be_that_of_a_virtual_environment(settings, tmp_path):
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/usr/bin/env")
    kind = find("python", settings(python_env=tmp_path / "env"))
    assert kind.program == (str(python), "-I", "-u", "-X", "utf8")
    assert kind.shown == (tmp_path / "env", Path("/usr/bin/env").resolve().parents[1])


def test_a_virtual_environment_that_is_none_is_told_of_with_the_remedy(
    settings, tmp_path
):
    with pytest.raises(ConfigurationError, match=r"python_env .*python3 -m venv"):
        find("python", settings(python_env=tmp_path / "none"))


def test_system_is_bash(settings):
    program = find("system", settings()).program
    assert program is not None
    (bash,) = program
    assert Path(bash).name == "bash"


def test_v_is_told_that_the_script_is_a_program(settings):
    kind = find("v", settings(v_path=Path("/usr/bin/env")))
    assert (kind.program, kind.suffix) == (("/usr/bin/env", "run"), ".v")


def test_a_missing_v_is_told_of_with_the_remedy(settings, tmp_path):
    with pytest.raises(ConfigurationError, match=r"'/.*none'.*v_path = "):
        find("v", settings(v_path=tmp_path / "none"))


@pytest.fixture
def engine_is(monkeypatch):
    """An engine of some version is installed, or none."""

    def install(version):
        def look(_):
            if version is None:
                raise PackageNotFoundError
            return version

        monkeypatch.setattr("importlib.metadata.version", look)

    return install


@pytest.mark.parametrize("found", [None, "0.1.0", "0.20.0"])
@pytest.mark.parametrize("name", ["osis", "sal"])
def test_without_the_rhai_engine_its_executors_say_how_to_add_it(
    settings, engine_is, name, found
):
    engine_is(found)
    with pytest.raises(ConfigurationError) as caught:
        find(name, settings())
    command = re.search(r"`(.*)`", caught.value.detail)
    assert command is not None
    python, *words, engine = command[1].split()
    assert (python, words) == (sys.executable, ["-m", "pip", "install"])
    built = tomllib.loads((Path(engine) / "Cargo.toml").read_text())
    engine_is(built["package"]["version"])
    assert find(name, settings()).host == f"workers.hosts.{name}"


def test_hero_runs_here_or_by_the_hero_command(settings):
    assert find("hero", settings()).host == "workers.hosts.hero"
    kind = find("hero", settings(hero_cli=Path("/usr/bin/env")))
    assert kind.host == "workers.hosts.hero_cli"
    assert kind.variables["HORUS_HERO_CLI"] == "/usr/bin/env"


def test_a_hero_command_that_is_none_is_told_of(settings, tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"hero_cli names /.*none, which is no"
    ):
        find("hero", settings(hero_cli=tmp_path / "none"))


def test_a_command_of_the_site_stands_around_the_script(settings):
    chosen = own("env", "-i", "{script}", "-x", suffix=".pl")
    kind = find("own", settings(**chosen))
    assert kind.program is not None
    assert Path(kind.program[0]).name == "env"
    assert (kind.program[1:], kind.behind, kind.suffix) == (("-i",), ("-x",), ".pl")


def test_a_command_that_is_not_there_is_told_of(settings):
    with pytest.raises(ConfigurationError, match="own needs the program 'n0ne'"):
        find("own", settings(**own("n0ne", "{script}")))


@pytest.mark.parametrize("name", ["pyton", "", "api"])
def test_what_is_no_executor_is_refused_with_those_that_there_are(settings, name):
    with pytest.raises(ConfigurationError, match=f"'{name}' here.*: python, .*own"):
        find(name, settings(**own("env", "{script}")))


def test_an_installed_package_adds_an_executor(settings, installed):
    source = "from workers.kinds import Kind\n\ndef kind(_): return Kind(suffix='.x')"
    installed("extra", "siteown:kind", source)
    assert "extra" in names(settings())
    assert find("extra", settings()) == Kind(suffix=".x")


def test_an_installed_executor_cannot_take_the_place_of_a_program(settings, installed):
    installed("api", "siteown:kind")
    assert "api" not in names(settings())


def test_an_executor_that_two_packages_add_is_nobodys(settings, installed):
    installed("extra", "siteown:kind")
    installed("extra", "siteown:other", package="another")
    with pytest.raises(ConfigurationError, match=r"extra .*'siteown:\w+', .*uninstall"):
        find("extra", settings())


@pytest.mark.parametrize(
    "source", ["", "raise OSError", "kind = 1", "def kind(_): return None"]
)
def test_an_installed_executor_that_is_none_is_told_of(settings, installed, source):
    installed("extra", "siteown:kind", source)
    with pytest.raises(ConfigurationError, match="extra of the entry point 'siteown"):
        find("extra", settings())


def test_the_example_adds_executors_to_those_that_are_there_anyway():
    settings = load_settings(env={}, config=EXAMPLE / "horus.toml")
    assert settings.executors == ("python", "system", "perl", "sql")
    assert [one.name for one in settings.executor_commands] == ["perl", "sql"]
