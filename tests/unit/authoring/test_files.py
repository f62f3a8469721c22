"""A workflow's file is read as it is meant, or told what is wrong with which line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from horus_celery.authoring.drafts import EarlierJob, StepDraft, StepResult
from horus_celery.authoring.files import read_file
from horus_celery.authoring.texts import read_values
from horus_celery.errors import ConfigurationError, WorkflowError

HEX = "0123456789abcdef" * 4

TOML = f"""\
name = "Nightly étl"
max_parallel = 4
expires_in = 7200

[defaults]
executor = "system"
env = {{ A = "1", B = "1" }}
timeout = 30
attempts = 2
limits = {{ memory_mb = 64, procs = 8 }}
secrets = ["token"]
net = "herodb"
runner = "r1"
supervisor = "far"
on_failure = "continue"

[steps.extract]
run = '''
echo 1
'''

[steps.clean]
file = "scripts/clean.py"
executor = "python"
depends_on = ["extract"]
when = "all_done"
on_failure = "fail"
inputs = {{ RAW = "extract", OLD = {{ job = "{HEX}", max_bytes = 7 }} }}
needs = ["{HEX}"]
env = {{ B = "2" }}
args = ["--all", "x"]
timeout = 60
attempts = 1
limits = {{ procs = 9 }}
secrets = []
net = "none"
runner = "r2"
supervisor = "near"
"""

YAML = f"""\
name: Nightly étl
max_parallel: 4
expires_in: 7200
defaults:
  executor: system
  env: {{A: '1', B: '1'}}
  timeout: 30
  attempts: 2
  limits: {{memory_mb: 64, procs: 8}}
  secrets: [token]
  net: herodb
  runner: r1
  supervisor: far
  on_failure: continue
steps:
  - name: extract
    run: |
      echo 1
  - name: clean
    file: scripts/clean.py
    executor: python
    depends_on: [extract]
    when: all_done
    on_failure: fail
    inputs:
      RAW: extract
      OLD: {{job: {HEX}, max_bytes: 7}}
    needs: [{HEX}]
    env: {{B: '2'}}
    args: [--all, x]
    timeout: 60
    attempts: 1
    limits: {{procs: 9}}
    secrets: []
    net: none
    runner: r2
    supervisor: near
