"""Deployments that are attacked and broken, and what they promise meanwhile."""

from __future__ import annotations

from tests.integration.conftest import deployment, private_deployment

__all__ = ["deployment", "private_deployment"]
