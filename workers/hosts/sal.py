"""Runs Rhai scripts with the functions of SAL."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from horus_rhai import Function, tell_of_no_memory

from workers import sal
from workers.rhai import Host


@cache
def _session() -> sal.Session:
    """Return what this process's script may reach; nothing is asked before it is."""
    return sal.session_of()


def _offered(one: sal.Function) -> Function:
    required = sum(each.is_required for each in one.parameters)
    return Function(_caller(one), required, len(one.parameters))


def _caller(one: sal.Function) -> Callable[..., object]:
    return lambda *args: one.invoke(_session(), args)


_host: Final = Host(
    {name: _offered(one) for name, one in sal.FUNCTIONS.items()},
    {},
    faults=(sal.SalError,),
)
run = _host.run
say_no_memory_to = tell_of_no_memory
rehearse = _host.rehearse
warm_up = _host.warm_up