"""

EXTRACT = StepDraft(
    name="extract",
    payload="echo 1\n",
    executor="system",
    env_vars={"A": "1", "B": "1"},
    timeout=timedelta(seconds=30),
    attempts=2,
    limits={"memory_mb": 64, "procs": 8},
    secrets=("token",),
    net="herodb",
    runner="r1",
    supervisor="far",
    on_failure="continue",
)
CLEAN = StepDraft(
    name="clean",
    payload="print(2)\n",
    executor="python",
    depends_on=("extract",),
    when="all_done",
    on_failure="fail",
    inputs={
        "RAW": StepResult(step="extract"),
        "OLD": EarlierJob(digest=HEX, max_bytes=7),
    },
    needs=(HEX,),
    env_vars={"A": "1", "B": "2"},
    args=("--all", "x"),
    timeout=timedelta(seconds=60),
    attempts=1,
    limits={"memory_mb": 64, "procs": 9},
    net="none",
    runner="r2",
    supervisor="near",
)


@pytest.fixture
def read(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "clean.py").write_text("print(2)\n")

    def read(text, name="etl.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_file(path)

    return read


@pytest.fixture
def complaint(read, tmp_path):
    """Return what is said of a file, without the folder that it lies in."""

    def complaint(text, name="etl.toml", *, error=ConfigurationError):
        with pytest.raises(error) as refusal:
            read(text, name)
        return refusal.value.detail.replace(f"{tmp_path}/", "")

    return complaint


# --- what is read ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", TOML), ("a.yaml", YAML), ("a.yml", YAML)]
)
def test_a_file_says_all_that_a_step_may_have(read, name, text):
    draft = read(text, name)
    assert (draft.name, draft.max_parallel) == ("Nightly étl", 4)
    assert draft.lifetime == timedelta(hours=2)
    assert draft.steps == (EXTRACT, CLEAN)


def test_steps_are_named_by_their_tables_or_by_a_key(read):
    by_table = read('[steps.a]\nrun = "1"\n[steps."b.c"]\nrun = "2"\n')
    by_key = read(
        '[[steps]]\nname = "a"\nrun = "1"\n[[steps]]\nname = "b.c"\nrun = "2"\n'
    )
    assert by_table == by_key
    yaml = read("steps:\n  a: {run: '1'}\n  b.c: {run: '2'}\n", "etl.yaml")
    assert yaml == by_table


def test_what_nobody_says_is_as_usual(read):
    draft = read('[steps.a]\nrun = ""\n', "night.toml")
    assert (draft.name, draft.max_parallel) == ("night", None)
    assert draft.lifetime == timedelta(days=1)
    assert draft.steps == (StepDraft(name="a", payload=""),)


def test_the_name_of_a_script_is_nearer_than_the_defaults(read):
    text = '[defaults]\nexecutor = "osis"\n[steps.a]\nfile = "scripts/clean.py"\n'
    assert read(text).steps[0].executor == "python"


def test_what_yaml_shares_is_read_where_it_is_shared(read):
    draft = read(
        "steps:\n  a: &a {run: x, timeout: 7}\n  b: {<<: *a, depends_on: [a]}\n",
        "etl.yaml",
    )
    assert [one.timeout for one in draft.steps] == [timedelta(seconds=7)] * 2


# --- what is wrong -----------------------------------------------------------------

KEYS = (
    "executor, env, timeout, attempts, limits, secrets, net, runner, supervisor,"
    " on_failure, run, file, depends_on, when, inputs, needs, args"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[steps.a]\nrun = ""\ntimout = 5\n',
            (
                "etl.toml line 3: the step a: timout is no key (did you mean timeout?);"
                f" the keys are {KEYS}"
            ),
        ),
        (
            'nmae = "x"\n[steps.a]\nrun = ""\n',
            (
                "etl.toml line 1: nmae is no key (did you mean name?); the keys are"
                " name, max_parallel, expires_in, defaults, steps"
            ),
        ),
        (
            '[defaults]\nwhen = "all_done"\n[steps.a]\nrun = ""\n',
            (
                "etl.toml line 2: defaults.when is no key; the keys are executor, env,"
                " timeout, attempts, limits, secrets, net, runner, supervisor,"
                " on_failure"
            ),
        ),
        (
            '[steps.a]\nrun = ""\n[steps.a.limits]\nmemory = 5\n',
            (
                "etl.toml line 4: the step a: limits.memory is no key (did you mean"
                " memory_mb?); the keys are memory_mb, cpu_s, procs, output_kb"
            ),
        ),
        (
            '[steps.a]\nrun = ""\ninputs = { X = { stp = "b" } }\n',
            (
                "etl.toml line 3: the step a: inputs.X.stp is no key (did you mean"
                " step?); the keys are step, job, max_bytes"
            ),
        ),
        (
            '[[steps]]\nname = "b"\nrun = ""\n[[steps]]\nname = "a"\nrun = ""\nx = 1\n',
            f"etl.toml line 7: the step a: x is no key; the keys are {KEYS}",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_line_and_the_known_ones(
    complaint, text, said
):
    assert complaint(text) == said


NO_TEXT = "must be a string of UTF-8 text without U+0000"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("timeout = 0", "timeout: must be greater than or equal to 1"),
        ("timeout = 86401", "timeout: must be less than or equal to 86400"),
        ('timeout = "5"', "timeout: must be a whole number"),
        ("attempts = 11", "attempts: must be less than or equal to 10"),
        ("env = { N = 5 }", f"env.N: {NO_TEXT}; put it in quotes"),
        ('env = { PATH = "/" }', "env: PATH is reserved"),
        ('net = "all"', "net: must be 'none', 'herodb' or 'host'"),
        ('when = "never"', "when: must be 'all_success', 'all_done',"),
        ('on_failure = "x"', "on_failure: must be 'fail' or 'continue'"),
        ('args = "x"', "args: must be a list, such as ["),
        ('depends_on = "b"', 'depends_on: must be a list, such as ["…"]'),
        ("env = 5", "env: must be a table"),
        ("limits = 5", "limits: must be a table with the keys memory_mb, cpu_s,"),
        ("args = [1]", f"args.0: {NO_TEXT}; put it in quotes"),
        ("limits = { procs = 0 }", "limits.procs: must be greater than"),
        ('needs = ["x"]', "needs.0: must be 64 hex digits in lower case"),
        ('executor = "a b"', "executor: must be a name: "),
        ('inputs = { X = "a b" }', "inputs.X.step: must be a name: "),
        ("inputs = { X = 5 }", "inputs.X: must be a table with the keys step, job"),
        ("inputs = { X = {} }", "inputs.X: must name a step or a job, and one only"),
        ('inputs = { "a/b" = "a" }', "inputs.a/b: must be the name of a variable"),
    ],
)
def test_what_a_key_may_not_be_is_told_with_its_line(complaint, line, said):
    text = f'[steps.a]\nrun = ""\n{line}\n'
    assert complaint(text).startswith(f"etl.toml line 3: the step a: {said}")


@pytest.mark.parametrize("steps", ["", "steps = 1\n", 'steps = "a"\n'])
def test_a_workflow_needs_steps(complaint, steps):
    assert "steps is missing or no table: write [steps.NAME]" in complaint(steps)


def test_a_workflow_needs_one_step_at_least(complaint):
    assert "steps: must be a table with one entry at least" in complaint("[steps]\n")


@pytest.mark.parametrize("text", ["", "- a\n", "5\n", "null\n"])
def test_what_is_no_table_is_no_workflow(complaint, text):
    said = complaint(text, "etl.yaml")
    assert said.startswith("etl.yaml must be a table with the keys name, ")


def test_a_step_of_a_list_needs_a_name_of_its_own(complaint):
    nameless = '[[steps]]\nname = "a"\nrun = ""\n[[steps]]\nrun = ""\n'
    assert complaint(nameless).startswith("etl.toml line 4: step 2 has no name")
    twice = '[[steps]]\nname = "a"\nrun = ""\n[[steps]]\nname = "a"\nrun = ""\n'
    assert complaint(twice).startswith("etl.toml line 4: the step a stands there twice")


def test_a_step_is_a_table(complaint):
    said = complaint("steps:\n  a: print(1)\n", "etl.yaml")
    assert said.startswith("etl.yaml line 2: steps.a: must be a table with the keys ")


def test_the_name_of_a_step_is_text_and_no_number(complaint):
    said = complaint("steps:\n  1: {run: print(1)}\n", "etl.yaml")
    assert said.startswith("etl.yaml line 2: steps.1: must be a name: ")
    assert said.endswith("; put it in quotes")


@pytest.mark.parametrize("number", ["010", "0755", "0x10", "0b1", "1:30", "12:30:45"])
def test_a_number_that_readers_of_yaml_take_for_others_is_refused(complaint, number):
    text = f"steps:\n  a:\n    run: print(1)\n    timeout: {number}\n"
    assert complaint(text, "etl.yaml") == (
        f"etl.yaml line 4 is no YAML: the number {number!r} is not decimal: write it"
        " so, or in quotes if it is text"
    )


@pytest.mark.parametrize("number", ["0", "10", "+10", "1_000"])
def test_a_decimal_number_is_one(read, number):
    text = f"{{job: '{'0' * 64}', max_bytes: {number}}}"
    draft = read(f"steps: {{a: {{run: '', inputs: {{X: {text}}}}}}}\n", "etl.yaml")
    assert draft.steps[0].inputs["X"].max_bytes == int(number)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etl.toml", '[steps.a]\nrun = ""\n'),
        ("etl.yaml", "steps:\n  a: {run: ''}\n"),
    ],
)
def test_a_file_may_begin_with_a_byte_order_mark(read, name, text):
    assert read("\ufeff" + text, name).steps[0].name == "a"


def test_a_name_that_is_none_is_refused(complaint):
    assert "steps.a b: must be a name" in complaint('[steps."a b"]\nrun = ""\n')


@pytest.mark.parametrize("lines", ["", 'run = ""\nfile = "scripts/clean.py"\n'])
def test_a_step_needs_one_script(complaint, lines):
    assert complaint(f"[steps.a]\n{lines}") == (
        "etl.toml line 1: the step a needs one script: write run or file"
    )


def test_a_script_that_cannot_be_read_is_named_with_its_line(complaint):
    said = complaint('[steps.a]\nfile = "no.py"\n')
    assert said == (
        "etl.toml line 2: the step a: cannot read the script no.py:"
        " No such file or directory"
    )


def test_a_script_in_rhai_needs_its_executor_named(complaint, read, tmp_path):
    (tmp_path / "s.rhai").write_text("1 + 1")
    text = 'steps.a.file = "s.rhai"\n'
    said = complaint(text)
    assert said == (
        "etl.toml line 1: the step a: the script s.rhai may be for osis or sal: name"
        " the executor"
    )
    for named in ('steps.a.executor = "sal"\n', 'defaults.executor = "sal"\n'):
        assert read(text + named).steps[0].executor == "sal"


def test_a_step_that_does_not_exist_is_told_with_the_line_that_wants_it(complaint):
    text = '[steps.extract]\nrun = ""\n[steps.b]\nrun = ""\ndepends_on = ["extrct"]\n'
    said = complaint(text, error=WorkflowError)
    assert said == (
        "etl.toml line 5: the step b depends on extrct, which is no step of this"
        " workflow (did you mean extract?)"
    )


def test_an_input_of_no_step_is_told_with_the_line_that_wants_it(complaint):
    text = '[steps.a]\nrun = ""\n[steps.a.inputs]\nX = { job = "%s" }\nY = "aa"\n'
    assert complaint(text % ("0" * 64), error=WorkflowError) == (
        "etl.toml line 5: the step a depends on aa, which is no step of this workflow"
        " (did you mean a?)"
    )


def test_a_cycle_is_told_with_the_line_of_its_first_step(complaint):
    text = "steps:\n  a: {run: '', depends_on: [b]}\n  b: {run: '', inputs: {X: a}}\n"
    said = complaint(text, "etl.yaml", error=WorkflowError)
    assert said.startswith("etl.yaml line 2: steps wait for each other; the shortest")


# --- what cannot be read -----------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot read the workflow .*No such"):
        read_file(tmp_path / "no.toml")


def test_the_format_goes_by_the_name(complaint):
    assert "ends in .toml, .yaml or .yml" in complaint("", "etl.json")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "a = ", "a.toml is no TOML: Invalid value (at end of document)"),
        ("a.toml", "a=1\na=2\n", "a.toml is no TOML: Cannot overwrite a value"),
        ("a.toml", f"a = {'[' * 5000}", "a.toml is no TOML: too deep"),
        ("a.yaml", "a: [\n", "a.yaml line 2 is no YAML: "),
        (
            "a.yaml",
            "a: 1\nb: 2\na: 3\n",
            "a.yaml line 3 is no YAML: the key 'a' stands",
        ),
        ("a.yaml", "? [a]\n: 1\n", "a.yaml line 1 is no YAML: a key is no text"),
        ("a.yaml", f"a: {'[' * 5000}", "a.yaml is no YAML: too deep"),
        ("a.yaml", f"a: {'[' * 40}{']' * 40}", "a.yaml line 1 is no YAML: it has too"),
        ("a.yaml", "a: &a [*a]\n", "a.yaml line 1 is no YAML: it has too many"),
        ("a.yaml", "a: !!python/name:os.system x\n", "a.yaml line 1 is no YAML: could"),
        ("a.yaml", "a: *b\n", "a.yaml line 1 is no YAML: found undefined alias"),
        (
            "a.yaml",
            "a: 1\nb: 2020-99-99\n",
            "a.yaml line 2 is no YAML: the value '2020-99-99' cannot be a timestamp:",
        ),
        ("a.yaml", "a: !!bool b\n", "a.yaml line 1 is no YAML: the value 'b' cannot"),
        ("a.yaml", "a: !!float ''\n", "a.yaml line 1 is no YAML: the value '' cannot"),
        ("a.yaml", "2020-99-99: b\n", "a.yaml line 1 is no YAML: the value '2020-"),
        ("a.yaml", "a:\n- !!timestamp b", "a.yaml line 2 is no YAML: the value 'b' c"),
        ("a.toml", b"\xff", "a.toml is not UTF-8 text"),
    ],
)
def test_what_is_broken_is_told_with_its_line_if_that_is_known(
    complaint, name, text, said
):
    assert complaint(text, name).startswith(said)


def test_aliases_cannot_stand_for_more_than_a_machine_holds(tmp_path):
    layers = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "a.yaml"
    path.write_text("\n".join(layers))
    with pytest.raises(ConfigurationError, match="too many values"):
        read_values(path, max_values=1000)


def test_a_file_that_no_person_writes_is_not_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("# 345678901")
    assert read_values(path, max_bytes=11).values == {}
    with pytest.raises(ConfigurationError, match="is larger than 10 bytes"):
        read_values(path, max_bytes=10)
