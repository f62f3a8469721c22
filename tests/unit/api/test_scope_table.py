"""Who may call what: the whole table, called through the real application."""

import pytest

from api.callers import EXPECTED, Caller
from api.methods import METHODS
from horus_celery.herodb.keyring import Kind
from horus_celery.herodb.layout import Role
from horus_celery.registry import Phase
from horus_celery.statements import dsse
from horus_celery.store.base import Filter
from horus_celery.store.workflows import WorkflowFilter

YES = "yes"
#: No secret, a wrong one, register, a user inside the context, one outside it, admin.
OF_A_JOB = ("-32001", "-32001", "-32003", YES, "-32004", YES)
OF_A_NEW_JOB = ("-32001", "-32001", "-32003", YES, "-32012", YES)
OF_USERS = ("-32001", "-32001", "-32003", YES, YES, YES)
OF_ADMINS = ("-32001", "-32001", "-32003", "-32003", "-32003", YES)
TABLE = {
    "jobs.create": OF_A_NEW_JOB,
    "job.start": OF_A_JOB,
    "create_job": OF_A_NEW_JOB,
    "job.run": OF_A_NEW_JOB,
    "job.status": OF_A_JOB,
    "job.result": OF_A_JOB,
    "job.get": OF_A_JOB,
    "job.logs": OF_A_JOB,
    "job.receipt": OF_A_JOB,
    "job.why": OF_A_JOB,
    "job.stop": OF_A_JOB,
    "job.delete": OF_A_JOB,
    "jobs.list": ("-32001", "-32001", "-32003", YES, "empty list", YES),
    "workflow.submit": OF_A_NEW_JOB,
    "workflow.create": OF_A_NEW_JOB,
    "workflow.add_jobs": OF_A_JOB,
    "workflow.start": OF_A_JOB,
    "workflow.status": OF_A_JOB,
    "workflow.result": OF_A_JOB,
    "workflow.list": ("-32001", "-32001", "-32003", YES, "empty list", YES),
    "workflow.get": OF_A_JOB,
    "workflow.stop": OF_A_JOB,
    "workflow.delete": OF_A_JOB,
    "workflow.explain": OF_A_JOB,
    "register_runner": ("-32001", "-32001", YES, "-32003", "-32003", "-32003"),
    "list_runners": ("-32001", "-32001", "-32003", YES, "own runners only", YES),
    "get_runner_status": OF_A_JOB,
    "start_runner": OF_ADMINS,
    "stop_runner": OF_ADMINS,
    "remove_runner": OF_ADMINS,
    "get_runner_logs": OF_ADMINS,
    "add_secret": OF_ADMINS,
    "remove_secret": OF_ADMINS,
    "list_secrets": OF_ADMINS,
    "herodb.create_context": OF_ADMINS,
    "herodb.delete_context": OF_ADMINS,
    "herodb.list_contexts": OF_ADMINS,
    "herodb.set_quota": OF_ADMINS,
    "herodb.add_user": OF_ADMINS,
    "herodb.remove_user": OF_ADMINS,
    "herodb.list_users": OF_ADMINS,
    "herodb.create_key": OF_ADMINS,
    "herodb.rotate_key": OF_ADMINS,
    "herodb.delete_key": OF_ADMINS,
    "herodb.list_keys": OF_ADMINS,
    "trust.get": OF_USERS,
    "trust.install": OF_ADMINS,
    "get_supervisor_info": ("-32001", "-32001", "-32003", YES, "own counts only", YES),
    "rpc.discover": (YES, YES, YES, YES, YES, YES),
}
ALIASES = {alias: one.name for one in METHODS for alias in one.aliases}
CELLS = [
    pytest.param(name, caller, cell, id=f"{name}-{caller}")
    for name in (*TABLE, *ALIASES)
    for caller, cell in zip(Caller, TABLE[ALIASES.get(name, name)], strict=True)
]
ABOUT_ACCESS = {-32001, -32003, -32601, -32602, -32022}


