import re
import shutil
import subprocess

import pytest

from horus_celery.dag.compiler import compile_plan
from horus_celery.dag.model import Graph
from horus_celery.dag.pictures import to_dot, to_mermaid
from horus_celery.statements.manifest import make_step

TEXT = "get clean:get count:get load:clean,count alarm:load"
RULES = {
    "count": {"on_failure": "continue"},
    "alarm": {"when": "one_failed", "supervisor": "far"},
}

DOT = """\
digraph workflow {
    rankdir=LR;
    node [shape=box];
    "get" [label="get", style="bold"];
    "clean" [label="clean", style="bold"];
    "count" [label="count", style="dashed"];
    "load" [label="load", style="bold"];
    "alarm" [label="alarm\\none_failed\\nat far", style="bold"];
    "get" -> "clean" [style=bold];
    "get" -> "count";
    "clean" -> "load" [style=bold];
    "count" -> "load";
    "load" -> "alarm" [style=bold];
}
"""

MERMAID = """\
flowchart LR
    s0["get"]
    s1["clean"]
    s2["count"]
    s3["load"]
    s4["alarm<br/>one_failed<br/>at far"]
    s0 ==> s1
    s0 --> s2
    s1 ==> s3
    s2 --> s3
    s3 ==> s4
    classDef lenient stroke-dasharray: 5 5
    class s2 lenient
    classDef critical stroke-width: 3px
    class s0,s1,s3,s4 critical
"""


@pytest.fixture
def plan(graph_of):
    return compile_plan(graph_of(TEXT, **RULES))


def test_a_plan_is_drawn_for_graphviz(plan):
    assert to_dot(plan) == DOT


def test_a_plan_is_drawn_for_mermaid(plan):
    assert to_mermaid(plan) == MERMAID


def test_what_has_no_lenient_step_defines_no_class_for_it(graph_of):
    assert "lenient" not in to_mermaid(compile_plan(graph_of("a")))


def test_a_root_does_not_say_when_it_starts(graph_of):
    plan = compile_plan(graph_of("a", a={"when": "all_done"}))
    assert "all_done" not in to_dot(plan)
    assert "all_done" not in to_mermaid(plan)


def test_every_letter_that_a_name_may_have_can_be_drawn():
    name = "A.b_c@d:e-f"
    steps = [make_step(name), make_step("end", depends_on=[name])]
    plan = compile_plan(Graph.of_steps(steps))
    assert f'"{name}" -> "end" [style=bold];' in to_dot(plan)
    # By their numbers: Mermaid takes them for syntax otherwise.
    assert 's0["A.b_c#64;d#58;e-f"]' in to_mermaid(plan)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_it(plan):
    done = subprocess.run(
        ["dot", "-Tplain"],  # noqa: S607 - whichever is installed
        input=to_dot(plan),
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(re.findall(r"^node ", done.stdout, re.MULTILINE)) == len(plan.graph)
