"""What each setting may be, its default, and what it must agree with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, TypeGuard

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    model_validator,
)

from horus_celery.settings import kinds
from horus_celery.settings.kinds import Location, Name, NameOrAll, Port, Switch
from horus_celery.settings.lines import Place

DEFAULT_STATE_DIR: Final = Path("~/.horus")
#: The setting that a file writes as `[[executors]]`.
OWN_EXECUTORS: Final = "executor_commands"
#: The settings that are the address of a Redis, in which a password may stand.
REDIS_ADDRESSES: Final = ("redis_url", "herodb_url")
#: Our own executors, and which of them get a runner unless others are named.
OUR_EXECUTORS: Final = ("python", "system", "osis", "sal", "hero", "v")
DEFAULT_EXECUTORS: Final = OUR_EXECUTORS[:2]
#: Programs of the platform, whose names no executor can have.
PROGRAMS: Final = ("api", "coordinator", "flower", "redis")
#: A hundred years in seconds: much longer ago is no moment that a clock can tell.
MAX_TTL: Final = 100 * 365 * 24 * 3600
#: MiB, and keys, of a part of HeroDB.
MAX_QUOTA_MB: Final = 1024**2
MAX_QUOTA_KEYS: Final = 10**9


class SettingError(ValueError):
    """What is wrong with the value at a place; the text goes on after its name."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.place = place


class GivenSecret(BaseModel):
    """A secret of the API that stands in the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: Annotated[
        SecretStr,
        AfterValidator(kinds.strong),
        Field(description="a text between quotes"),
    ]
    #: The contexts that it opens, "*" being all.
    contexts: Annotated[
        tuple[NameOrAll, ...],
        Field(
            min_length=1,
            max_length=1000,
            description='a list of names, 1000 at most, such as ["A"]',
        ),
        AfterValidator(kinds.once),
    ] = ("*",)


Secrets = Annotated[
    tuple[GivenSecret, ...],
    BeforeValidator(kinds.entries),
    Field(
        description='a list of secrets, such as ["SECRET"] or'
        ' [{secret = "SECRET", contexts = ["A"]}]'
    ),
]


class NodeSecret(BaseModel):
    """A secret of this node, of which the configuration holds the place alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The file that holds its value.
    file: Annotated[Location, Field(description="a path")]


