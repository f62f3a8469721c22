"""SAL's functions for files and directories."""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from workers.sal.kinds import LONGEST_TEXT, MOST_ITEMS, Word, Words
from workers.sal.programs import Program, output_of
from workers.sal.session import SalError, Session
from workers.sal.table import make_module


def exist(here: Session, path: Path) -> bool:
    """Whether there is anything at a path."""
    return path.exists()


def find_file(here: Session, folder: Path, pattern: Word) -> Path:
    """Return the one file below a directory whose name matches, as in `*.md`.

    It is an error if there is none, or more than one.
    """
    return _only_one(_files_below(folder, pattern), f"file {pattern} below {folder}")


def find_files(here: Session, folder: Path, pattern: Word) -> list[Path]:
    """Return every file below a directory whose name matches, in order."""
    return _files_below(folder, pattern)


def find_dir(here: Session, folder: Path, pattern: Word) -> Path:
    """Return the one directory below another whose name matches.

    It is an error if there is none, or more than one.
    """
    told = f"directory {pattern} below {folder}"
    return _only_one(_folders_below(folder, pattern), told)


def find_dirs(here: Session, folder: Path, pattern: Word) -> list[Path]:
    """Return every directory below another whose name matches, in order."""
    return _folders_below(folder, pattern)


def delete(here: Session, path: Path) -> Path:
    """Delete a file, a link, or a directory with all that is in it.

    What is not there is deleted already. Returns the path.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path


def mkdir(here: Session, path: Path) -> Path:
    """Make a directory, and those above it; one that is there stays.

    Returns the path.
    """
    path.mkdir(parents=True, exist_ok=True)
    return path


def file_size(here: Session, path: Path) -> int:
    """Return how many bytes a file has."""
    return _regular(path).st_size


def rsync(here: Session, source: Path, destination: Path) -> Path:
    """Make a directory like another one: what differs is copied, the rest is deleted.

    Needs the program rsync. Returns the destination.
    """
    if not source.is_dir():
        raise SalError(f"there is no directory {source}")
    # Absolute, since `host:path` would be another machine's.
    there = [f"{source.absolute()}/", f"{destination.absolute()}/"]
    destination.mkdir(parents=True, exist_ok=True)
    output_of(Program(words=["rsync", "--archive", "--delete", "--", *there]))
    return destination


def chdir(here: Session, path: Path) -> Path:
    """Make a directory the current one of this script. Returns it, in full."""
    os.chdir(path)
    return Path.cwd()


def file_read(here: Session, path: Path) -> str:
    """Return the text of a file: UTF-8, up to 16 MiB."""
    return read_text(path)


def file_write(here: Session, path: Path, text: str) -> Path:
    """Write a text as a whole file; directories are made. Returns the path."""
    write_text(path, text)
    return path


def file_write_append(here: Session, path: Path, text: str) -> Path:
    """Write a text at the end of a file, which is made if need be. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)
    return path


def copy(here: Session, source: Path, destination: Path) -> Path:
    """Copy a file, or a directory with all that is in it; links in there stay links.

    Into `destination` if that is a directory, else to it. Returns where the copy is.
    """
    target = destination / source.name if destination.is_dir() else destination
    if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
        raise SalError(f"{target} lies in {source} itself")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
    return target


def copy_bin(here: Session, source: Path) -> Path:
    """Copy a program to `~/.local/bin` and make it executable. Returns where it is."""
    _regular(source)
    target = Path.home() / ".local/bin" / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    target.chmod(0o755)
    return target


def mv(here: Session, source: Path, destination: Path) -> Path:
    """Move a file or a directory, into `destination` if that is a directory.

    Returns where it is now.
    """
    if not destination.is_dir():
        destination.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(source, destination))


def which(here: Session, command: Word) -> str:
    """Return the path of a program, or `""` if there is none."""
    return shutil.which(command) or ""


def cmd_ensure_exists(here: Session, commands: Words) -> None:
    """Fail unless each of these programs is there; a string has commas between them."""
    names = [name.strip() for word in commands for name in word.split(",")]
    missing = [name for name in names if name and shutil.which(name) is None]
    if missing:
        raise SalError(f"not installed: {', '.join(missing)}")


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        SalError: if it is no file, no text, or too large.
        OSError: if it cannot be read.
    """
    size = _regular(path).st_size
    if size > LONGEST_TEXT:
        raise SalError(f"{path} has {size} bytes; at most {LONGEST_TEXT} are read")
    with path.open("rb") as file:
        data = file.read(LONGEST_TEXT + 1)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SalError(f"{path} is not text in UTF-8") from None


def write_text(path: Path, text: str) -> None:
    """Write a text as a whole file.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")


def _regular(path: Path) -> os.stat_result:
    """Look at a file; reading a pipe or a device might never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise SalError(f"{path} is not a file")
    return found


def _files_below(folder: Path, pattern: str) -> list[Path]:
    return _below(folder, pattern, of_files=True)


def _folders_below(folder: Path, pattern: str) -> list[Path]:
    return _below(folder, pattern, of_files=False)


def _below(folder: Path, pattern: str, *, of_files: bool) -> list[Path]:
    if not folder.is_dir():
        raise SalError(f"there is no directory {folder}")
    found: list[Path] = []
    for one in _walked(folder, of_files=of_files):
        if fnmatch.fnmatchcase(one.name, pattern):
            found.append(one)
        if len(found) > MOST_ITEMS:
            raise SalError(f"more than {MOST_ITEMS} match below {folder}")
    return sorted(found)


def _walked(folder: Path, *, of_files: bool) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in (files if of_files else folders))


def _only_one(found: list[Path], what: str) -> Path:
    if not found:
        raise SalError(f"there is no {what}")
    if len(found) > 1:
        raise SalError(f"there are {len(found)} of {what}, not one")
    return found[0]


MODULE: Final = make_module(
    "files",
    """Files and directories, as the script sees them.

    A path that is not absolute begins at the current directory. A pattern is that of a
    shell: `*`, `?`, `[abc]`.
    """,
    *(exist, find_file, find_files, find_dir, find_dirs, delete, mkdir, file_size),
    *(rsync, chdir, file_read, file_write, file_write_append, copy, copy_bin, mv),
    *(which, cmd_ensure_exists),
)
