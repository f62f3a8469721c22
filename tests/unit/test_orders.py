"""What is said to a zygote arrives as it was said."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from workers import order as orders
from workers.order import Box, Ceilings, Fence, Order, Shelter, Start

BOX = Box(program="/b", options=("--a", "é"), files={"/etc/x": "y\n"}, filter="AA==")
FENCE = Fence(shown=("/usr", "/é"), hidden=("/x",), has_network=False)
SHELTER = Shelter(
    shown=("/usr", "/é"), hidden=("/x",), has_network=False, user=7, rooms="/ö"
)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def order(**facts):
    usual = {
        "interpreter": ("/bin/bash",),
        "script": "/job/given/script",
        "args": ("a b", "", "ü\n", "\U0001f600"),
        "env": {"PATH": "/bin", "NAME": "'\"$(x)"},
        "cwd": "/job/work",
        "room": "/rooms/1",
        "space": 1 << 40,
        "ceilings": Ceilings(memory=1 << 30, cpu=60, processes=None),
    }
    return Order(**{**usual, **facts})


@pytest.mark.parametrize(
    "facts",
    [{}, {"interpreter": None}, {"interpreter": ("/usr/bin/perl", "-w"), "box": BOX}],
)
def test_an_order_arrives_with_its_descriptors(ends, facts):
    ours, theirs = ends
    sent = order(**facts)
    reading, writing = os.pipe()
    orders.send(ours, sent, [writing])
    os.close(writing)
    received = orders.receive(theirs, 1)
    assert received is not None
    arrived, (descriptor,) = received
    assert arrived == sent
    os.write(descriptor, b"here")
    os.close(descriptor)
    assert os.read(reading, 10) == b"here"
    os.close(reading)


def test_a_large_order_arrives_whole(ends):
    ours, theirs = ends
    sent = order(args=("x" * (3 << 20),))
    sending = threading.Thread(target=orders.send, args=(ours, sent, []))
    sending.start()
    received = orders.receive(theirs, 1)
    sending.join()
    assert received == (sent, [])


@pytest.mark.parametrize("filter_", [None, "AAAA"])
@pytest.mark.parametrize("fence", [None, FENCE])
@pytest.mark.parametrize("shelter", [None, SHELTER])
def test_what_a_zygote_is_to_be_arrives(ends, shelter, fence, filter_):
    ours, theirs = ends
    start = Start(shelter=shelter, filter=filter_, host="some.host", fence=fence)
    orders.send_start(ours, start)
    assert orders.receive_start(theirs) == start


def test_after_the_other_end_is_gone_there_is_no_order(ends):
    ours, theirs = ends
    ours.close()
    assert orders.receive(theirs, 1) is None


def test_half_an_order_is_none(ends):
    ours, theirs = ends
    ours.send(b"\0\0\0\x09half")
    ours.close()
    assert orders.receive(theirs, 1) is None
