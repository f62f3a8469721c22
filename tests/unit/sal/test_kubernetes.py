"""SAL's functions for Kubernetes: the official client, on a stand-in for the API."""

from __future__ import annotations

import json
import re
import sys

import pytest

from workers.sal import Net

from .conftest import make_script

PLACES = {
    "deployments": "/apis/apps/v1/namespaces/shop/deployments",
    "services": "/api/v1/namespaces/shop/services",
    "configmaps": "/api/v1/namespaces/shop/configmaps",
    "secrets": "/api/v1/namespaces/shop/secrets",
    "pods": "/api/v1/namespaces/shop/pods",
}


def listing(*names, following=""):
    spec = {"containers": [{"name": "c"}], "selector": {}, "template": {}}
    items = [{"metadata": {"name": name}, "spec": spec} for name in names]
    return json.dumps({"metadata": {"continue": following}, "items": items}).encode()


def status(code, message):
    told = {"kind": "Status", "status": "Failure", "message": message, "code": code}
    return code, json.dumps(told).encode()


@pytest.fixture
def cluster(web, monkeypatch, tmp_path):
    """The API of a cluster, which the configuration names."""
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": web.url}}],
        "users": [{"name": "it", "user": {"token": "token"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(configuration))
    monkeypatch.setenv("KUBECONFIG", str(file))
    for resource, place in PLACES.items():
        web.answer("GET", place, (200, listing(f"web-{resource}", f"db-{resource}")))
    return web


@pytest.fixture
def manager(script, cluster):
    return script("kubernetes_manager_new", "shop")


@pytest.mark.parametrize("resource", PLACES)
def test_the_names_of_a_kind_are_listed_in_order(manager, resource):
    names = manager.rhai_call(f"{resource}_list", [])
    assert names == [f"db-{resource}", f"web-{resource}"]


def test_a_long_list_is_asked_for_in_parts(manager, cluster):
    cluster.answer(
        "GET",
        PLACES["pods"],
        (200, listing("b", following="more")),
        (200, listing("a")),
    )
    assert manager.rhai_call("pods_list", []) == ["a", "b"]
    assert "continue=more" in cluster.asked[-1][1]


def test_a_manager_knows_its_namespace(manager):
    assert manager.rhai_get("namespace") == "shop"


def test_a_pod_is_looked_at(manager, cluster):
    pod = {
        "metadata": {"name": "web"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    }
    cluster.answer("GET", f"{PLACES['pods']}/web", (200, json.dumps(pod).encode()))
    assert manager.rhai_call("pod_get", ["web"]) == {
        "name": "web",
        "phase": "Running",
        "ip": "10.0.0.1",
        "node": "n",
        "containers": {"c": "i"},
    }


@pytest.mark.parametrize("kind", ["pod", "service", "deployment"])
def test_one_thing_is_deleted_or_is_not_there(manager, cluster, kind):
    place = f"{PLACES[f'{kind}s']}/web"
    cluster.answer("DELETE", place, (200, b"{}"), status(404, f"{kind} web not found"))
    assert manager.rhai_call(f"{kind}_delete", ["web"]) is None
    with pytest.raises(Exception, match=f"^{kind}_delete: .*: {kind} web not found"):
        manager.rhai_call(f"{kind}_delete", ["web"])


def test_what_matches_is_deleted_and_what_is_gone_already_is_not_counted(
    manager, cluster
):
    for resource, place in PLACES.items():
        reply = status(404, "gone") if resource == "secrets" else (200, b"{}")
        cluster.answer("DELETE", f"{place}/web-{resource}", reply)
    assert manager.rhai_call("delete", ["web-.*"]) == 4
    deleted = [path for method, path, _ in cluster.asked if method == "DELETE"]
    assert deleted == [f"{place}/web-{one}" for one, place in PLACES.items()]


@pytest.mark.parametrize("pattern", ["", ".*", "(", "a{99999999999}", 1])
def test_a_pattern_is_no_way_to_delete_everything(manager, cluster, pattern):
    with pytest.raises(Exception, match=r"^delete: "):
        manager.rhai_call("delete", [pattern])
    assert cluster.asked == []


def test_namespaces_are_listed_looked_up_and_made(manager, cluster):
    cluster.answer("GET", "/api/v1/namespaces", (200, listing("shop", "default")))
    place = "/api/v1/namespaces"
    cluster.answer(
        "POST", place, (201, b"{}"), status(409, "exists"), status(403, "no")
    )
    assert manager.rhai_call("namespaces_list", []) == ["default", "shop"]
    assert manager.rhai_call("namespace_exists", ["shop"]) is True
    assert manager.rhai_call("namespace_exists", ["other"]) is False
    assert manager.rhai_call("namespace_create", ["other"]) is None
    assert manager.rhai_call("namespace_create", ["other"]) is None
    with pytest.raises(Exception, match=r"namespace_create: Kubernetes refuses .*: no"):
        manager.rhai_call("namespace_create", ["other"])


LOOKS = [*(f"{resource}_list" for resource in PLACES), "namespaces_list"]


@pytest.mark.parametrize("method", LOOKS)
def test_what_the_cluster_refuses_is_told(manager, cluster, method):
    cluster.answers.clear()
    for place in [*PLACES.values(), "/api/v1/namespaces"]:
        cluster.answer("GET", place, status(403, "ada may not list"))
    with pytest.raises(
        Exception, match=f"^{method}: Kubernetes refuses .*: ada may not"
    ):
        manager.rhai_call(method, [])


@pytest.mark.parametrize("method", ["pod_get", "namespace_exists"])
def test_an_answer_that_is_no_status_is_told_too(manager, cluster, method):
    cluster.answers.clear()
    with pytest.raises(Exception, match=f"^{method}: Kubernetes refuses .*: Not Found"):
        manager.rhai_call(method, ["web"])


def test_a_cluster_that_is_not_there_is_told(script, cluster, tmp_path, closed_port):
    file = tmp_path / "kubeconfig"
    file.write_text(file.read_text().replace(f":{cluster.port}", f":{closed_port}"))
    manager = script("kubernetes_manager_new", "shop")
    with pytest.raises(Exception, match="pods_list: the cluster cannot be reached"):
        manager.rhai_call("pods_list", [])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "no cluster is configured"),
        ("[1]", "cannot be read"),
        ("{", "cannot be read"),
        ("clusters: 1\ncurrent-context: x", "cannot be read"),
    ],
)
def test_a_wrong_configuration_is_told(script, cluster, tmp_path, text, why):
    (tmp_path / "kubeconfig").write_text(text)
    assert why in script.refusal("kubernetes_manager_new", "shop")


def test_without_a_configuration_there_is_no_cluster(script, folder, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    said = script.refusal("kubernetes_manager_new", "shop")
    assert "no cluster is configured" in said


def test_a_cluster_needs_the_network(cluster):
    said = make_script().refusal("kubernetes_manager_new", "shop")
    assert "sign it with net: host" in said


@pytest.mark.parametrize(
    ("library", "extra", "call"),
    [
        ("kubernetes", "k8s", ("kubernetes_manager_new", "shop")),
        ("psycopg", "postgres", ("pg_connect", "postgresql://")),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    monkeypatch, library, extra, call
):
    monkeypatch.setitem(sys.modules, library, None)
    said = make_script(net=Net.HOST).refusal(*call)
    assert re.search(rf"not installed: pip install 'horus-celery\[{extra}\]'$", said)
