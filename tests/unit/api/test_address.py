"""Whom of those who pass calls on the API believes."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.address import client_address, is_this_machine, read_networks

PROXIES = read_networks(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])

strangers = st.ip_addresses().filter(
    lambda one: (
        not any(one in network for network in PROXIES)
        and getattr(one, "ipv4_mapped", None) is None
    )
)
trusted = st.sampled_from(["127.0.0.1", "10.1.2.3", "fd00::1", "::ffff:10.0.0.1"])
anything = st.text(st.characters(max_codepoint=255), max_size=60)


@given(strangers, anything | st.none())
def test_a_stranger_is_himself_whatever_he_says(peer, said):
    assert client_address(str(peer), said, PROXIES) == str(peer)


@given(trusted, anything, strangers, st.lists(trusted))
def test_what_the_last_trusted_proxy_saw_counts(peer, said, caller, between):
    header = ",".join([said, str(caller), *between])
    assert client_address(peer, header, PROXIES) == str(caller)


@given(trusted, anything | st.none())
def test_the_answer_is_an_address_whatever_is_said(peer, said):
    assert ip_address(client_address(peer, said, PROXIES))


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "8.8.8.8, unknown", "10.0.0.1"),
        ("10.0.0.1", "unknown, 8.8.8.8", "8.8.8.8"),
        ("10.0.0.1", "9.9.9.9 , 8.8.8.8 , 10.0.0.7", "8.8.8.8"),
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("::ffff:10.0.0.1", "::ffff:8.8.8.8", "8.8.8.8"),
        ("10.0.0.1", "fe80::1%eth0", "fe80::1"),
        ("8.8.8.8", "127.0.0.1", "8.8.8.8"),
        ("", "8.8.8.8", ""),
    ],
)
def test_examples(peer, said, address):
    assert client_address(peer, said, PROXIES) == address


def test_without_trusted_proxies_the_header_counts_for_nothing():
    assert client_address("127.0.0.1", "8.8.8.8", ()) == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "said", "is_here"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("::ffff:127.0.0.1", None, True),
        ("127.0.0.1", "127.0.0.1", True),
        ("10.0.0.1", None, False),
        ("10.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "8.8.8.8", False),
        ("127.0.0.1", "127.0.0.1, 10.0.0.9", False),
        ("127.0.0.1", "unknown", False),
        ("127.0.0.1", "", False),
        ("::1", "127.0.0.1", False),  # of a proxy that nobody told us of
        ("nobody", None, False),
    ],
)
def test_only_who_is_here_is_here(peer, said, is_here):
    assert is_this_machine(peer, said, PROXIES) is is_here


@pytest.mark.parametrize("text", ["", "proxy.example", "10.0.0.0/33", "10.0.0.1-5"])
def test_what_is_no_network_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        read_networks([text])
