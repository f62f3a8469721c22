"""SAL's functions for containers, by the program nerdctl."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Self

from workers.sal.kinds import StringsAmong, Word, Words
from workers.sal.programs import CommandResult, Program, succeeded
from workers.sal.session import Power, SalError, Session
from workers.sal.table import SalObject, make_module

_LONGEST: Final = timedelta(hours=1)
_IMAGE_FORMAT: Final = "{{.ID}}\t{{.Repository}}\t{{.Tag}}\t{{.Size}}\t{{.CreatedAt}}"


class Container(SalObject):
    """A container, from its options to its end; each `with_…` returns it."""

    def __init__(self, here: Session, name: str, image: str = "") -> None:
        self._here = here
        self._name = name
        self._image = image
        self._id = ""
        self._ports: list[str] = []
        self._volumes: list[str] = []
        self._detach = True
        self._options: list[str] = []

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def container_id(self) -> str:
        """Its id, once it was made; `""` before."""
        return self._id

    @property
    def image(self) -> str:
        """The image that it is made of."""
        return self._image

    @property
    def ports(self) -> list[str]:
        """The ports that are published."""
        return self._ports

    @property
    def volumes(self) -> list[str]:
        """The volumes that it has."""
        return self._volumes

    @property
    def detach(self) -> bool:
        """Whether it goes on in the background."""
        return self._detach

    def reset(self) -> Self:
        """Forget every option; name and image stay."""
        self.__init__(self._here, self._name, self._image)  # type: ignore[misc]
        return self

    def with_port(self, port: Word) -> Self:
        """Publish a port, as in `8080:80`."""
        self._ports.append(port)
        return self

    def with_ports(self, ports: StringsAmong) -> Self:
        """Publish ports; items that are not strings are skipped."""
        self._ports += ports
        return self

    def with_volume(self, volume: Word) -> Self:
        """Give it a volume, as in `/data:/var/lib/data`."""
        self._volumes.append(volume)
        return self

    def with_volumes(self, volumes: StringsAmong) -> Self:
        """Give it volumes; items that are not strings are skipped."""
        self._volumes += volumes
        return self

    def with_env(self, key: Word, value: str) -> Self:
        """Set a variable of its environment."""
        return self._with("env", f"{key}={value}")

    def with_envs(self, variables: dict[str, object]) -> Self:
        """Set variables of its environment; values that are not strings are skipped."""
        for key, value in variables.items():
            if isinstance(value, str):
                self.with_env(key, value)
        return self

    def with_network(self, network: Word) -> Self:
        """Connect it to a network."""
        return self._with("network", network)

    def with_network_alias(self, alias: Word) -> Self:
        """Give it a further name in its network."""
        return self._with("network-alias", alias)

    def with_network_aliases(self, aliases: StringsAmong) -> Self:
        """Give it further names; items that are not strings are skipped."""
        for alias in aliases:
            self.with_network_alias(alias)
        return self

    def with_cpu_limit(self, cpus: Word) -> Self:
        """Limit its processors, as in `1.5`."""
        return self._with("cpus", cpus)

    def with_cpu_shares(self, shares: Word) -> Self:
        """Weigh its share of the processors; 1024 is usual."""
        return self._with("cpu-shares", shares)

    def with_memory_limit(self, memory: Word) -> Self:
        """Limit its memory, as in `512m`."""
        return self._with("memory", memory)

    def with_memory_swap_limit(self, memory: Word) -> Self:
        """Limit its memory with what is swapped out."""
        return self._with("memory-swap", memory)

    def with_restart_policy(self, policy: Word) -> Self:
        """Say when it is started again, as in `always`."""
        return self._with("restart", policy)

    def with_health_check(self, command: Word) -> Self:
        """Say by which command its health is seen."""
        return self._with("health-cmd", command)

    def with_health_check_options(
        self,
        command: Word,
        interval: str,
        timeout: str,
        retries: int,
        start_period: str,
    ) -> Self:
        """Say by which command its health is seen, and how often; `""` is the usual."""
        self.with_health_check(command)
        given = {
            "health-interval": interval,
            "health-timeout": timeout,
            "health-retries": str(retries),
            "health-start-period": start_period,
        }
        for option, value in given.items():
            if value:
                self._with(option, value)
        return self

    def with_snapshotter(self, snapshotter: Word) -> Self:
        """Say what keeps its layers."""
        return self._with("snapshotter", snapshotter)

    def with_detach(self, on: bool) -> Self:  # noqa: FBT001 - as SAL has it
        """Let it go on in the background, or wait for its end; at first it does."""
        self._detach = on
        return self

    def build(self) -> Self:
        """Make it and run it."""
        if not self._image:
            raise SalError(f"the container {self._name} has no image")
        flags = ["--detach"] if self._detach else []
        flags += [f"--publish={port}" for port in self._ports]
        flags += [f"--volume={volume}" for volume in self._volumes]
        words = ["run", f"--name={self._name}", *flags, *self._options, self._image]
        result = nerdctl(self._here, *words)
        if self._detach:
            self._id = result.stdout.strip()
        return self

    def start(self) -> CommandResult:
        """Start it again."""
        return nerdctl(self._here, "start", self._name)

    def stop(self) -> CommandResult:
        """Stop it."""
        return nerdctl(self._here, "stop", self._name)

    def remove(self) -> CommandResult:
        """Remove it."""
        return nerdctl(self._here, "rm", self._name)

    def exec_(self, command: Words) -> CommandResult:
        """Run a command in it."""
        return nerdctl(self._here, "exec", self._name, *command)

    def logs(self) -> CommandResult:
        """Return what it wrote."""
        return nerdctl(self._here, "logs", self._name)

    def copy(self, source: Word, destination: Word) -> CommandResult:
        """Copy between it and here; a path inside is `NAME:/path`."""
        return nerdctl(self._here, "cp", source, destination)

    def _with(self, option: str, value: str) -> Self:
        self._options.append(f"--{option}={value}")
        return self

    methods = (
        *(reset, with_port, with_ports, with_volume, with_volumes, with_env),
        *(with_envs, with_network, with_network_alias, with_network_aliases),
        *(with_cpu_limit, with_cpu_shares, with_memory_limit, with_memory_swap_limit),
        *(with_restart_policy, with_health_check, with_health_check_options),
        *(with_snapshotter, with_detach, build),
        *(start, stop, remove, exec_, logs, copy),
    )
    properties = (name, container_id, image, ports, volumes, detach)


def nerdctl_container_new(here: Session, name: Word) -> Container:
    """Return a container of that name; what needs an image is for one that exists."""
    here.require(Power.CONTAINERS)
    return Container(here, name)


def nerdctl_container_from_image(here: Session, name: Word, image: Word) -> Container:
    """Return a container that `.build()` makes of an image."""
    here.require(Power.CONTAINERS)
    return Container(here, name, image)


def nerdctl_run(here: Session, image: Word) -> CommandResult:
    """Run an image in the background."""
    return nerdctl(here, "run", "--detach", image)


def nerdctl_run_with_name(here: Session, image: Word, name: Word) -> CommandResult:
    """Run an image in the background, under a name."""
    return nerdctl(here, "run", "--detach", f"--name={name}", image)


def nerdctl_run_with_port(
    here: Session, image: Word, name: Word, port: Word
) -> CommandResult:
    """Run an image in the background, under a name, with a port as in `8080:80`."""
    words = (f"--name={name}", f"--publish={port}", image)
    return nerdctl(here, "run", "--detach", *words)


def nerdctl_exec(here: Session, container: Word, command: Words) -> CommandResult:
    """Run a command in a container."""
    return nerdctl(here, "exec", container, *command)


def nerdctl_copy(here: Session, source: Word, destination: Word) -> CommandResult:
    """Copy between a container and here; a path inside is `NAME:/path`."""
    return nerdctl(here, "cp", source, destination)


def nerdctl_stop(here: Session, container: Word) -> CommandResult:
    """Stop a container."""
    return nerdctl(here, "stop", container)


def nerdctl_remove(here: Session, container: Word) -> CommandResult:
    """Remove a container."""
    return nerdctl(here, "rm", container)


def nerdctl_list(here: Session, all_: bool) -> CommandResult:  # noqa: FBT001 - as SAL has it
    """List the containers that run, or all of them."""
    return nerdctl(here, "ps", *(["--all"] if all_ else []))


def nerdctl_logs(here: Session, container: Word) -> CommandResult:
    """Return what a container wrote."""
    return nerdctl(here, "logs", container)


def new_run_options(here: Session) -> dict[str, object]:
    """Return the options of a run as a map: name, detach, ports, snapshotter."""
    return {"name": "", "detach": True, "ports": [], "snapshotter": ""}


def nerdctl_images(here: Session) -> CommandResult:
    """List the images: id, repository, tag, size and time, with tabs between them."""
    return nerdctl(here, "images", f"--format={_IMAGE_FORMAT}")


def nerdctl_image_remove(here: Session, image: Word) -> CommandResult:
    """Remove an image."""
    return nerdctl(here, "rmi", image)


def nerdctl_image_push(here: Session, image: Word, destination: Word) -> CommandResult:
    """Push an image to a registry, under the name that it has there."""
    nerdctl(here, "tag", image, destination)
    return nerdctl(here, "push", destination)


def nerdctl_image_tag(here: Session, image: Word, new: Word) -> CommandResult:
    """Give an image a further name."""
    return nerdctl(here, "tag", image, new)


def nerdctl_image_pull(here: Session, image: Word) -> CommandResult:
    """Fetch an image."""
    return nerdctl(here, "pull", image)


def nerdctl_image_commit(here: Session, container: Word, image: Word) -> CommandResult:
    """Make an image of a container."""
    return nerdctl(here, "commit", container, image)


def nerdctl_image_build(here: Session, tag: Word, context_path: Word) -> CommandResult:
    """Build an image of a directory with a Dockerfile."""
    return nerdctl(here, "build", f"--tag={tag}", context_path)


def nerdctl(
    here: Session,
    *words: str,
    text: str = "",
    env: Mapping[str, str] | None = None,
) -> CommandResult:
    """Let nerdctl do something.

    Raises:
        SalError: if it may not, or fails.
    """
    here.require(Power.CONTAINERS)
    if any("\0" in word for word in words):
        raise SalError("a word must not contain the character NUL")
    program = Program(
        words=["nerdctl", *words], input=text.encode(), env=env or {}, timeout=_LONGEST
    )
    return succeeded(program.words, program.run())


MODULE: Final = make_module(
    "nerdctl",
    """Containers, by the program nerdctl.

    All of it is off unless the runner's configuration says
    `sal_allow = ["containers"]`: who may start containers may do anything on the node.
    Images are told as text: no object of SAL stands for one.
    """,
    *(nerdctl_container_new, nerdctl_container_from_image, nerdctl_run),
    *(nerdctl_run_with_name, nerdctl_run_with_port, nerdctl_exec, nerdctl_copy),
    *(nerdctl_stop, nerdctl_remove, nerdctl_list, nerdctl_logs, new_run_options),
    *(nerdctl_images, nerdctl_image_remove, nerdctl_image_push, nerdctl_image_tag),
    *(nerdctl_image_pull, nerdctl_image_commit, nerdctl_image_build),
    objects=(Container,),
)
