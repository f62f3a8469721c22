"""SAL's functions for Kubernetes, by its official client."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from workers.sal.kinds import Word
from workers.sal.session import SalError, Session
from workers.sal.table import SalObject, make_module

#: Seconds that one answer may take.
_SILENCE: Final = 30
#: Items of one answer; what has more is asked for in parts.
_PAGE: Final = 500
#: What the library raises for a file that is no configuration at all.
_MISREAD: Final = (AttributeError, LookupError, TypeError, ValueError, OSError)
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
#: Which API has each kind of resource in a namespace, and what it is called there, in
#: the order in which a deletion goes: what would make others anew goes first.
_RESOURCES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "deployments": ("AppsV1Api", "namespaced_deployment"),
        "services": ("CoreV1Api", "namespaced_service"),
        "configmaps": ("CoreV1Api", "namespaced_config_map"),
        "secrets": ("CoreV1Api", "namespaced_secret"),
        "pods": ("CoreV1Api", "namespaced_pod"),
    }
)


class KubernetesManager(SalObject):
    """A namespace of a cluster."""

    def __init__(self, here: Session, namespace: str, client: Any) -> None:  # noqa: ANN401 - a client that ships no types
        self._here = here
        self._namespace = namespace
        self._client = client

    @property
    def namespace(self) -> str:
        """The name of the namespace."""
        return self._namespace

    def pods_list(self) -> list[str]:
        """Return the names of its pods, in order."""
        return self._names("pods")

    def services_list(self) -> list[str]:
        """Return the names of its services, in order."""
        return self._names("services")

    def deployments_list(self) -> list[str]:
        """Return the names of its deployments, in order."""
        return self._names("deployments")

    def configmaps_list(self) -> list[str]:
        """Return the names of its config maps, in order."""
        return self._names("configmaps")

    def secrets_list(self) -> list[str]:
        """Return the names of its secrets, in order."""
        return self._names("secrets")

    def pod_get(self, name: Word) -> dict[str, object]:
        """Return a pod: name, phase, ip, node, and its containers with their images."""
        pod = self._ask("CoreV1Api", "read_namespaced_pod", name, self._namespace)
        return {
            "name": pod.metadata.name,
            "phase": pod.status.phase or "",
            "ip": pod.status.pod_ip or "",
            "node": pod.spec.node_name or "",
            "containers": {one.name: one.image for one in pod.spec.containers},
        }

    def pod_delete(self, name: Word) -> None:
        """Delete a pod."""
        self._delete("pods", name)

    def service_delete(self, name: Word) -> None:
        """Delete a service."""
        self._delete("services", name)

    def deployment_delete(self, name: Word) -> None:
        """Delete a deployment, and with it its pods."""
        self._delete("deployments", name)

    def delete(self, pattern: str) -> int:
        """Delete what has a matching name, and return how much that was.

        That is deployments, services, config maps, secrets and pods whose whole name
        matches a regular expression.
        """
        try:
            wanted = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise SalError(f"the pattern cannot be read: {error}") from None
        if wanted.fullmatch(""):
            raise SalError("the pattern matches every name: it would delete everything")
        count = 0
        for resource in _RESOURCES:
            for name in filter(wanted.fullmatch, self._names(resource)):
                count += self._delete(resource, name, or_gone=True)
        return count

    def namespaces_list(self) -> list[str]:
        """Return the names of all namespaces of the cluster, in order."""
        return self._listed("CoreV1Api", "list_namespace")

    def namespace_exists(self, name: Word) -> bool:
        """Whether the cluster has a namespace of that name."""
        return name in self.namespaces_list()

    def namespace_create(self, name: Word) -> None:
        """Make a namespace; one that is there stays."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self._ask("CoreV1Api", "create_namespace", body, accepted=_CONFLICT)

    def _names(self, resource: str) -> list[str]:
        api, kind = _RESOURCES[resource]
        return self._listed(api, f"list_{kind}", self._namespace)

    def _listed(self, api: str, call: str, *words: str) -> list[str]:
        names: list[str] = []
        following = ""
        while True:
            part = self._ask(api, call, *words, limit=_PAGE, _continue=following)
            names += [one.metadata.name for one in part.items]
            following = part.metadata._continue  # noqa: SLF001 - so it is called there
            if not following:
                return sorted(names)

    def _delete(self, resource: str, name: str, *, or_gone: bool = False) -> bool:
        api, kind = _RESOURCES[resource]
        words, accepted = (name, self._namespace), _NOT_FOUND if or_gone else None
        return self._ask(api, f"delete_{kind}", *words, accepted=accepted) is not None

    def _ask(
        self,
        api: str,
        call: str,
        *words: object,
        accepted: int | None = None,
        **options: object,
    ) -> Any:  # noqa: ANN401 - as the client
        """Ask the cluster; None if it answers with the status that is accepted."""
        import kubernetes

        self._here.require_host()
        asked = getattr(getattr(kubernetes.client, api)(self._client), call)
        with _translated(f"{call} {words[0] if words else ''}".strip(), accepted):
            return asked(*words, _request_timeout=_SILENCE, **options)

    methods = (
        *(pods_list, services_list, deployments_list, configmaps_list, secrets_list),
        *(pod_get, pod_delete, service_delete, deployment_delete, delete),
        *(namespaces_list, namespace_exists, namespace_create),
    )
    properties = (namespace,)


def kubernetes_manager_new(here: Session, namespace: Word) -> KubernetesManager:
    """Return what manages a namespace.

    The cluster is that of `$KUBECONFIG` or `~/.kube/config`, or the one in which the
    script runs.
    """
    here.require_host()
    try:
        import kubernetes
        import yaml
    except ImportError:
        raise SalError(
            "kubernetes is not installed: pip install 'horus-celery[k8s]'"
        ) from None
    try:
        client = _configured_client()
    except kubernetes.config.ConfigException as error:
        raise SalError(f"no cluster is configured: {error}") from None
    except (yaml.YAMLError, *_MISREAD):
        raise SalError("the configuration of the cluster cannot be read") from None
    return KubernetesManager(here, namespace, client)


def _configured_client() -> Any:  # noqa: ANN401 - as it ships no types
    import kubernetes

    # The library would look this variable up only once, when it is imported.
    given = os.environ.get("KUBECONFIG")
    usual = Path.home() / ".kube/config"
    if given or usual.exists():
        return kubernetes.config.new_client_from_config(given or str(usual))
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_incluster_config(client_configuration=configuration)
    return kubernetes.client.ApiClient(configuration)


@contextmanager
def _translated(call: str, accepted: int | None) -> Iterator[None]:
    import kubernetes
    import urllib3

    try:
        yield
    except kubernetes.client.ApiException as error:
        if error.status == accepted:
            return
        said = _message_in(error.body) or error.reason or f"status {error.status}"
        raise SalError(f"Kubernetes refuses {call}: {said}") from None
    except urllib3.exceptions.HTTPError:
        raise SalError("the cluster cannot be reached") from None
    except ValueError as error:
        raise SalError(f"{call}: {error}") from None


def _message_in(body: object) -> str:
    try:
        told = json.loads(str(body))
    except ValueError:
        return ""
    return str(told.get("message", "")) if isinstance(told, dict) else ""


MODULE: Final = make_module(
    "kubernetes",
    """A cluster of Kubernetes, with `net: host` and the extra `k8s` of Horus.

    SAL's own documents name `pods_list`, `namespace_create` and `delete(pattern)`; the
    other methods are Horus's.
    """,
    kubernetes_manager_new,
    objects=(KubernetesManager,),
)
