"""SAL's functions for repositories of git."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

from workers.sal.kinds import Word
from workers.sal.programs import CommandResult, Program, succeeded
from workers.sal.session import SalError, Session
from workers.sal.table import SalObject, make_module

#: Nobody is there to be asked for a password, and no helper of an address is started
#: but those of git itself.
_ENVIRONMENT: Final = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "LC_ALL": "C.UTF-8",
}
_LONGEST: Final = timedelta(hours=1)
#: `host:path`, as ssh has it; a slash before the colon makes it a path.
_SCP: Final = re.compile(r"(?:[^/:@]+@)?(?P<host>[^/:]+):(?P<path>.+)")
_URL: Final = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:[^/@]*@)?(?P<host>[^/:]*)[^/]*(?P<path>/.*)"
)


class Repository(SalObject):
    """A working copy of a repository; what changes it returns it."""

    def __init__(self, here: Session, place: Path) -> None:
        self._here = here
        self._place = place

    @property
    def path(self) -> Path:
        """Where it lies. Also to be had as a method."""
        return self._place

    @property
    def has_changes(self) -> bool:
        """Whether a file differs from the last commit. Also to be had as a method."""
        return bool(self._git("status", "--porcelain").stdout.strip())

    def pull(self) -> Self:
        """Fetch what is new, and go on to it.

        It is an error if both sides have gone on. A remote on another machine needs
        `net: host`.
        """
        self._require_reach("--all")
        self._git("pull", "--ff-only")
        return self

    def reset(self) -> Self:
        """Throw away every change since the last commit, and files that it lacks."""
        self._git("reset", "--hard")
        self._git("clean", "-ffd")
        return self

    def commit(self, message: str) -> Self:
        """Commit every change; without any, nothing happens."""
        if not message.strip():
            raise SalError("the message is empty")
        self._git("add", "--all")
        if self._git("status", "--porcelain").stdout.strip():
            self._git("commit", "--file=-", text=message)
        return self

    def push(self) -> Self:
        """Push the commits of this branch to where it came from.

        A remote on another machine needs `net: host`.
        """
        self._require_reach("--push", "--all")
        self._git("push")
        return self

    def _require_reach(self, *which: str) -> None:
        remotes = self._git("remote").stdout.split()
        for remote in remotes:
            found = self._git("remote", "get-url", *which, remote).stdout
            for url in found.splitlines():
                _require_reach(self._here, url)

    def _git(self, *words: str, text: str = "") -> CommandResult:
        return _git("-C", str(self._place), *words, text=text)

    methods = (path, has_changes, pull, reset, commit, push)
    properties = (path, has_changes)


class GitTree(SalObject):
    """A directory with repositories in it, at any depth."""

    def __init__(self, here: Session, root: Path) -> None:
        self._here = here
        self._root = root

    def list_(self) -> list[Path]:
        """Return the paths of all repositories, in order."""
        return sorted(_repositories_below(self._root))

    def find(self, pattern: Word) -> list[Path]:
        """Return the paths of the repositories whose name matches, as in `horus*`.

        The name is the path below the tree, or its last part.
        """
        return [path for path in self.list_() if self._matches(path, pattern)]

    def get(self, name: Word) -> Repository:
        """Return the one repository whose name matches.

        What is an address is cloned, unless it was before. It is an error if there is
        none, or more than one.
        """
        if _URL.fullmatch(name) or _SCP.fullmatch(name):
            return git_clone(self._here, name, self._place_of(name))
        found = self.find(name)
        if len(found) != 1:
            count = f"{len(found)} repositories match" if found else "none matches"
            raise SalError(f"{count} {name!r} below {self._root}, and it must be one")
        return Repository(self._here, found[0])

    def _matches(self, path: Path, pattern: str) -> bool:
        names = (path.name, path.relative_to(self._root).as_posix())
        return any(fnmatch.fnmatchcase(name, pattern) for name in names)

    def _place_of(self, url: str) -> Path:
        parts = _URL.fullmatch(url) or _SCP.fullmatch(url)
        assert parts is not None  # noqa: S101 - the caller looked
        names = [parts["host"], *parts["path"].removesuffix(".git").split("/")]
        return self._root.joinpath(*(name for name in names if name not in _NO_NAMES))

    methods = (list_, find, get)


def git_tree_new(here: Session, path: Path) -> GitTree:
    """Return the tree of the repositories below a directory, which is made."""
    path.mkdir(parents=True, exist_ok=True)
    return GitTree(here, path.absolute())


def git_clone(here: Session, url: Word, path: Path | None = None) -> Repository:
    """Clone a repository to a path, or under its own name; a clone of it stays.

    An address of another machine needs `net: host`; a path of this one does not.
    """
    target = (path or Path(_name_in(url))).absolute()
    if (target / ".git").exists():
        return _known_clone(here, url, target)
    _require_reach(here, url)
    target.parent.mkdir(parents=True, exist_ok=True)
    _git("clone", "--", url, str(target))
    return Repository(here, target)


_NO_NAMES: Final = frozenset({"", ".", ".."})


def _known_clone(here: Session, url: str, target: Path) -> Repository:
    found = _git("-C", str(target), "config", "--get", "remote.origin.url").stdout
    if found.strip() != url:
        raise SalError(f"{target} is a clone of {found.strip()}, not of {url}")
    return Repository(here, target)


def _require_reach(here: Session, url: str) -> None:
    if not _is_local(url):
        here.require_host()


def _is_local(url: str) -> bool:
    if parts := _URL.fullmatch(url):
        return parts["scheme"] == "file"
    return _SCP.fullmatch(url) is None


def _name_in(url: str) -> str:
    name = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    if name in _NO_NAMES:
        raise SalError(f"{url} has no name; say a path to clone it to")
    return name


def _repositories_below(root: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(root):
        if ".git" in folders or ".git" in files:
            yield Path(place)
            folders.clear()


def _git(*words: str, text: str = "") -> CommandResult:
    program = Program(
        words=["git", *words], env=_ENVIRONMENT, input=text.encode(), timeout=_LONGEST
    )
    return succeeded(program.words, program.run())


MODULE: Final = make_module(
    "git",
    """Repositories, by the program git.

    What reaches another machine needs `net: host`. A commit needs `user.name` and
    `user.email`, which `run("git config …")` sets, or the variables `GIT_AUTHOR_NAME`
    and its kin.
    """,
    *(git_tree_new, git_clone),
    objects=(GitTree, Repository),
)
