"""SAL's functions that fetch files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote, urlsplit

from workers.sal import web
from workers.sal.kinds import WebAddress
from workers.sal.packages import apt
from workers.sal.session import Power, SalError, Session
from workers.sal.table import make_module

#: Mebibytes of the largest file, unless a script says otherwise.
LARGEST: Final = 1024
_MEBIBYTE: Final = 2**20
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


def download(
    here: Session,
    url: WebAddress,
    folder: Path,
    sha256: str = "",
    max_mb: int = LARGEST,
) -> Path:
    """Fetch a file into a directory, under the last name of its address.

    Returns its path. What is there already is replaced, once all of it is here.
    """
    here.require_host()
    return _fetched(url, folder / _name_in(url), sha256, max_mb)


def download_file(
    here: Session, url: WebAddress, path: Path, sha256: str = "", max_mb: int = LARGEST
) -> Path:
    """Fetch a file to a path, and return that.

    With `sha256`, 64 hex digits, a file that is another one is an error and not kept.
    """
    here.require_host()
    return _fetched(url, path, sha256, max_mb)


def download_install(
    here: Session, url: WebAddress, sha256: str = "", max_mb: int = LARGEST
) -> None:
    """Fetch a Debian package and install it (`packages` must be allowed)."""
    here.require_host()
    here.require(Power.PACKAGES)
    name = _name_in(url)
    if not name.endswith(".deb"):
        raise SalError(f"{name} is no Debian package: its name does not end with .deb")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = _fetched(url, Path(folder) / name, sha256, max_mb)
        apt(here, "install", str(file))


def chmod_exec(here: Session, path: Path) -> Path:
    """Make a file executable for everybody who may read it. Returns the path."""
    mode = path.stat().st_mode
    path.chmod(mode | (mode & 0o444) >> 2)
    return path


def _fetched(url: str, path: Path, sha256: str, max_mb: int) -> Path:
    if sha256 and not _SHA256.fullmatch(sha256):
        raise SalError("sha256 must be 64 hex digits")
    if max_mb < 1:
        raise SalError("max_mb must be 1 or more")
    path.parent.mkdir(parents=True, exist_ok=True)
    import tempfile

    # Beside its place, so that it gets there whole or not at all.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".download-")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _receive(url, file, sha256.lower(), max_mb * _MEBIBYTE)
        partial.chmod(0o644)
        partial.replace(path)
    except BaseException:
        partial.unlink()
        raise
    return path


def _receive(url: str, file: IO[bytes], sha256: str, most: int) -> None:
    """Write what is at an address into a file, if it is what it has to be."""
    import hashlib

    digest, size = hashlib.sha256(), 0
    with web.answering("GET", url, follow=True) as response:
        if response.status_code != 200:  # noqa: PLR2004 - HTTP's OK
            raise SalError(f"{url} answers {response.status_code}")
        for part in response.iter_bytes():
            size += len(part)
            if size > most:
                raise SalError(f"{url} has more than {most // _MEBIBYTE} MiB")
            digest.update(part)
            file.write(part)
    found = digest.hexdigest()
    if sha256 and found != sha256:
        raise SalError(f"{url} has the SHA-256 {found}, not {sha256}")


def _name_in(url: str) -> str:
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise SalError(f"{url} has no file name; use download_file")
    return name


MODULE: Final = make_module(
    "download",
    """Files from the web: http and https, with `net: host`.

    A file is complete or not there at all.
    """,
    *(download, download_file, download_install, chmod_exec),
)
