"""Horus: a task platform on Celery where nobody but the signer decides what runs."""

from __future__ import annotations

__version__ = "0.1.0"
