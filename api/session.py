"""What serves one call: the deployment, as far as the caller's contexts show it."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.access import Identity
from horus_celery.api_secrets.book import SecretBook
from horus_celery.coordinator import Coordinator
from horus_celery.fleet import Fleet
from horus_celery.herodb.keyring import Keyring
from horus_celery.herodb.steward import Steward
from horus_celery.record import Record
from horus_celery.store.workflows import WorkflowRecord
from horus_celery.supervisor import Supervisor
from horus_celery.trustpost import TrustPost


class About:
    """What a call turned out to be about, for the log and the measurements."""

    __slots__ = ("context_id", "job_id")

    def __init__(self) -> None:
        self.job_id: str | None = None
        self.context_id: str | None = None

    def note(self, record: Record) -> Record:
        """Keep which job it is, and return its record."""
        self.job_id = record.summary.id
        self.context_id = record.summary.context_id
        return record

    def note_workflow(self, record: WorkflowRecord) -> WorkflowRecord:
        """Keep whose workflow it is, and return its record."""
        self.context_id = record.outline.context_id
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class HeroDb:
    """What administers HeroDB."""

    steward: Steward
    #: The keys of encryption of this node.
    keyring: Keyring
    #: Where it is, without a login.
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a method is given; it can reach nothing outside the caller's contexts."""

    identity: Identity
    #: The supervisor within the caller's contexts.
    jobs: Supervisor
    #: The coordinator within them.
    workflows: Coordinator
    #: The runners that serve one of them.
    runners: Fleet
    secrets: SecretBook
    trust: TrustPost
    herodb: HeroDb
    about: About = field(default_factory=About)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a deployment has, before anybody's contexts narrow it."""

    supervisor: Supervisor
    coordinator: Coordinator
    fleet: Fleet
    secrets: SecretBook
    trust: TrustPost
    herodb: HeroDb

    def session(self, identity: Identity) -> Session:
        """Return what a call of this caller is served with."""
        return Session(
            identity=identity,
            jobs=self.supervisor.within(identity.contexts),
            workflows=self.coordinator.within(identity.contexts),
            runners=self.fleet.within(identity.contexts),
            secrets=self.secrets,
            trust=self.trust,
            herodb=self.herodb,
        )
