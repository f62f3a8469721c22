"""SAL's functions for repositories, with the real git and repositories on disk."""

from __future__ import annotations

import subprocess

import pytest


def git(*words, cwd):
    done = subprocess.run(  # noqa: S603 - our own argv
        ["git", *words],  # noqa: S607 - that of the tests' PATH
        cwd=cwd,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.fixture(autouse=True)
def identity(monkeypatch, tmp_path):
    """An author, and no configuration but that of the test."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ada@example.org")


@pytest.fixture
def origin(tmp_path):
    """A bare repository with one commit."""
    place = tmp_path / "origin.git"
    seed = tmp_path / "seed"
    git("init", "--quiet", "--bare", "--initial-branch=main", str(place), cwd=tmp_path)
    git("clone", "--quiet", str(place), str(seed), cwd=tmp_path)
    (seed / "a").write_text("one\n")
    git("add", "a", cwd=seed)
    git("commit", "--quiet", "-m", "Begin", cwd=seed)
    git("push", "--quiet", "origin", "HEAD:main", cwd=seed)
    return place


def test_a_path_is_cloned_without_any_network(confined, folder, origin):
    clone = confined("git_clone", str(origin))
    assert clone.rhai_get("path") == f"{folder}/origin"
    assert clone.rhai_call("path", []) == f"{folder}/origin"
    assert (folder / "origin/a").read_text() == "one\n"
    again = confined("git_clone", f"file://{origin}", str(folder / "other"))
    assert again.rhai_get("path") == f"{folder}/other"


def test_a_clone_stays_and_another_repository_is_not_taken_for_it(
    confined, folder, origin
):
    confined("git_clone", str(origin), "here")
    (folder / "here/a").write_text("mine\n")
    confined("git_clone", str(origin), "here")
    assert (folder / "here/a").read_text() == "mine\n"
    said = confined.refusal("git_clone", "/other.git", "here")
    assert f"is a clone of {origin}, not of /other.git" in said


@pytest.mark.parametrize(
    "url",
    [
        "https://example.invalid/a/b.git",
        "git@example.invalid:a/b.git",
        "ssh://git@example.invalid/a",
        "host:path",
        "git://example.invalid/a",
    ],
)
def test_another_machine_needs_the_network(confined, folder, url):
    assert "sign it with net: host" in confined.refusal("git_clone", url)
    tree = confined("git_tree_new", "tree")
    with pytest.raises(Exception, match="net: host"):
        tree.rhai_call("get", [url])


@pytest.mark.parametrize(
    "url", ["--upload-pack=touch x", "ext::sh -c touch% x", "/", "", "a\0b", "a\nb"]
)
def test_what_is_no_address_is_not_cloned(script, folder, url):
    assert script.refusal("git_clone", url).startswith("git_clone: ")
    assert not (folder / "x").exists()


def test_a_repository_that_is_missing_is_an_error(confined, folder):
    assert "git ended with the code 128" in confined.refusal("git_clone", "/nowhere")


def test_changes_are_seen_committed_and_pushed(confined, folder, origin, tmp_path):
    clone = confined("git_clone", str(origin))
    assert clone.rhai_get("has_changes") is False
    (folder / "origin/new").write_text("x")
    assert clone.rhai_call("has_changes", []) is True
    assert clone.rhai_call("commit", ["-m is no option\n\nbut text"]) is clone
    assert clone.rhai_get("has_changes") is False
    assert clone.rhai_call("commit", ["Nothing"]) is clone
    assert clone.rhai_call("push", []) is clone
    told = git("log", "--format=%s", "main", cwd=origin).splitlines()
    assert told == ["-m is no option", "Begin"]


def test_a_commit_has_a_message(confined, folder, origin):
    clone = confined("git_clone", str(origin))
    with pytest.raises(Exception, match="commit: the message is empty"):
        clone.rhai_call("commit", [" "])


def test_a_push_that_is_refused_is_an_error(confined, folder, origin, tmp_path):
    clone = confined("git_clone", str(origin))
    (tmp_path / "seed/a").write_text("theirs\n")
    git("commit", "--quiet", "--all", "-m", "Theirs", cwd=tmp_path / "seed")
    git("push", "--quiet", "origin", "HEAD:main", cwd=tmp_path / "seed")
    (folder / "origin/a").write_text("ours\n")
    clone.rhai_call("commit", ["Ours"])
    for name in ("push", "pull"):
        with pytest.raises(Exception, match=f"^{name}: git ended with the code"):
            clone.rhai_call(name, [])


def test_a_pull_brings_what_is_new(confined, folder, origin, tmp_path):
    clone = confined("git_clone", str(origin))
    (tmp_path / "seed/b").write_text("two\n")
    git("add", "b", cwd=tmp_path / "seed")
    git("commit", "--quiet", "-m", "More", cwd=tmp_path / "seed")
    git("push", "--quiet", "origin", "HEAD:main", cwd=tmp_path / "seed")
    assert clone.rhai_call("pull", []) is clone
    assert (folder / "origin/b").read_text() == "two\n"


def test_a_reset_throws_changes_and_new_files_away(confined, folder, origin):
    clone = confined("git_clone", str(origin))
    (folder / "origin/a").write_text("mine\n")
    (folder / "origin/new").write_text("mine\n")
    assert clone.rhai_call("reset", []) is clone
    assert (folder / "origin/a").read_text() == "one\n"
    assert not (folder / "origin/new").exists()


@pytest.mark.parametrize("name", ["pull", "push"])
def test_a_remote_elsewhere_needs_the_network(confined, folder, origin, name):
    clone = confined("git_clone", str(origin))
    url = "https://example.invalid/a.git"
    git("remote", "set-url", "origin", url, cwd=folder / "origin")
    with pytest.raises(Exception, match=f"^{name}: this leaves the node"):
        clone.rhai_call(name, [])


@pytest.mark.parametrize("name", ["reset", "pull", "push", "has_changes"])
def test_what_is_no_repository_any_more_is_an_error(confined, folder, origin, name):
    clone = confined("git_clone", str(origin))
    confined("delete", "origin")
    with pytest.raises(Exception, match=f"^{name}: git ended with the code 128"):
        clone.rhai_call(name, [])


@pytest.fixture
def tree(confined, folder, origin):
    """A tree with two repositories in it."""
    for path in ("tree/a/horus", "tree/b/horus", "tree/b/rust"):
        confined("git_clone", str(origin), path)
    return confined("git_tree_new", "tree")


def test_a_tree_knows_its_repositories(tree, folder):
    paths = [f"{folder}/tree/{name}" for name in ("a/horus", "b/horus", "b/rust")]
    assert tree.rhai_call("list", []) == paths
    assert tree.rhai_call("find", ["ho*"]) == paths[:2]
    assert tree.rhai_call("find", ["b/*"]) == paths[1:]
    assert tree.rhai_call("find", ["nothing"]) == []


def test_one_repository_of_a_tree_is_got_by_its_name(tree, folder):
    found = tree.rhai_call("get", ["rust"])
    assert found.rhai_get("path") == f"{folder}/tree/b/rust"
    with pytest.raises(Exception, match="2 repositories match 'horus'"):
        tree.rhai_call("get", ["horus"])
    with pytest.raises(Exception, match="none matches 'nothing'"):
        tree.rhai_call("get", ["nothing"])


def test_an_address_is_cloned_into_the_tree_once(tree, folder, origin):
    address = f"file://{origin}"
    found = tree.rhai_call("get", [address])
    place = f"{folder}/tree{str(origin).removesuffix('.git')}"
    assert found.rhai_get("path") == place
    assert tree.rhai_call("get", [address]).rhai_get("path") == place


def test_an_address_cannot_lead_out_of_the_tree(tree, folder, tmp_path):
    with pytest.raises(Exception, match="git ended with the code"):
        tree.rhai_call("get", [f"file://{tmp_path}/../../../../outside"])
    assert not (tmp_path.parent / "outside").exists()


def test_an_empty_tree_is_made(confined, folder):
    tree = confined("git_tree_new", "new/tree")
    assert tree.rhai_call("list", []) == []
    (folder / "file").touch()
    assert "File exists" in confined.refusal("git_tree_new", "file")


def test_a_property_that_cannot_be_read_is_an_error_by_its_name(
    confined, folder, origin
):
    clone = confined("git_clone", str(origin))
    confined("delete", "origin")
    with pytest.raises(Exception, match=r"^has_changes: git ended with the code 128"):
        clone.rhai_get("has_changes")
