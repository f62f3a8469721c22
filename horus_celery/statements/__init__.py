"""What is signed: envelope, byte form, keys, and one closed schema per statement."""

from __future__ import annotations
