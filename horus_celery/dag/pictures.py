"""How a graph is drawn: as text for Graphviz, or for Mermaid.

A step that runs on other terms than `all_success` says so, and one that may fail is
dashed; the steps and edges of the critical path are thick. Names have no quotation mark
and no backslash, so that between quotation marks they cannot be anything but names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from horus_celery.dag.compiler import Plan
from horus_celery.dag.model import Graph

_USUAL: Final = "all_success"


def to_dot(plan: Plan) -> str:
    """Draw a plan in the language of Graphviz (`dot -Tsvg`)."""
    graph = plan.graph
    critical = set(plan.critical_path)
    thick = set(itertools.pairwise(plan.critical_path))
    lines = ["digraph workflow {", "    rankdir=LR;", "    node [shape=box];"]
    for step, name in enumerate(graph.names):
        # Between its parts two characters, of which Graphviz makes a new line.
        label = "\\n".join(_label(graph, step))
        styles = [
            *(["dashed"] if graph.on_failure[step] == "continue" else []),
            *(["bold"] if step in critical else []),
        ]
        style = f', style="{",".join(styles)}"' if styles else ""
        lines.append(f'    "{name}" [label="{label}"{style}];')
    for above, step in _edges(graph):
        ends = f'"{graph.names[above]}" -> "{graph.names[step]}"'
        style = " [style=bold]" if (above, step) in thick else ""
        lines.append(f"    {ends}{style};")
    return "\n".join([*lines, "}", ""])


def to_mermaid(plan: Plan) -> str:
    """Draw a plan in the language of Mermaid."""
    graph = plan.graph
    thick = set(itertools.pairwise(plan.critical_path))
    lines = ["flowchart LR"]
    for step in range(len(graph)):
        label = "<br/>".join(map(_mermaid_escaped, _label(graph, step)))
        lines.append(f'    s{step}["{label}"]')
    for above, step in _edges(graph):
        arrow = "==>" if (above, step) in thick else "-->"
        lines.append(f"    s{above} {arrow} s{step}")
    lenient = [
        f"s{step}" for step, rule in enumerate(graph.on_failure) if rule == "continue"
    ]
    if lenient:
        lines.append("    classDef lenient stroke-dasharray: 5 5")
        lines.append(f"    class {','.join(lenient)} lenient")
    critical = ",".join(f"s{step}" for step in plan.critical_path)
    lines.append("    classDef critical stroke-width: 3px")
    lines.append(f"    class {critical} critical")
    return "\n".join([*lines, ""])


def _label(graph: Graph, step: int) -> Iterator[str]:
    yield graph.names[step]
    if graph.when[step] != _USUAL and graph.parents[step]:
        yield graph.when[step]
    supervisor = graph.supervisors[step]
    if supervisor is not None:
        yield f"at {supervisor}"


def _edges(graph: Graph) -> Iterator[tuple[int, int]]:
    for step, parents in enumerate(graph.parents):
        for above in parents:
            yield above, step


def _mermaid_escaped(text: str) -> str:
    # Mermaid's own way of writing characters by their numbers.
    return "".join(
        char if char.isalnum() or char in " ._-" else f"#{ord(char)};" for char in text
    )