class Actor(BaseModel):
    """A runner that this supervisor manages: one `[[actors]]` of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    #: What it is managed by.
    id: Name
    #: The runner's name, in the trust bundle and in the API; its id if it is left out.
    name: Name = ""
    executor: Name
    #: Jobs that it runs at a time.
    concurrency: Annotated[int, kinds.number(1, 1024)] = 1
    #: The contexts that it is bound to, "*" being all.
    contexts: Annotated[
        tuple[NameOrAll, ...],
        Field(min_length=1, description='a list of names, or ["*"]'),
        AfterValidator(kinds.once),
    ] = ("*",)
    process_manager: Annotated[
        str,
        AfterValidator(kinds.process_manager),
        Field(description='"simple" or "tmux:SESSION"'),
    ] = "simple"
    #: A program to run in place of our own Celery worker.
    binary_path: Location | None = Field(default=None, description="a path")
    #: Where that program keeps its data; it is told in `HORUS_DB_PATH`.
    db_path: Location | None = Field(default=None, description="a path")
    #: The virtual environment of its Python scripts, if it serves `python`.
    python_env: Location | None = Field(default=None, description="a path")
    #: How long it may take to finish what it runs when it is stopped, in seconds.
    stop_timeout: Annotated[int, kinds.number(1, 86400, " (seconds)")] = 60

    @model_validator(mode="before")
    @classmethod
    def _name_is_its_id(cls, values: object) -> object:
        if isinstance(values, dict) and "id" in values:
            return {"name": values["id"], **values}
        return values


class OwnExecutor(BaseModel):
    """An executor that a site adds by a command: one table of `[[executors]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: It names a queue, a runner and a program.
    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"),
        Field(description="up to 64 letters, digits, - or _"),
    ]
    #: The program and its arguments, in which `{script}` stands for the script's file.
    command: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1)], ...],
        Field(
            min_length=2,
            description='a list of words such as ["perl", "{script}"]',
        ),
        AfterValidator(kinds.with_a_script),
    ]
    #: What the name of the script's file ends in, where the program looks at it.
    suffix: Annotated[
        str,
        StringConstraints(pattern=r"^(\.[A-Za-z0-9]{1,16})?$"),
        Field(description="the ending of a file's name, such as .pl"),
    ] = ""


class OtherSupervisor(BaseModel):
    """A supervisor that steps of workflows may go to: one `[[supervisors]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    #: What steps call it.
    name: Name
    url: Annotated[
        str,
        StringConstraints(pattern=r"^https?://[^\s/@]+/?$"),
        Field(description='an address such as "https://HOST:PORT"'),
    ]
    #: The file that holds a user secret of it.
    secret_file: Annotated[Location, Field(description="a path")]
    #: The certificates by which its own is believed; by default, the public ones.
    tls_ca: Location | None = Field(default=None, description="a path")


class Settings(BaseModel):
    """What a deployment may choose; every process of it reads the same values.

    A description completes the sentence "… must be": it is what a person is told.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    #: The deployment's name: the `aud` of its jobs, and the prefix of its Redis keys.
    namespace: Name = "hero"
    #: Where the API and Flower listen.
    bind_address: Annotated[
        str,
        StringConstraints(min_length=1),
        Field(description="an address of this machine, such as 127.0.0.1"),
        AfterValidator(kinds.listening),
    ] = "127.0.0.1"
    #: The API's port; 0 takes a free one.
    port: Port = 3030
    #: The Redis to use; None starts one of our own.
    redis_url: Annotated[str, AfterValidator(kinds.redis_address)] | None = Field(
        default=None,
        repr=False,
        description="the address of a Redis, such as redis://HOST:6379/0",
    )
    #: The Redis that HeroDB is in, with a login that may administer its users; None is
    #: the other one.
    herodb_url: Annotated[str, AfterValidator(kinds.redis_address)] | None = Field(
        default=None,
        repr=False,
        description="the address of a Redis, such as redis://HOST:6379/0",
    )
    #: What a context of HeroDB may hold that is made from now on: MiB, and keys.
    herodb_quota_mb: Annotated[int, kinds.number(1, MAX_QUOTA_MB, " (MiB)")] = 1024
    herodb_quota_keys: Annotated[int, kinds.number(1, MAX_QUOTA_KEYS)] = 1_000_000
    #: Where keys, the trust bundle, the journal and our own Redis live.
    state_dir: Annotated[
        Path,
        AfterValidator(kinds.absolute),
        Field(description="the path of a directory"),
    ] = DEFAULT_STATE_DIR
    #: Empty: the secret in the state directory.
    admin_secrets: Secrets = ()
    user_secrets: Secrets = ()
    register_secrets: Secrets = ()
    #: The executors that get a runner here.
    executors: Annotated[
        tuple[Name, ...],
        BeforeValidator(kinds.parts),
        Field(
            min_length=1,
            description=f"a list of at least one name, such as python,system; a name is"
            f" {kinds.A_NAME}",
        ),
        AfterValidator(kinds.once),
    ] = DEFAULT_EXECUTORS
    #: Executors that are a command of this site.
    executor_commands: Annotated[
        tuple[OwnExecutor, ...],
        BeforeValidator(kinds.parts),
        Field(description="tables under [[executors]]"),
    ] = ()
    #: The virtual environment whose Python runs the scripts of `python`.
    python_env: Location | None = Field(default=None, description="a path")
    #: The program that compiles and runs the scripts of `v`; by default `v` is looked
    #: for where scripts look for commands.
    v_path: Location | None = Field(default=None, description="a path")
    #: The Hero command, if it is to run the scripts of `hero` in our place.
    hero_cli: Location | None = Field(default=None, description="a path")
    #: What functions of `sal` may do to the machine besides what every script may.
    sal_allow: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=kinds.SAL_RIGHTS)], ...],
        BeforeValidator(kinds.parts),
        Field(description="a list of some of packages, containers, services, ssh"),
        AfterValidator(kinds.once),
    ] = ()
    #: Jobs that one runner runs at a time; None is the number of processors.
    concurrency: Annotated[int, kinds.number(1, 1024)] | None = Field(
        default=None, description="a whole number from 1 to 1024"
    )
    #: Secrets that a job may name if it is granted them, by their names.
    node_secrets: Annotated[
        Mapping[Name, NodeSecret],
        BeforeValidator(kinds.tables),
        Field(
            max_length=1000,
            description='a table of secrets, such as NAME = {file = "/PATH"}; a name is'
            f" {kinds.A_NAME}",
        ),
        AfterValidator(MappingProxyType),
        PlainSerializer(dict),
    ] = {}
    #: The runners that this supervisor manages besides those of `executors`.
    actors: Annotated[
        tuple[Actor, ...],
        BeforeValidator(kinds.parts),
        Field(description="tables under [[actors]]"),
    ] = ()
    #: The other supervisors that steps of workflows may go to.
    supervisors: Annotated[
        tuple[OtherSupervisor, ...],
        BeforeValidator(kinds.parts),
        Field(description="tables under [[supervisors]]"),
    ] = ()
    #: How workflows run for which nobody says it, where their plan can.
    workflow_strategy: Annotated[
        str,
        StringConstraints(pattern="^(reference|canvas)$"),
        Field(description='"reference" or "canvas"'),
    ] = "reference"
    #: How far scripts are kept apart: as far as it works here, by bubblewrap, by the
    #: kernel's Landlock, or not.
    sandbox: Annotated[
        str,
        StringConstraints(pattern="^(auto|bwrap|landlock|plain)$"),
        Field(description='"auto", "bwrap", "landlock" or "plain"'),
    ] = "auto"
    #: Whether a job that is to have no network is refused where it would have one.
    sandbox_required: Switch = False
    #: Further paths that scripts may read.
    sandbox_paths: Annotated[
        tuple[Annotated[Path, AfterValidator(kinds.absolute)], ...],
        BeforeValidator(kinds.parts),
        Field(description="a list of paths, such as /opt/tools"),
    ] = ()
    #: Flower's port; 0 takes a free one.
    flower_port: Port = 5555
    #: USER:PASSWORD that Flower asks for.
    flower_basic_auth: Annotated[SecretStr, AfterValidator(kinds.login)] | None = Field(
        default=None, description="a login of the form USER:PASSWORD"
    )
    #: The certificate chain and the private key of the API; with them it speaks TLS.
    tls_cert: Location | None = Field(default=None, description="a path")
    tls_key: Location | None = Field(default=None, description="a path")
    #: Whether the API may be reached from other machines without TLS.
    insecure_http: Switch = False
    #: Further names by which the API may be called.
    allowed_hosts: Annotated[
        tuple[Annotated[str, AfterValidator(kinds.host)], ...],
        BeforeValidator(kinds.parts),
        Field(description="a list of host names"),
    ] = ()
    #: Origins whose pages may call the API from a browser.
    allowed_origins: Annotated[
        tuple[Annotated[str, AfterValidator(kinds.origin)], ...],
        BeforeValidator(kinds.parts),
        Field(description="a list of origins, such as https://example.org"),
    ] = ()
    #: Proxies whose X-Forwarded-For is believed.
    trusted_proxies: Annotated[
        tuple[Annotated[str, AfterValidator(kinds.network)], ...],
        BeforeValidator(kinds.parts),
        Field(description="a list of addresses or networks, such as 10.0.0.0/8"),
    ] = ()
    #: How long the record of a finished job is kept, in seconds; its receipt stays.
    result_ttl: Annotated[int, kinds.number(60, MAX_TTL, " (seconds)")] = 7 * 24 * 3600
    #: Between asking a script to stop and ending it, in seconds.
    stop_grace: Annotated[int, kinds.number(0, 300, " (seconds)")] = 5
    #: Calls that one secret may make in a second, for long; a batch counts each call.
    rate_limit: Annotated[int, kinds.number(1, None)] = 5000
    #: Largest body of one statement.
    max_job_bytes: Annotated[int, kinds.number(1024, 1024 * 1024)] = 1024 * 1024
    #: Largest request to the API.
    max_request_bytes: Annotated[int, kinds.number(4096, None)] = 4 * 1024 * 1024
    #: Most calls in one request.
    max_batch: Annotated[int, kinds.number(1, 100)] = 100

    @model_validator(mode="before")
    @classmethod
    def _own_executors_get_a_runner(cls, values: object) -> object:
        if not isinstance(values, dict) or "executors" in values:
            return values
        own = values.get(OWN_EXECUTORS)
        tables = [one for one in own if isinstance(one, dict)] if _is_list(own) else []
        names = [one["name"] for one in tables if isinstance(one.get("name"), str)]
        # A name that is taken is for the checks to tell, with its line.
        all_names = dict.fromkeys([*DEFAULT_EXECUTORS, *names])
        return {**values, "executors": [*all_names]}

    @property
    def api_url(self) -> str:
        """Where a person on this machine finds the API."""
        scheme = "http" if self.tls_cert is None else "https"
        return f"{scheme}://{_shown(self.bind_address)}:{self.port}"

    @property
    def is_open_to_others(self) -> bool:
        """Whether other machines can reach the API."""
        return not _is_loopback(self.bind_address)

    @property
    def flower_address(self) -> str:
        """Where Flower listens: beyond this machine only behind a password."""
        if self.flower_basic_auth is not None or not self.is_open_to_others:
            return self.bind_address
        return "127.0.0.1"

    @property
    def flower_url(self) -> str:
        """Where a person on this machine finds Flower."""
        return f"http://{_shown(self.flower_address)}:{self.flower_port}"

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Settings:
        for check in CHECKS:
            check(self)
        return self


def each_secret_has_one_scope(settings: Settings) -> None:
    seen: set[str] = set()
    for place, given in _secrets(settings):
        text = given.secret.get_secret_value()
        if text in seen:
            raise SettingError(place, "stands twice: each scope needs its own secrets")
        seen.add(text)


def only_user_secrets_have_contexts(settings: Settings) -> None:
    for place, given in _secrets(settings):
        if place[0] != "user_secrets" and given.contexts != ("*",):
            raise SettingError(
                (*place, "contexts"), "cannot be: only user_secrets may have contexts"
            )


def actors_are_not_mixed_up(settings: Settings) -> None:
    for field in ("id", "name"):
        values = [getattr(actor, field) for actor in settings.actors]
        for value, count in Counter(values).items():
            if count > 1:
                index = len(values) - 1 - values[::-1].index(value)
                raise SettingError(
                    ("actors", index, field), f"{value!r} is another actor's as well"
                )


def executors_are_not_mixed_up(settings: Settings) -> None:
    seen = {*OUR_EXECUTORS, *PROGRAMS}
    for index, one in enumerate(settings.executor_commands):
        if one.name in seen:
            raise SettingError(
                (OWN_EXECUTORS, index, "name"),
                f"{one.name!r} is taken: choose another name",
            )
        seen.add(one.name)


def supervisors_are_not_mixed_up(settings: Settings) -> None:
    seen: set[str] = set()
    for index, one in enumerate(settings.supervisors):
        if one.name in seen:
            raise SettingError(
                ("supervisors", index, "name"),
                f"{one.name!r} is another supervisor's as well",
            )
        seen.add(one.name)


def certificate_and_key_come_together(settings: Settings) -> None:
    if (settings.tls_cert is None) == (settings.tls_key is None):
        return
    given, lacking = ("tls_cert", "tls_key")
    if settings.tls_cert is None:
        given, lacking = lacking, given
    raise SettingError((given,), f"cannot be without {lacking}: set both, or none")


def others_are_let_in_by_tls_alone(settings: Settings) -> None:
    is_in_the_open = settings.is_open_to_others and settings.tls_cert is None
    if is_in_the_open and not settings.insecure_http:
        raise SettingError(
            ("bind_address",),
            "would let other machines in without TLS: set tls_cert and tls_key, or"
            ' bind_address = "127.0.0.1" (with a proxy before it that speaks TLS), or'
            " insecure_http = true if nobody can listen in",
        )


#: What the settings must agree on; each is called as what is then true.
CHECKS: Final[tuple[Callable[[Settings], None], ...]] = (
    each_secret_has_one_scope,
    only_user_secrets_have_contexts,
    actors_are_not_mixed_up,
    executors_are_not_mixed_up,
    supervisors_are_not_mixed_up,
    certificate_and_key_come_together,
    others_are_let_in_by_tls_alone,
)


def _secrets(settings: Settings) -> Iterator[tuple[Place, GivenSecret]]:
    for name in ("admin_secrets", "user_secrets", "register_secrets"):
        for index, given in enumerate(getattr(settings, name)):
            yield (name, index), given


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _shown(address: str) -> str:
    """Return how a person on this machine names an address in a URL."""
    if address in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
        return "127.0.0.1"
    return f"[{address}]" if ":" in address else address


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
