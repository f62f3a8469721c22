"""The kinds of value that settings have: how each is read, and what it may be."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from horus_celery.api_secrets.secret import fault_of
from horus_celery.errors import ConfigurationError
from horus_celery.store.address import read_address

#: What functions of `sal` may be allowed.
SAL_RIGHTS: Final = "^(packages|containers|services|ssh)$"
#: What stands for the script's file in a command.
SCRIPT: Final = "{script}"
_NAME: Final = "[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}"
A_NAME: Final = "1 to 128 letters, digits or ._@:- that begin with a letter or digit"
_ORIGIN: Final = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?"
)
_USUAL_PORTS: Final = {"http": 80, "https": 443}
_IN_BRACKETS: Final = re.compile(r"\[([0-9a-f:.]+(?:%[^\]]+)?)\]", re.IGNORECASE)
_HOST: Final = re.compile(r"[a-z0-9._-]{1,253}|\[?[0-9a-f:.]{2,45}\]?", re.IGNORECASE)

Name = Annotated[
    str,
    StringConstraints(pattern=rf"^{_NAME}$"),
    Field(description=A_NAME),
]
NameOrAll = Annotated[str, StringConstraints(pattern=rf"^(\*|{_NAME})$")]


def number(least: int, most: int | None, more: str = "") -> Any:  # noqa: ANN401 - what pydantic's Field returns
    """Bound a number, and say so."""
    range_ = f"from {least} to {most}" if most else f"that is {least} or more"
    return Field(
        strict=True, ge=least, le=most, description=f"a whole number {range_}{more}"
    )


Port = Annotated[int, number(0, 65535, " (0 takes a free one)")]
Switch = Annotated[bool, Field(strict=True, description="true or false")]


def parts(value: object) -> object:
    """Read a list that came as one string: JSON, or words between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(
                'is no list: write ["A", "B"], or A,B with commas between'
            ) from None
    return [part.strip() for part in value.split(",") if part.strip()]


def tables(value: object) -> object:
    """Read a table that came as one string of JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(
            'is no table: write JSON such as {"NAME": {"file": "/PATH"}}'
        ) from None


def absolute(path: Path) -> Path:
    """Return the whole of a path, wherever one stands.

    Raises:
        ValueError: if nothing can be made of it.
    """
    # Configuration files of others repeat it, and have no way to quote such a letter.
    if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in str(path)):
        raise ValueError("holds a line break or another letter that cannot be shown")
    try:
        return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - a link stays one
    except (OSError, RuntimeError):
        raise ValueError(
            "cannot be found from here: write it in full, beginning with /"
        ) from None


def redis_address(url: str) -> str:
    try:
        read_address(url)
    except ConfigurationError as error:
        raise ValueError(error.detail.removeprefix("redis_url ")) from None
    return url


def entries(value: object) -> object:
    """Read each bare secret as one that opens every context."""
    found = parts(value)
    if not isinstance(found, (list, tuple)):
        return found
    return [
        {"secret": part} if isinstance(part, (str, SecretStr)) else part
        for part in found
    ]


def strong(secret: SecretStr) -> SecretStr:
    fault = fault_of(secret.get_secret_value())
    if fault is not None:
        raise ValueError(fault)
    return secret


def login(value: SecretStr) -> SecretStr:
    user, colon, password = value.get_secret_value().partition(":")
    # Flower reads several logins from one text, between commas.
    if not (user and colon and password) or "," in password:
        raise ValueError("must have the form USER:PASSWORD, without a comma")
    return value


def with_a_script(words: tuple[str, ...]) -> tuple[str, ...]:
    """See that a command says where its script's file stands.

    Raises:
        ValueError: if it does not, or says it twice, or in the program's place.
    """
    if words.count(SCRIPT) != 1 or words[0] == SCRIPT:
        raise ValueError(
            f"must hold the word {SCRIPT} once, behind the program, for the file of the"
            " script"
        )
    return words


def once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names one twice")
    return names


def listening(address: str) -> str:
    """Return an address without the brackets that it has in a URL."""
    found = _IN_BRACKETS.fullmatch(address)
    return address if found is None else found[1]


def host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise ValueError("must be a host's name or address, without scheme and port")
    return name


def origin(text: str) -> str:
    """Return an origin as browsers write it: in lower case, without a usual port."""
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        raise ValueError(
            "must be an origin as browsers write it, such as https://example.org or"
            " http://localhost:8080, and not *"
        )
    scheme, host, port = found.groups()
    is_usual = port is None or int(port) == _USUAL_PORTS[scheme]
    return f"{scheme}://{host}" + ("" if is_usual else f":{int(port)}")


def network(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            "must be an address or a network, such as 10.0.0.1 or 10.0.0.0/8"
        ) from None
    return text


def process_manager(name: str) -> str:
    if name == "zinit":
        raise ValueError(
            'cannot be "zinit", which is not there yet: choose "simple" or'
            ' "tmux:SESSION"'
        )
    if not re.fullmatch(r"simple|tmux:[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise ValueError('must be "simple" or "tmux:SESSION"')
    return name


Location = Annotated[Path, AfterValidator(absolute), Field(description="a path")]
