"""Every setting, read once: flags over `HORUS_*` variables over `horus.toml`."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from horus_celery.errors import ConfigurationError

PREFIX: Final = "HORUS_"
FILE_NAME: Final = "horus.toml"
DEFAULT_STATE_DIR: Final = Path("~/.horus")
#: Variables of our own that are no settings: where the file lies, what clients use,
#: and what a script finds in its environment, so that a script may run `horus`.
OTHER_VARIABLES: Final = frozenset(
    {
        "HORUS_CONFIG",
        "HORUS_URL",
        "HORUS_SECRET",
        "HORUS_JOB_ID",
        "HORUS_CONTEXT_ID",
        "HORUS_INPUTS",
        "HORUS_RESULT",
    }
)
#: A configuration file has no reason to be larger.
MAX_FILE_BYTES: Final = 256 * 1024
#: 128 random bits written in base64.
MIN_SECRET_CHARS: Final = 22
REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+socket")

Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}$")
]
_A_NAME: Final = "1 to 128 letters, digits or ._@:- that begin with a letter or digit"
Port = Annotated[
    int,
    Field(
        ge=0,
        le=65535,
        description="a whole number from 0 to 65535 (0 takes a free one)",
    ),
]


def _parts(value: object) -> object:
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


def _absolute(path: Path) -> Path:
    # Configuration files of others repeat it, and have no way to quote such a letter.
    if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in str(path)):
        raise ValueError("holds a line break or another letter that cannot be shown")
    try:
        return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - a link stays one
    except (OSError, RuntimeError):
        raise ValueError(
            "cannot be found from here: write it in full, beginning with /"
        ) from None


def _known_scheme(url: str) -> str:
    if urlsplit(url).scheme not in REDIS_SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(REDIS_SCHEMES)} and ://")
    return url


def _strong(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for secret in secrets:
        text = secret.get_secret_value()
        if len(text) < MIN_SECRET_CHARS or len(set(text)) < MIN_SECRET_CHARS // 3:
            raise ValueError(
                f"holds a secret that is too easy to guess: at least"
                f" {MIN_SECRET_CHARS} characters, such as `openssl rand -base64 32`"
            )
        if not (text.isascii() and text.isprintable() and " " not in text):
            raise ValueError("holds a secret with other than printable ASCII letters")
    return secrets


def _login(value: SecretStr) -> SecretStr:
    user, colon, password = value.get_secret_value().partition(":")
    # Flower reads several logins from one text, between commas.
    if not (user and colon and password) or "," in password:
        raise ValueError("must have the form USER:PASSWORD, without a comma")
    return value


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names one twice")
    return names


Secrets = Annotated[
    tuple[SecretStr, ...],
    BeforeValidator(_parts),
    AfterValidator(_strong),
    Field(description='a list of secrets, such as ["SECRET"]'),
]


class Settings(BaseModel):
    """What a deployment may choose; every process of it reads the same values.

    A description completes the sentence "… must be": it is what a person is told.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    #: The deployment's name: the `aud` of its jobs, and the prefix of its Redis keys.
    namespace: Annotated[Name, Field(description=_A_NAME)] = "hero"
    #: Where the API and Flower listen.
    bind_address: Annotated[
        str,
        StringConstraints(min_length=1),
        Field(description="an address of this machine, such as 127.0.0.1"),
    ] = "127.0.0.1"
    #: The API's port; 0 takes a free one.
    port: Port = 3030
    #: The Redis to use; None starts one of our own.
    redis_url: Annotated[str, AfterValidator(_known_scheme)] | None = Field(
        default=None,
        repr=False,
        description="the address of a Redis, such as redis://HOST:6379/0",
    )
    #: Where keys, the trust bundle, the journal and our own Redis live.
    state_dir: Annotated[
        Path, AfterValidator(_absolute), Field(description="the path of a directory")
    ] = DEFAULT_STATE_DIR
    #: Empty: the secret in the state directory.
    admin_secrets: Secrets = ()
    user_secrets: Secrets = ()
    register_secrets: Secrets = ()
    #: The executors that get a runner here.
    executors: Annotated[
        tuple[Name, ...],
        BeforeValidator(_parts),
        Field(
            min_length=1,
            description=f"a list of at least one name, such as python,system; a name is"
            f" {_A_NAME}",
        ),
        AfterValidator(_once),
    ] = ("python", "system")
    #: Jobs that one runner runs at a time; None is the number of processors.
    concurrency: int | None = Field(
        default=None, ge=1, le=1024, description="a whole number from 1 to 1024"
    )
    #: Flower's port; 0 takes a free one.
    flower_port: Port = 5555
    #: USER:PASSWORD that Flower asks for.
    flower_basic_auth: Annotated[SecretStr, AfterValidator(_login)] | None = Field(
        default=None, description="a login of the form USER:PASSWORD"
    )
    #: Largest body of one statement.
    max_job_bytes: int = Field(
        default=1024 * 1024,
        ge=1024,
        le=1024 * 1024,
        description="a whole number from 1024 to 1048576",
    )
    #: Largest request to the API.
    max_request_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=4096,
        description="a whole number that is 4096 or more",
    )
    #: Most calls in one request.
    max_batch: int = Field(
        default=100, ge=1, le=100, description="a whole number from 1 to 100"
    )

    @property
    def api_url(self) -> str:
        """Where a person on this machine finds the API."""
        return f"http://{_shown(self.bind_address)}:{self.port}"

    @property
    def flower_address(self) -> str:
        """Where Flower listens: beyond this machine only behind a password."""
        if self.flower_basic_auth is not None or _is_loopback(self.bind_address):
            return self.bind_address
        return "127.0.0.1"

    @property
    def flower_url(self) -> str:
        """Where a person on this machine finds Flower."""
        return f"http://{_shown(self.flower_address)}:{self.flower_port}"

    @model_validator(mode="after")
    def _each_secret_has_one_scope(self) -> Settings:
        every = [
            secret.get_secret_value()
            for secrets in (
                self.admin_secrets,
                self.user_secrets,
                self.register_secrets,
            )
            for secret in secrets
        ]
        if len(set(every)) < len(every):
            raise ValueError("one secret stands twice: each scope needs its own")
        return self


