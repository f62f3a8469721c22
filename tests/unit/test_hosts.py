"""What the hosts of scripts bring into the zygotes that hold them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What runs something in the child of every fork, and what only few scripts need that
#: brings libraries, whose pages every fork copies.
DEAR = {"threading", "random", "logging", "concurrent", "subprocess", "hashlib"}


@pytest.mark.parametrize("host", ["osis", "sal", "hero"])
def test_a_host_brings_nothing_that_every_fork_would_pay_for(host):
    if importlib.util.find_spec("horus_rhai") is None and host != "hero":
        pytest.skip("the Rhai engine is not installed")
    code = f"import sys, workers.zygote, workers.hosts.{host}; print(*sys.modules)"
    ran = subprocess.run(  # noqa: S603 - our own argv
        [sys.executable, "-I", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    brought = set(ran.stdout.split())
    assert f"workers.hosts.{host}" in brought
    assert not brought & DEAR


@pytest.mark.parametrize("host", ["osis", "sal", "hero", "hero_cli"])
def test_nobody_hears_a_host_warm_up(host, capsys):
    if host in {"osis", "sal"}:
        pytest.importorskip("horus_rhai")
    module = importlib.import_module(f"workers.hosts.{host}")
    module.warm_up()
    assert capsys.readouterr() == ("", "")
