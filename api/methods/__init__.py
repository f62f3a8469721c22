"""The method table: every name that the API answers to, and the scope that it asks for.

A method that is not in this table does not exist.
"""

from __future__ import annotations

from typing import Final

from api.access import Scope
from api.methods import deployment, jobs
from api.site import Procedure

METHODS: Final = (
    Procedure(name="jobs.create", scope=Scope.USER, function=jobs.create),
    Procedure(name="job.start", scope=Scope.USER, function=jobs.start),
    Procedure(name="create_job", scope=Scope.USER, function=jobs.create_and_queue),
    Procedure(
        name="job.run", scope=Scope.USER, function=jobs.run, aliases=("run_job",)
    ),
    Procedure(
        name="job.status",
        scope=Scope.USER,
        function=jobs.status,
        aliases=("get_job_status",),
    ),
    Procedure(
        name="job.result",
        scope=Scope.USER,
        function=jobs.result,
        aliases=("get_job_result",),
    ),
    Procedure(
        name="job.get", scope=Scope.USER, function=jobs.get, aliases=("get_job",)
    ),
    Procedure(
        name="job.logs", scope=Scope.USER, function=jobs.logs, aliases=("get_job_logs",)
    ),
    Procedure(name="job.receipt", scope=Scope.USER, function=jobs.receipt),
    Procedure(name="job.why", scope=Scope.USER, function=jobs.why),
    Procedure(
        name="job.stop", scope=Scope.USER, function=jobs.stop, aliases=("stop_job",)
    ),
    Procedure(
        name="job.delete",
        scope=Scope.USER,
        function=jobs.delete,
        aliases=("delete_job",),
    ),
    Procedure(
        name="jobs.list",
        scope=Scope.USER,
        function=jobs.list_all,
        aliases=("list_jobs",),
    ),
    Procedure(name="trust.get", scope=Scope.USER, function=deployment.trust),
    Procedure(name="get_supervisor_info", scope=Scope.USER, function=deployment.info),
)