def load_settings(
    *,
    env: Mapping[str, str] | None = None,
    config: Path | None = None,
    **flags: object,
) -> Settings:
    """Read file, environment and flags; a flag that is None is absent.

    The file is `config`, else the one that `HORUS_CONFIG` names, else `horus.toml` in
    the working directory, else `horus.toml` in the state directory, else none.

    Raises:
        ConfigurationError: naming the setting, where it stands, and what is wrong.
    """
    env = os.environ if env is None else env
    given = {key: value for key, value in flags.items() if value is not None}
    named = _from_environment(env)
    path = config or find_file(env=env, state_dir=given.get("state_dir"))
    written = _from_file(path) if path is not None else {}
    sources = {
        **dict.fromkeys(written, str(path)),
        **{key: f"the variable {PREFIX}{key.upper()}" for key in named},
        **dict.fromkeys(given, "the command line"),
    }
    try:
        return Settings.model_validate({**written, **named, **given})
    except ValidationError as error:
        raise ConfigurationError(_first_complaint(error, sources)) from None


def find_file(*, env: Mapping[str, str], state_dir: object = None) -> Path | None:
    """Return the configuration file that counts, or None."""
    if chosen := env.get("HORUS_CONFIG"):
        return Path(chosen)
    where = state_dir or env.get(f"{PREFIX}STATE_DIR") or DEFAULT_STATE_DIR
    for folder in (Path(), Path(str(where))):
        path = folder / FILE_NAME
        try:
            # None that can be found is for the state directory's own check to tell.
            path = _absolute(path)
            is_file = path.is_file()
        except ValueError:
            continue
        except OSError as error:
            raise ConfigurationError(
                f"cannot look for {path}: {error.strerror}"
            ) from None
        if is_file:
            return path
    return None


def _from_environment(env: Mapping[str, str]) -> dict[str, object]:
    known = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    ours = {key for key in env if key.startswith(PREFIX)} - OTHER_VARIABLES
    for key in sorted(ours - known.keys()):
        nearest = _nearest(key, [*known, *OTHER_VARIABLES])
        raise ConfigurationError(
            f"the environment variable {key} is no setting{nearest}; unset it"
        )
    # An empty variable is how a shell says that there is none.
    return {known[key]: env[key] for key in ours if env[key]}


def _from_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the configuration file {path}: {error.strerror}"
        ) from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        values = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no TOML: {_where(error)}") from None
    for key in values:
        if key not in Settings.model_fields:
            nearest = _nearest(key, Settings.model_fields)
            raise ConfigurationError(f"{path}: {key!r} is no setting{nearest}")
    return values


def _shown(address: str) -> str:
    """Return how a person on this machine names an address in a URL."""
    if address in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
        return "127.0.0.1"
    return f"[{address}]" if ":" in address and "[" not in address else address


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def _where(error: Exception) -> str:
    """Say where a file breaks off, without a word of what stands there."""
    if isinstance(error, tomllib.TOMLDecodeError):
        _, found, place = str(error).rpartition("(at ")
        return f"at {place.rstrip(')')}" if found else "it breaks off"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "too deep"


def _nearest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _first_complaint(error: ValidationError, sources: Mapping[str, str]) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    key = str(first["loc"][0])
    if key not in Settings.model_fields:
        return f"{key!r} is no setting{_nearest(key, Settings.model_fields)}"
    if first["type"] != "value_error":
        message = f"must be {Settings.model_fields[key].description}"
    return f"{key} (from {sources.get(key, 'its default')}): {message}"
