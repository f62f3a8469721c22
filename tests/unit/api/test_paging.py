"""Who pages through all jobs sees each, whatever goes or comes between two pages."""

import httpx
import pytest

from api import create_app
from horus_celery.cli.audit import every_job


@pytest.fixture
def horus(make_horus, world):
    transport = httpx.WSGITransport(app=create_app(world.services))
    with make_horus(world, transport) as client:
        yield client


@pytest.mark.parametrize("gone", [1, 2, 3, 5])
def test_jobs_that_go_between_two_pages_end_nothing(world, horus, gone):
    ids = [world.submit().summary.id for _ in range(10)][::-1]
    seen = []
    for record in every_job(horus, limit=3):
        seen.append(record["id"])
        if len(seen) == 6:
            for job_id in seen[-gone:]:
                horus.delete(job_id)
            world.submit()
    assert seen == ids


def test_where_all_are_gone_that_were_shown_the_others_follow(world, horus):
    ids = [world.submit().summary.id for _ in range(5)][::-1]
    seen = []
    for record in every_job(horus, limit=3):
        seen.append(record["id"])
        if len(seen) == 3:
            for job_id in seen:
                horus.delete(job_id)
    assert seen == ids
