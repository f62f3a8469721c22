"""A whole deployment on one machine: prepared, started, ready, watched, ended."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TextIO

from horus_celery import certificates, redis_server
from horus_celery.errors import ConfigurationError, UnavailableError
from horus_celery.journal import process_mark
from horus_celery.processes import temporary, tmux, tree, window
from horus_celery.processes.addresses import (
    Addresses,
    read_addresses,
    with_ports,
)
from horus_celery.processes.base import ProcessStatus
from horus_celery.processes.changes import Changes
from horus_celery.processes.lines import last_lines
from horus_celery.processes.lineup import Extent, lineup_of
from horus_celery.processes.managed import (
    forget_runners,
    managers_of,
    write_runners,
)
from horus_celery.processes.presence import Presence
from horus_celery.processes.programs import environment, label, tied
from horus_celery.processes.supervisord import (
    REDIS,
    SUPERVISORD,
    Program,
    ProgramStatus,
    configuration,
    control_of,
)
from horus_celery.processes.tmux import TmuxManager
from horus_celery.settings import Settings, find_file
from horus_celery.statedir import StateDirectory
from horus_celery.store.address import read_address

#: How long a cold start may take on a slow machine.
START: Final = timedelta(seconds=60)
#: How long the programs may take to end before what is left is killed.
END: Final = timedelta(seconds=4.5)
#: How long the programs of a run that was killed may take to end by themselves.
_EARLIER_END: Final = timedelta(seconds=8)
_STEP: Final = timedelta(milliseconds=50)
_DAEMON: Final = "horus_celery.processes.daemon"


class Platform:
    """All programs of one state directory, from the lock on it to the last process.

    The process that holds it becomes a subreaper: what its programs leave behind ends
    with it. `stop` may be called at any point, also after a failed start.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        extent: Extent = Extent.WHOLE,
        base: Mapping[str, str] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            settings: What the deployment chose.
            extent: How much of it there is to be.
            base: The programs' environment, before the settings; ours by default.

        Raises:
            ConfigurationError: naming an executor or an actor that there cannot be.
        """
        self.settings = settings
        self.state = StateDirectory(settings.state_dir)
        self.lineup = lineup_of(settings, extent)
        self._is_whole = extent is Extent.WHOLE
        self._base = base
        self._lock: TextIO | None = None
        self._supervisord: subprocess.Popen[bytes] | None = None
        self._control = control_of(self.state)
        self._tmux = tuple(
            manager
            for manager in managers_of(self.state, self.lineup.runners).values()
            if isinstance(manager, TmuxManager)
        )
        self._has_begun = False
        self._began_at = datetime.max.replace(tzinfo=UTC)
        self._changes = Changes(self.state.logs)

    # --- before anything runs ------------------------------------------------

    def prepare(self, *, now: datetime) -> tuple[str, ...]:
        """Take the state directory, mend it, choose the ports; return what was done.

        Raises:
            ConfigurationError: if another run holds it, or something is not as it must
                be: it names the thing and the remedy.
        """
        if self._tmux:
            tmux.require_tmux()
        self.state.check_place()
        if self.state.run.is_dir():
            # What somebody runs here has the ports, too: that is told first.
            self._take_lock()
            self._wait_for_an_earlier_end()
        self.settings = with_ports(self.settings, flower=self._is_whole)
        faults = self._look_at_certificate()
        self._require_redis()
        self.state.make_folders()
        if self._lock is None:
            self._take_lock()
        with _writing(self.state.run):
            notes = temporary.make_empty(self.state.temporary)
        return (*faults, *notes, *self.mend(now=now))

    def mend(self, *, now: datetime) -> tuple[str, ...]:
        """Make what the state directory lacks, sign again what soon expires.

        To be called now and then while all runs: a bundle that ends refuses every job.

        Raises:
            ConfigurationError: if something is not as it must be.
        """
        return self.state.initialise(
            namespace=self.settings.namespace,
            runners=self.lineup.wanted,
            now=now,
        )

    @property
    def addresses(self) -> Addresses:
        """Where this deployment listens, once it is prepared."""
        return Addresses(
            process=process_mark(),
            api=self.settings.api_url,
            flower=self.settings.flower_url if self._is_whole else None,
            tls_cert=self.settings.tls_cert,
            redis=str(read_address(self._redis_url())),
            config=self._config(),
        )

    def _redis_url(self) -> str:
        return self.settings.redis_url or redis_server.url(self.state)

    def _config(self) -> Path | None:
        base = os.environ if self._base is None else self._base
        found = find_file(env=base, state_dir=self.state.path)
        return None if found is None else found.absolute()

    # --- start and end -------------------------------------------------------

    def start(self) -> None:
        """Start all programs; they are ready some time later.

        Raises:
            ConfigurationError: if one of them cannot be started, naming its log.
        """
        tree.become_subreaper()
        self._has_begun = True
        self._began_at = datetime.now(UTC)
        has_own_redis = self.settings.redis_url is None
        given = environment(self.settings, base=self._base)
        given[temporary.VARIABLE] = str(self.state.temporary)
        with _writing(self.state.path):
            path = self._write_configuration()
            self._write_windows(given)
            write_runners(self.state, self.lineup.runners)
        self._supervisord = subprocess.Popen(  # noqa: S603 - argv is a list that we built
            tied([sys.executable, "-m", _DAEMON, str(path)]),
            cwd=self.state.path,
            env=given,
            stdin=subprocess.DEVNULL,
            # There it tells of everybody who hangs up on it, as we do when a signal
            # comes; it has a log for what counts.
            stdout=subprocess.DEVNULL,
            # The terminal's Ctrl-C is for this process alone, which then ends all.
            start_new_session=True,
        )
        with _writing(self.state.run):
            self._write_addresses()
        if has_own_redis and not redis_server.wait_until_ready(
            self.state.redis_socket, within=START, alive=self._is_starting
        ):
            raise self._failure(REDIS)
        self._start_programs()
        for manager in self._tmux:
            for name in manager.names:
                manager.start(name)

    def wait_until_ready(self, *, within: timedelta = START) -> None:
        """Wait until the API answers and every runner of ours has shown itself.

        Raises:
            ConfigurationError: if a program cannot be started, naming its log.
        """
        deadline = time.monotonic() + within.total_seconds()
        with closing(self._presence()) as presence:
            while not presence.has(self.lineup.awaited):
                self._raise_for_the_dead()
                self._raise_for_crashed_runners()
                if time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"not everything was ready after {within.total_seconds():.0f}"
                        f" s: look into {self.state.logs}"
                    )
                time.sleep(_STEP.total_seconds())
        self._look()

    def news(self) -> tuple[str, ...]:
        """Return what happened to the programs since the last call, for a person.

        Raises:
            ConfigurationError: if one that all depends on is gone for good.
        """
        self._raise_for_the_dead()
        return self._look()

    def stop(self) -> None:
        """End every program, Redis last, and whatever they left; then let go."""
        if self._has_begun:
            for manager in self._tmux:
                with suppress(UnavailableError):
                    manager.begin_to_end()
            # A signal may have come between its start and our knowing it: then it ends
            # with whatever else is left.
            if self._supervisord is not None:
                self._end_supervisord(self._supervisord)
            if self._tmux:
                self._end_windows()
            # Sessions of others may be in a server that was started for our windows.
            tree.kill_descendants(within=timedelta(seconds=2), but=tmux.servers())
            self._clear_away()
        if self._lock is not None:
            self._lock.close()

    # --- private -------------------------------------------------------------

    def _clear_away(self) -> None:
        # On a disk that is read-only by now it stays, as behind one that was killed.
        with suppress(OSError):
            forget_runners(self.state)
            for name in ("up.json", "sup.sock", "supervisord.pid", "redis.sock"):
                (self.state.run / name).unlink(missing_ok=True)

    def _presence(self) -> Presence:
        return Presence(
            self.settings,
            redis_url=self.settings.redis_url or redis_server.url(self.state),
            trust=self.state.trust(),
            since=self._began_at,
        )

    def _look_at_certificate(self) -> tuple[str, ...]:
        cert, key = self.settings.tls_cert, self.settings.tls_key
        why = None if cert is None or key is None else certificates.fault_of(cert, key)
        if why is None:
            return ()
        return (f"nobody on another machine believes {cert}: {why}",)

    def _require_redis(self) -> None:
        url = self.settings.redis_url
        if url is None:
            redis_server.find_server()
        else:
            redis_server.require_usable(url, namespace=self.settings.namespace)

    def _take_lock(self) -> None:
        with _writing(self.state.run):
            file = (self.state.run / "up.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            running = read_addresses(self.state)
            who = f" (pid {running.process.pid}, {running.api})" if running else ""
            raise ConfigurationError(
                f"Horus is already up on {self.state.path}{who}: use that one, end it,"
                " or choose another --state-dir"
            ) from None
        self._lock = file

    def _wait_for_an_earlier_end(self) -> None:
        """A run that was killed takes its programs with it, but that takes a moment."""
        pid = self._earlier_supervisord()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            tree.wake(pid)
        if self.state.windows.is_dir():
            self._end_windows()
        deadline = time.monotonic() + _EARLIER_END.total_seconds()
        while pid is not None or redis_server.answers(self.state.redis_socket):
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"programs of an earlier run still run on {self.state.path}"
                    + (f": kill {pid}" if pid else ": end its Redis")
                )
            time.sleep(_STEP.total_seconds())
            pid = self._earlier_supervisord()

    def _earlier_supervisord(self) -> int | None:
        try:
            pid = int((self.state.run / "supervisord.pid").read_text())
            folder = Path(f"/proc/{pid}/cwd").resolve(strict=True)
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        is_ours = folder == self.state.path.resolve() and _DAEMON.encode() in command
        return pid if is_ours else None

    def _write_configuration(self) -> Path:
        redis = None
        if self.settings.redis_url is None:
            redis = Program(
                name=REDIS,
                command=tied(redis_server.command(self.state)),
                # It ends at once under a locale that the machine does not have.
                environment={"LC_ALL": "C"},
            )
        path = self.state.run / "supervisord.conf"
        text = configuration(
            self.lineup.programs,
            redis=redis,
            password=self.state.password_of(SUPERVISORD),
        )
        path.write_text(text, "utf-8")
        (self.state.run / "sup.sock").unlink(missing_ok=True)
        return path

    def _write_windows(self, given: Mapping[str, str]) -> None:
        if not self._tmux:
            return
        self.state.windows.mkdir(mode=0o700, exist_ok=True)
        for name, program in self.lineup.windows.items():
            told = window.WindowProgram(
                command=program.command,
                environment={**given, **program.environment},
                folder=self.state.path,
                stop_timeout=program.stop_timeout,
                owner=process_mark(),
            )
            window.write(self.state.windows / f"{name}.json", told)

    def _end_windows(self) -> None:
        """End what runs in windows of this state directory, whatever started it."""
        with suppress(UnavailableError):
            TmuxManager("", self.state.windows, {}).end()
        shutil.rmtree(self.state.windows, ignore_errors=True)

    def _window_statuses(self) -> Mapping[str, ProcessStatus]:
        found: dict[str, ProcessStatus] = {}
        for manager in self._tmux:
            with suppress(UnavailableError):
                found |= manager.statuses()
        return found

    def _write_addresses(self) -> None:
        addresses = self.addresses
        values = {
            "pid": addresses.process.pid,
            "process": asdict(addresses.process),
            "url": addresses.api,
            "flower_url": addresses.flower,
            "tls_cert": addresses.tls_cert and str(addresses.tls_cert),
            "redis": addresses.redis,
            "config": addresses.config and str(addresses.config),
        }
        draft = self.state.run / "up.json.new"
        draft.write_text(json.dumps(values), "utf-8")
        draft.replace(self.state.run / "up.json")

    def _is_starting(self) -> bool:
        """Whether supervisord lives, and has not given Redis up."""
        if self._has_ended():
            return False
        return all(status.word != "FATAL" for status in self._statuses())

    def _start_programs(self) -> None:
        deadline = time.monotonic() + START.total_seconds()
        while True:
            try:
                self._control.start_all()
            except UnavailableError:
                if self._has_ended() or time.monotonic() > deadline:
                    raise self._failure("supervisord") from None
                time.sleep(_STEP.total_seconds())
            else:
                return

    def _has_ended(self) -> bool:
        # A signal may end all this at any moment. Its own `poll` would then be left
        # holding a lock, and nobody would hear of its end any more.
        process = self._supervisord
        return process is None or not tree.is_running(process.pid)

    def _statuses(self) -> tuple[ProgramStatus, ...]:
        try:
            return self._control.programs()
        except UnavailableError:
            return ()

    def _look(self) -> tuple[str, ...]:
        programs = {status.name: status for status in self._statuses()}
        return self._changes.seen(programs, self._window_statuses())

    def _raise_for_the_dead(self) -> None:
        if self._has_ended():
            log = self.state.logs / "supervisord.log"
            raise ConfigurationError(f"supervisord has ended; its log: {log}")
        for status in self._statuses():
            if status.word == "FATAL" and status.name in self.lineup.vital:
                raise self._failure(status.name)

    def _raise_for_crashed_runners(self) -> None:
        """See that none has crashed that we wait for."""
        awaited = {
            one.process.program
            for one in self.lineup.runners
            if one.name in self.lineup.awaited
        }
        for status in self._statuses():
            if status.word == "FATAL" and status.name in awaited:
                raise self._failure(status.name)
        for name, now in self._window_statuses().items():
            if now == "crashed" and name in awaited:
                (manager,) = (one for one in self._tmux if name in one.names)
                said = " ".join(line.strip() for line in manager.logs(name, lines=3))
                raise ConfigurationError(f"{name} does not run: {said[:400]}")

    def _failure(self, program: str) -> ConfigurationError:
        log = self.state.logs / f"{program}.log"
        return ConfigurationError(f"{label(program)} does not run{last_words(log)}")

    def _end_supervisord(self, process: subprocess.Popen[bytes]) -> None:
        tree.wake(process.pid)
        with suppress(UnavailableError):
            self._control.shut_down()
        # One that is silent has taken its time already.
        deadline = time.monotonic() + END.total_seconds()
        if process.poll() is None:
            process.terminate()
        while process.poll() is None and time.monotonic() < deadline:
            # A signal that stops it may have been on its way when it was woken.
            tree.wake(process.pid)
            # It looks after its programs once a second, or when it is asked something.
            self._statuses()
            time.sleep(_STEP.total_seconds())
        if process.poll() is None:
            process.kill()
            process.wait()


def last_words(log: Path) -> str:
    """Name a log and the last line in it that says something, for an error's end."""
    said = [line.strip() for line in last_lines(log, lines=50) if line.strip()]
    if not log.exists():
        return ""
    return f": {said[-1][:200]} (its log: {log})" if said else f" (its log: {log})"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise ConfigurationError(
            f"cannot write {where}: {os.strerror(error.errno or 0)}; mend that, or"
            " choose another state directory with --state-dir"
        ) from None
