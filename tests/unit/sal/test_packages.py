"""SAL's functions for packages and platforms, by stand-ins for apt's programs."""

from __future__ import annotations

import platform

import pytest

from workers.sal import Net, Power, packages

from .conftest import make_script

QUERY = """
table = {'git': 'ii ', 'old': 'rc ', 'bash': 'ii '}
if '--' not in words:
    for name, status in table.items():
        print(status, name)
elif words[-1] == 'broken':
    print('dpkg-query: cannot open the database', file=sys.stderr)
    sys.exit(2)
elif words[-1] in table:
    print(table[words[-1]], end='')
else:
    print('no packages found', file=sys.stderr)
    sys.exit(1)
"""
LOCK = ["--yes", "--option", "DPkg::Lock::Timeout=60"]


@pytest.fixture
def apt(stand_in, tmp_path, monkeypatch):
    """Stand-ins for apt's programs, and what they read; returns that of apt-get."""
    monkeypatch.setattr(packages, "_DATABASE", tmp_path)
    monkeypatch.setattr(packages, "_LISTS", tmp_path)
    stand_in("dpkg-query", QUERY)
    stand_in("apt-cache", "print('zsh - a shell\\nbash - another\\nzsh - again')\n")
    return stand_in(
        "apt-get",
        "print(os.environ['DEBIAN_FRONTEND'])\n"
        "if words[-1] == 'missing':\n"
        "    print('E: Unable to locate package', file=sys.stderr)\n"
        "    sys.exit(100)\n",
    )


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("package_install", ["g++"], ["install", "--", "g++"]),
        ("package_install", ["git=1:2.4"], ["install", "--", "git=1:2.4"]),
        ("package_remove", ["git"], ["remove", "--", "git"]),
        ("package_update", [], ["update"]),
        ("package_upgrade", [], ["upgrade"]),
    ],
)
def test_packages_change_without_questions(script, apt, name, args, words):
    result = script(name, *args)
    assert result.rhai_get("stdout") == "noninteractive\n"
    assert apt.calls == [[*LOCK, *words]]
    assert script.log == []


@pytest.mark.parametrize("name", ["package_install", "package_remove"])
def test_a_package_that_nobody_knows_is_an_error(script, apt, name):
    said = script.refusal(name, "missing")
    assert said == (
        f"{name}: apt-get ended with the code 100: E: Unable to locate package"
    )


@pytest.mark.parametrize(
    "package",
    ["--allow-unauthenticated", "git-", "./a.deb", "a*", "a b", "", "A", "/x"],
)
@pytest.mark.parametrize("name", ["package_install", "package_remove"])
def test_only_a_name_is_installed_or_removed(script, apt, name, package):
    assert script.refusal(name, package).startswith(f"{name}: ")
    assert apt.calls == []


CHANGES = [
    ("package_install", ["git"]),
    ("package_remove", ["git"]),
    ("package_update", []),
    ("package_upgrade", []),
]


@pytest.mark.parametrize(("name", "args"), CHANGES)
def test_changes_are_off_unless_the_runner_allows_them(apt, name, args):
    said = make_script(net=Net.HOST).refusal(name, *args)
    assert said == (
        f"{name}: this acts on the node (packages), and the runner does not allow it;"
        ' set sal_allow = ["packages"] in its configuration'
    )
    assert apt.calls == []


@pytest.mark.parametrize("name", ["package_install", "package_update"])
def test_what_is_fetched_needs_the_network(apt, name):
    script = make_script(allowed=frozenset({Power.PACKAGES}))
    args = ["git"] if name == "package_install" else []
    assert "sign it with net: host" in script.refusal(name, *args)


def test_upgrades_need_the_network_and_removals_do_not(apt):
    script = make_script(allowed=frozenset({Power.PACKAGES}))
    assert "net: host" in script.refusal("package_upgrade")
    assert script("package_remove", "git").rhai_get("success")


def test_with_debug_the_log_has_what_apt_says(script, apt):
    assert script("package_set_debug", *[True]) is True
    script("package_update")
    assert script.printed() == b"noninteractive\n"
    assert script("package_set_debug", *[False]) is False
    script("package_update")
    assert script.printed() == b"noninteractive\n"
    assert "must be true or false" in script.refusal("package_set_debug", 1)


def test_installed_packages_are_listed_by_anybody(confined, apt):
    assert confined("package_list") == ["bash", "git"]


def test_a_package_is_installed_or_not(confined, apt):
    assert confined("package_is_installed", "git") is True
    assert confined("package_is_installed", "old") is False
    assert confined("package_is_installed", "unknown") is False
    said = confined.refusal("package_is_installed", "broken")
    assert "dpkg-query ended with the code 2: dpkg-query: cannot open" in said


def test_packages_are_searched(confined, apt):
    assert confined("package_search", "shell") == ["bash", "zsh"]
    assert "query must" in confined.refusal("package_search", "--all")


def test_who_cannot_see_the_packages_is_told_so_and_not_that_there_are_none(
    confined, stand_in, tmp_path, monkeypatch
):
    monkeypatch.setattr(packages, "_DATABASE", tmp_path / "dpkg")
    monkeypatch.setattr(packages, "_LISTS", tmp_path / "lists")
    stand_in("dpkg-query", "sys.exit('--' in words)\n")
    stand_in("apt-cache", "")
    for name, args, missing in (
        ("package_is_installed", ["git"], "dpkg"),
        ("package_list", [], "dpkg"),
        ("package_search", ["git"], "lists"),
    ):
        said = confined.refusal(name, *args)
        assert said.startswith(f"{name}: the packages of the node are not shown")
        assert f"there is no {tmp_path / missing} here" in said
        assert "set sandbox_paths = [" in said


def test_a_system_without_apt_says_so(confined, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "there is no program dpkg-query" in confined.refusal("package_list")


def test_a_system_says_what_it_is_or_not(confined, monkeypatch):
    assert confined("package_platform") == platform.freedesktop_os_release()["ID"]
    monkeypatch.setattr(platform, "freedesktop_os_release", dict)
    assert "does not say what it is in /etc/os-release" in confined.refusal(
        "package_platform"
    )


# --- platforms ---------------------------------------------------------------------


@pytest.fixture
def on(monkeypatch):
    """Let this be another machine."""

    def be(system, machine):
        monkeypatch.setattr(platform, "system", lambda: system)
        monkeypatch.setattr(platform, "machine", lambda: machine)

    return be


@pytest.mark.parametrize(
    ("system", "machine", "true"),
    [
        ("Linux", "x86_64", {"platform_is_linux", "platform_is_x86"}),
        ("Linux", "aarch64", {"platform_is_linux", "platform_is_arm"}),
        ("Darwin", "arm64", {"platform_is_osx", "platform_is_arm"}),
        ("Darwin", "x86_64", {"platform_is_osx", "platform_is_x86"}),
    ],
)
def test_a_script_knows_which_machine_this_is(confined, on, system, machine, true):
    on(system, machine)
    names = {f"platform_is_{one}" for one in ("osx", "linux", "arm", "x86")}
    assert {name for name in names if confined(name)} == true


def test_a_script_demands_its_machine(confined, on):
    on("Linux", "x86_64")
    assert confined("platform_check_linux_x86") is None
    said = confined.refusal("platform_check_macos_arm")
    assert said.endswith("this needs macOS on ARM, and this is Linux on x86_64")
    on("Darwin", "arm64")
    assert confined("platform_check_macos_arm") is None
    said = confined.refusal("platform_check_linux_x86")
    assert said.endswith("this needs Linux on x86, and this is Darwin on arm64")
