"""How Celery is set up: settings only, each under the reason why it is not the default.

Nothing secret stands here but the broker's address: Celery shows its configuration.
"""

from __future__ import annotations

from kombu.entity import Queue

from horus_celery.settings import load_settings
from horus_celery.store.connection import broker
from horus_celery.wiring import queue_names, redis_url

_settings = load_settings()

# One Redis for records and bells: the one that is named, else our own.
_broker = broker(redis_url(_settings))
broker_url = _broker.url
broker_use_ssl = _broker.tls or False
broker_transport_options = {
    **_broker.options,
    # A bell needs no acknowledgement, because a sweep rings again; and the keys in
    # which they are kept could be forged.
    "ack_emulation": False,
    "socket_keepalive": True,
}
# A runner waits for Redis as long as it takes, at its start and later.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# A queue's key that holds something else must not end the worker.
broker_channel_error_retry = True

# Messages carry one id; nothing is ever unpickled.
accept_content = ["json"]
result_accept_content = ["json"]

# What became of a job stands in its record, signed; Celery keeps no results.
result_backend = None
task_ignore_result = True

# The queue of an executor is the executor; a context and a runner have their own beside
# it. All are named, so that Flower shows their lengths; what a worker serves of them
# follows from its executors and the trust bundle.
task_queues = [
    Queue(name, routing_key=name)  # type: ignore[no-untyped-call]  # kombu is untyped
    for name in queue_names(_settings)
]
task_default_queue = _settings.executors[0]

# The one task, found by name: the core does not know the executors.
imports = ("workers.app",)

# What is popped is started within milliseconds: a bell in a busy worker's memory would
# keep a job from an idle one, and count as lost.
worker_disable_prefetch = True
worker_prefetch_multiplier = 1
# The prefetch above already follows from what runs.
worker_enable_prefetch_count_reduction = False
task_acks_late = True

# No receiver for commands, whoever sends them; see also `screening.LockedConsumer`.
worker_consumer = "horus_celery.screening:LockedConsumer"
worker_enable_remote_control = False
worker_disable_rate_limits = True
# Flower shows workers by their heartbeats and tasks by these events.
worker_send_task_events = True

# Prefork, whose children are replaced as soon as they have ended.
worker_pool = "workers.pool:PromptTaskPool"
# The slot of a pool child that was killed is free again soon: no result is waited for.
worker_lost_wait = 1.0
worker_concurrency = _settings.concurrency

# The runner's own log lines keep their names and levels.
worker_redirect_stdouts = False
