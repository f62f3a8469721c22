"""HeroDB's front in small: a context's keys behind a prefix, and the closed set."""

from __future__ import annotations

from redis.exceptions import NoScriptError

from workers.osis.scripts import SCRIPTS


class Front:
    """Gives commands to a real server as the front of HeroDB does."""

    def __init__(self, client, context):
        self.client = client
        self.context = context
        #: How many commands were given.
        self.calls = 0

    def __call__(self, *words):
        self.calls += 1
        name, *args = words
        if name != "OSIS":
            key, *rest = args
            return self.client.execute_command(name, f"{self.context}d:{key}", *rest)
        script, count, *rest = args
        keys = [f"{self.context}{key}" for key in rest[:count]]
        return self._run(SCRIPTS[script], len(keys), *keys, *rest[count:])

    def _run(self, script, *words):
        only_reads = "" if script.writes else "_RO"
        ask = self.client.execute_command
        try:
            return ask(f"EVALSHA{only_reads}", script.digest, *words)
        except NoScriptError:
            return ask(f"EVAL{only_reads}", script.source, *words)
