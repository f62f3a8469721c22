"""What a job service looks like without Horus: Flask in front of stock Celery."""

from __future__ import annotations

from flask import Flask, request
from peer import nothing

app = Flask(__name__)


@app.post("/")
def create() -> dict[str, str]:
    """Publish a task with the payload of the call, and return its id."""
    call = request.get_json()
    return {"result": nothing.delay(call["params"]["payload"]).id}
