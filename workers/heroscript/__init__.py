"""HeroScript as text: what a script says, and how it is written."""

from __future__ import annotations
