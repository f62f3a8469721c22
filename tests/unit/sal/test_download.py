"""SAL's functions that fetch files, from a web server of the test's own."""

from __future__ import annotations

import hashlib
import os

import pytest

from workers.sal import Net

from .conftest import make_script

DATA = b"some bytes\x00\xff"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def url(web):
    web.answer("GET", "/files/tool.bin", (200, DATA))
    return f"{web.url}/files/tool.bin?version=1"


def test_a_file_is_fetched_into_a_directory_under_its_name(script, folder, url):
    assert script("download", url, "sub") == "sub/tool.bin"
    assert (folder / "sub/tool.bin").read_bytes() == DATA
    assert [one.name for one in (folder / "sub").iterdir()] == ["tool.bin"]


def test_a_file_is_fetched_to_a_path_if_it_is_the_right_one(script, folder, url):
    assert script("download_file", url, "a", SHA256.upper()) == "a"
    assert (folder / "a").read_bytes() == DATA


@pytest.mark.parametrize("name", ["download", "download_file"])
def test_a_file_that_is_another_one_is_not_kept(script, folder, url, name):
    said = script.refusal(name, url, "a", "0" * 64)
    assert f"has the SHA-256 {SHA256}, not {'0' * 64}" in said
    assert [one for one in folder.rglob("*") if one.is_file()] == []


def test_what_was_there_stays_until_the_new_one_is(script, folder, url):
    (folder / "a").write_text("before")
    script.refusal("download_file", url, "a", "0" * 64)
    assert (folder / "a").read_text() == "before"
    script("download_file", url, "a")
    assert (folder / "a").read_bytes() == DATA


def test_a_file_that_is_too_large_is_not_kept(script, folder, web):
    web.answer("GET", "/big", (200, b"x" * (2**20 + 1)))
    said = script.refusal("download_file", f"{web.url}/big", "a", "", 1)
    assert "has more than 1 MiB" in said
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["download", "download_file"])
def test_what_is_not_there_is_not_fetched(script, folder, web, name):
    assert "answers 404" in script.refusal(name, f"{web.url}/missing", "a")
    assert [one for one in folder.rglob("*") if one.is_file()] == []


@pytest.mark.parametrize("path", ["", "/", "/..", "/%2e%2e", "/a%2Fb", "/%00"])
def test_an_address_without_a_name_needs_one(script, folder, web, path):
    said = script.refusal("download", f"{web.url}{path}", ".")
    assert "has no file name; use download_file" in said


@pytest.mark.parametrize(
    ("sha256", "most", "why"),
    [("12", 1, "64 hex digits"), ("", 0, "max_mb must be 1"), (1, 1, "sha256 must be")],
)
def test_a_checksum_and_a_bound_have_their_form(script, url, sha256, most, why):
    assert why in script.refusal("download_file", url, "a", sha256, most)


def test_only_the_web_is_fetched_from(script):
    assert "url must begin with http" in script.refusal(
        "download", "file:///etc/passwd", "."
    )


def test_a_package_is_fetched_and_installed(script, stand_in, web):
    apt = stand_in("apt-get", "print(open(words[-1]).read())\n")
    web.answer("GET", "/tool.deb", (200, b"package"))
    assert script("download_install", f"{web.url}/tool.deb") is None
    (words,) = apt.calls
    assert words[-3:-1] == ["install", "--"]
    assert words[-1].endswith("/tool.deb")


def test_only_packages_are_installed_and_only_where_allowed(script, stand_in, web):
    apt = stand_in("apt-get")
    assert "no Debian package" in script.refusal("download_install", f"{web.url}/a.sh")
    said = make_script(net=Net.HOST).refusal("download_install", f"{web.url}/a.deb")
    assert 'sal_allow = ["packages"]' in said
    assert apt.calls == []


def test_who_may_read_a_file_may_then_execute_it(confined, folder):
    (folder / "a").write_text("#!/bin/sh\n")
    (folder / "a").chmod(0o640)
    assert confined("chmod_exec", "a") == "a"
    assert (folder / "a").stat().st_mode & 0o777 == 0o750
    assert os.access(folder / "a", os.X_OK)