class Scene:
    """A deployment with a job and a runner of `billing`, and callers of every kind."""

    def __init__(self, world, client, secrets):
        world.trust.trust = type(world.trust.trust).from_wire(
            world.trust_body()
            | {
                "runners": [
                    {
                        "name": "r1",
                        "key": world.runner.keyid,
                        "executors": ["python"],
                        "contexts": ["billing"],
                    }
                ]
            }
        )
        world.beat(contexts=("billing",), phase=Phase.RUNNING)
        self.world = world
        self.client = client
        self.job_id = world.submit().summary.id
        self.signed = world.workflow(a=[], b=["a"])
        world.coordinator.create(self.signed.manifest)
        world.coordinator.add_jobs(self.signed.id, self.signed.jobs)
        _, self.spare = world.book.add(scope="admin", contexts=["*"], secret=None)
        herodb = world.services.herodb
        herodb.steward.create("billing")
        herodb.steward.add_user("billing", "bob", Role.WRITE)
        herodb.keyring.create("billing", Kind.SECRET, "old")
        self.secrets = {
            Caller.NOBODY: None,
            Caller.WRONG: "nobody-has-this-secret",
            Caller.REGISTER: secrets["register"][0],
            Caller.INSIDE: world.bound_secret("billing"),
            Caller.OUTSIDE: world.bound_secret("lab"),
            Caller.ADMIN: secrets["admin"][0],
        }

    def params(self, name):
        """Return parameters with which a call of this method would do something."""
        match ALIASES.get(name, name):
            case "jobs.create" | "create_job":
                return {"job": self.world.envelope()}
            case "job.run":
                return {"job": self.world.envelope(), "wait": 0}
            case "job.result" | "job.logs":
                return {"job_id": self.job_id, "wait": 0}
            case "workflow.submit":
                new = self.world.workflow(a=[])
                return {"manifest": new.manifest, "jobs": new.jobs}
            case "workflow.create":
                return {"manifest": self.world.workflow(a=[]).manifest}
            case "workflow.add_jobs":
                return {"workflow_id": self.signed.id, "jobs": self.signed.jobs}
            case "workflow.result":
                return {"workflow_id": self.signed.id, "wait": 0}
            case "workflow.list":
                return {}
            case one if one.startswith("workflow."):
                return {"workflow_id": self.signed.id}
            case one if one.startswith("job."):
                return {"job_id": self.job_id}
            case "register_runner":
                return {"registration": {}}
            case "get_runner_status":
                return {"name": "r1"}
            case one if one.endswith(("_runner", "_runner_logs")):
                return {"name": "r1"}
            case "add_secret":
                return {"scope": "user"}
            case "remove_secret":
                # Not the one of the caller, who calls again.
                known = self.world.book.list()
                return {"id": next(one.id for one in known if one.scope == "user")}
            case "trust.install":
                body = self.world.trust.trust.to_wire() | {"version": 2}
                trust = type(self.world.trust.trust).from_wire(body)
                signed = dsse.sign(dsse.TRUST, trust.body(), [self.world.root])
                return {"trust": dsse.to_wire(signed)}
            case "herodb.create_context":
                return {"context": "new"}
            case "herodb.list_contexts":
                return {}
            case "herodb.add_user":
                return {"context": "billing", "name": "eve", "role": "read"}
            case "herodb.remove_user":
                return {"context": "billing", "name": "bob"}
            case "herodb.create_key":
                return {"context": "billing", "name": "new"}
            case "herodb.rotate_key" | "herodb.delete_key":
                return {"context": "billing", "name": "old"}
            case one if one.startswith("herodb."):
                return {"context": "billing"}
            case _:
                return {}

    def call(self, name):
        return {"jsonrpc": "2.0", "method": name, "params": self.params(name), "id": 1}

    def post(self, body, caller):
        return self.client.post(body, secret=self.secrets[caller])

    def state(self):
        """Return everything that a call could change."""
        world = self.world
        return (
            world.store.list(Filter(), limit=100),
            world.workflows.list(WorkflowFilter(), limit=100),
            world.book.list(),
            world.trust.trust.version,
            world.board.text,
            tuple(world.dispatcher.bells),
            dict(world.registry.texts(["r1"])),
            dict(world.estate.made),
            world.services.herodb.keyring.list("billing"),
        )


