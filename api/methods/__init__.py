"""The method table: every name that the API answers to, and the scope that it asks for.

A method that is not in this table does not exist.
"""

from __future__ import annotations

from typing import Final

from api.access import Scope
from api.codes import Code
from api.methods import deployment, herodb, jobs, runners, secrets, workflows
from api.site import Procedure

METHODS: Final = (
    Procedure(
        name="jobs.create",
        scope=Scope.USER,
        function=jobs.create,
        outside=Code.NOT_COVERED,
    ),
    Procedure(
        name="job.start", scope=Scope.USER, function=jobs.start, outside=Code.NOT_FOUND
    ),
    Procedure(
        name="create_job",
        scope=Scope.USER,
        function=jobs.create_and_queue,
        outside=Code.NOT_COVERED,
    ),
    Procedure(
        name="job.run",
        scope=Scope.USER,
        function=jobs.run,
        aliases=("run_job",),
        outside=Code.NOT_COVERED,
    ),
    Procedure(
        name="job.status",
        scope=Scope.USER,
        function=jobs.status,
        aliases=("get_job_status",),
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="job.result",
        scope=Scope.USER,
        function=jobs.result,
        aliases=("get_job_result",),
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="job.get",
        scope=Scope.USER,
        function=jobs.get,
        aliases=("get_job",),
        outside=Code.NOT_FOUND,
        is_long=True,
    ),
    Procedure(
        name="job.logs",
        scope=Scope.USER,
        function=jobs.logs,
        aliases=("get_job_logs",),
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="job.receipt",
        scope=Scope.USER,
        function=jobs.receipt,
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="job.why", scope=Scope.USER, function=jobs.why, outside=Code.NOT_FOUND
    ),
    Procedure(
        name="job.stop",
        scope=Scope.USER,
        function=jobs.stop,
        aliases=("stop_job",),
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="job.delete",
        scope=Scope.USER,
        function=jobs.delete,
        aliases=("delete_job",),
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="jobs.list",
        scope=Scope.USER,
        function=jobs.list_all,
        aliases=("list_jobs",),
        outside="empty list",
        is_long=True,
    ),
    Procedure(
        name="workflow.submit",
        scope=Scope.USER,
        function=workflows.submit,
        aliases=("submit_workflow",),
        outside=Code.NOT_COVERED,
    ),
    Procedure(
        name="workflow.create",
        scope=Scope.USER,
        function=workflows.create,
        outside=Code.NOT_COVERED,
    ),
    Procedure(
        name="workflow.add_jobs",
        scope=Scope.USER,
        function=workflows.add_jobs,
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="workflow.start",
        scope=Scope.USER,
        function=workflows.start,
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="workflow.status",
        scope=Scope.USER,
        function=workflows.status,
        aliases=("get_workflow_status",),
        outside=Code.NOT_FOUND,
        is_long=True,
    ),
    Procedure(
        name="workflow.result",
        scope=Scope.USER,
        function=workflows.result,
        aliases=("get_workflow_result",),
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="workflow.list",
        scope=Scope.USER,
        function=workflows.list_all,
        outside="empty list",
        is_long=True,
    ),
    Procedure(
        name="workflow.get",
        scope=Scope.USER,
        function=workflows.get,
        outside=Code.NOT_FOUND,
        is_long=True,
    ),
    Procedure(
        name="workflow.stop",
        scope=Scope.USER,
        function=workflows.stop,
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="workflow.delete",
        scope=Scope.USER,
        function=workflows.delete,
        outside=Code.NOT_FOUND,
    ),
    Procedure(
        name="workflow.explain",
        scope=Scope.USER,
        function=workflows.explain,
        outside=Code.NOT_FOUND,
        is_long=True,
    ),
    Procedure(name="register_runner", scope=Scope.REGISTER, function=runners.register),
    Procedure(
        name="list_runners",
        scope=Scope.USER,
        function=runners.list_all,
        outside="own runners only",
    ),
    Procedure(
        name="get_runner_status",
        scope=Scope.USER,
        function=runners.status,
        outside=Code.NOT_FOUND,
    ),
    Procedure(name="start_runner", scope=Scope.ADMIN, function=runners.start),
    Procedure(name="stop_runner", scope=Scope.ADMIN, function=runners.stop),
    Procedure(name="remove_runner", scope=Scope.ADMIN, function=runners.remove),
    Procedure(name="get_runner_logs", scope=Scope.ADMIN, function=runners.logs),
    Procedure(name="add_secret", scope=Scope.ADMIN, function=secrets.add),
    Procedure(name="remove_secret", scope=Scope.ADMIN, function=secrets.remove),
    Procedure(name="list_secrets", scope=Scope.ADMIN, function=secrets.list_all),
    Procedure(
        name="herodb.create_context", scope=Scope.ADMIN, function=herodb.create_context
    ),
    Procedure(
        name="herodb.delete_context", scope=Scope.ADMIN, function=herodb.delete_context
    ),
    Procedure(
        name="herodb.list_contexts", scope=Scope.ADMIN, function=herodb.list_contexts
    ),
    Procedure(name="herodb.set_quota", scope=Scope.ADMIN, function=herodb.set_quota),
    Procedure(name="herodb.add_user", scope=Scope.ADMIN, function=herodb.add_user),
    Procedure(
        name="herodb.remove_user", scope=Scope.ADMIN, function=herodb.remove_user
    ),
    Procedure(name="herodb.list_users", scope=Scope.ADMIN, function=herodb.list_users),
    Procedure(name="herodb.create_key", scope=Scope.ADMIN, function=herodb.create_key),
    Procedure(name="herodb.rotate_key", scope=Scope.ADMIN, function=herodb.rotate_key),
    Procedure(name="herodb.delete_key", scope=Scope.ADMIN, function=herodb.delete_key),
    Procedure(name="herodb.list_keys", scope=Scope.ADMIN, function=herodb.list_keys),
    Procedure(name="trust.get", scope=Scope.USER, function=deployment.trust),
    Procedure(
        name="trust.install", scope=Scope.ADMIN, function=deployment.install_trust
    ),
    Procedure(
        name="get_supervisor_info",
        scope=Scope.USER,
        function=deployment.info,
        outside="own counts only",
    ),
)
