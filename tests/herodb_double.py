"""HeroDB's front in small: a context's keys behind a prefix, and the closed set."""

from __future__ import annotations

import hashlib

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
        return self._run(SCRIPTS[script].source, keys, rest[count:])

    def _run(self, source, keys, args):
        digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        try:
            return self.client.execute_command(
                "EVALSHA", digest, len(keys), *keys, *args
            )
        except NoScriptError:
            return self.client.execute_command("EVAL", source, len(keys), *keys, *args)