@pytest.fixture
def scene(world, client, secrets):
    return Scene(world, client, secrets)


def code_of(answer):
    return answer.get("error", {}).get("code")


def require(cell, name, answer):
    """See that an answer is what the table says."""
    if cell.startswith("-"):
        assert code_of(answer) == int(cell)
        return
    assert code_of(answer) not in ABOUT_ACCESS, answer
    match cell:
        case "empty list" | "own runners only":
            assert answer["result"] == []
        case "own counts only":
            assert set(answer["result"]["counts"].values()) == {0}
            assert answer["result"]["runners"] == []
            assert answer["result"]["queues"] == {}
        case _ if name in {"jobs.list", "list_runners", "list_jobs", "workflow.list"}:
            assert len(answer["result"]) == 1


def test_every_method_that_exists_is_in_the_table_and_no_other(client):
    document = client.call("rpc.discover", secret=None)
    names = {method["name"] for method in document["methods"]}
    assert names == {*TABLE, *ALIASES}


def test_the_docs_show_this_table():
    shown = {name: tuple(row.values()) for name, row in EXPECTED.items()}
    assert shown == TABLE
    assert all(tuple(row) == tuple(Caller) for row in EXPECTED.values())


@pytest.mark.parametrize(("name", "caller", "cell"), CELLS)
def test_a_call_gets_what_the_table_says(scene, name, caller, cell):
    require(cell, name, scene.post(scene.call(name), caller))


@pytest.mark.parametrize(("name", "caller", "cell"), CELLS)
def test_a_batch_may_do_no_more_than_a_call(scene, name, caller, cell):
    (first, answer) = scene.post(
        [{**scene.call("rpc.discover"), "id": 0}, scene.call(name)], caller
    )
    assert "result" in first
    require(cell, name, answer)


@pytest.mark.parametrize(("name", "caller", "cell"), CELLS)
def test_what_a_call_may_not_a_notification_does_not_do(scene, name, caller, cell):
    if not cell.startswith("-"):
        return
    call = scene.call(name)
    del call["id"]
    before = scene.state()
    for body in (call, [call], [call, call]):
        assert scene.post(body, caller) is None
    assert scene.state() == before


def by_position(document, name, params):
    """Return parameters in the published order, defaults where none is given."""
    (shown,) = [method for method in document["methods"] if method["name"] == name]
    assert params.keys() <= {one["name"] for one in shown["params"]}
    return [
        params[one["name"]] if one["name"] in params else one["schema"]["default"]
        for one in shown["params"]
    ]


@pytest.mark.parametrize("name", [*TABLE, *ALIASES])
def test_parameters_by_position_do_what_they_do_by_name(scene, client, name):
    document = client.call("rpc.discover", secret=None)
    call = scene.call(name)
    call["params"] = by_position(document, name, call["params"])
    caller = Caller.REGISTER if name == "register_runner" else Caller.ADMIN
    require(YES, name, scene.post(call, caller))
    call["params"].append(None)
    answer = scene.post(call, caller)
    assert code_of(answer) == -32602
    assert "at most" in answer["error"]["data"]["detail"]


@pytest.mark.parametrize("name", [name for name in TABLE if name != "rpc.discover"])
@pytest.mark.parametrize("params", [{}, [], {"nobody": 1}, ["x"] * 20])
def test_who_may_not_call_is_told_nothing_of_the_parameters(scene, name, params):
    caller = Caller.REGISTER if name != "register_runner" else Caller.INSIDE
    call = {**scene.call(name), "params": params}
    assert code_of(scene.post(call, Caller.NOBODY)) == -32001
    assert code_of(scene.post(call, caller)) == -32003


def test_the_scene_changes_for_those_who_may(scene, world):
    before = scene.state()
    scene.post(scene.call("job.stop"), Caller.INSIDE)
    scene.post(scene.call("workflow.stop"), Caller.INSIDE)
    scene.post(scene.call("add_secret"), Caller.ADMIN)
    scene.post(scene.call("trust.install"), Caller.ADMIN)
    after = scene.state()
    assert all(one != other for one, other in zip(before[:5], after[:5], strict=True))
    assert world.store.list(Filter(), limit=1)[0].status.value == "stopped"
