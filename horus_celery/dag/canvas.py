"""A plan as Celery's own chains, groups and chords, where that is exact and safe.

It is the second way to run a graph, beside the one by reference: small, and kept apart
from everything that decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from celery.canvas import Signature, chain, group

from horus_celery.dag.compiler import Plan
from horus_celery.dag.shapes import Beside, Place, Shape, shape_of

#: Makes the signature that runs a step; immutable, so that it carries ids alone.
MakeSignature: TypeAlias = Callable[[int], Signature]


def to_canvas(plan: Plan, make: MakeSignature) -> Signature:
    """Return what Celery is to run.

    Raises:
        NoCanvas: if it should not run so, with the reason.
    """
    return _canvas(shape_of(plan), make)


def canvas_behind(place: Place, make: MakeSignature) -> Signature | None:
    """Return what Celery is to run behind a step in its row; None if nothing is."""
    if not place.rest:
        return None
    parts = [_canvas(part, make) for part in place.rest]
    return chain(*parts) if len(parts) > 1 else parts[0]


def _canvas(shape: Shape, make: MakeSignature) -> Signature:
    if isinstance(shape, int):
        return make(shape)
    parts = [_canvas(part, make) for part in shape.parts]
    # A group in a chain becomes the header of a chord with what is behind it.
    return group(parts) if isinstance(shape, Beside) else chain(*parts)
