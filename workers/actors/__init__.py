"""Who does the actions of a HeroScript: tables of functions, and what runs them."""

from __future__ import annotations
