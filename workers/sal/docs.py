"""What a person reads of SAL: written from its tables.

    python -m workers.sal.docs [MODULE] [--json | --markdown]

Nothing in `docs/sal.md` is written by hand, so nothing in it can be out of date; a test
compares.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from workers.sal import MODULES
from workers.sal.table import Function, Method, Module, ObjectTable

_HEAD: Final = """# SAL: system functions for scripts

What scripts of the executors `sal` and `hero` may call. `horus sal docs` prints this
page for a terminal, and `python -m workers.sal.docs --markdown` wrote it.

A function acts inside the job's sandbox: in its directories, within its limits. The
job's `net` decides what may leave it, and the runner's configuration what may be done
to the node: `sal_allow` names `packages`, `containers`, `services` and `ssh`; at first
it names nothing. What cannot be done is an error that a script may catch, and that says
what to do about it.

A value that is left out is the one after `=`. `path` and `seconds` are a string and a
number. Where SAL's own documents give no arguments, these are Horus's. The modules
buildah, rfs, vault and hetzner of SAL are not there: a script that calls one of their
functions is told that there is no such function.
"""


def shown(modules: Sequence[Module]) -> str:
    """Write modules for a terminal."""
    return "\n".join(line for module in modules for line in _module_lines(module))


def page(modules: Sequence[Module]) -> str:
    """Write modules as Markdown."""
    return "\n".join([_HEAD, *(line for one in modules for line in _section(one))])


def data(modules: Sequence[Module]) -> list[dict[str, object]]:
    """Return modules as JSON has them."""
    return [
        {
            "module": module.name,
            "doc": module.doc,
            "functions": [_callable_data(one) for one in module.functions],
            "objects": [_object_data(one) for one in module.objects],
        }
        for module in modules
    ]


def unknown(module: str, names: Sequence[str]) -> str:
    """Say that there is no such module, which is near, and which there are."""
    near = difflib.get_close_matches(module.lower(), names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"there is no module {module!r} of SAL{hint}: there are {', '.join(names)}"


def _module_lines(module: Module) -> Iterator[str]:
    yield from (module.name.upper(), "", textwrap.indent(module.doc, "  "), "")
    for function in module.functions:
        yield from _entry_lines(function.signature, function.doc, "  ")
    for one in module.objects:
        yield from (f"  {one.name}", textwrap.indent(one.doc, "      "), "")
        for method in one.methods:
            yield from _entry_lines(f".{method.signature}", method.doc, "    ")
        for read in one.properties:
            yield from _entry_lines(f".{read.name}: {read.result}", read.doc, "    ")


def _entry_lines(signature: str, doc: str, margin: str) -> Iterator[str]:
    yield margin + signature
    yield from (textwrap.indent(doc, f"{margin}    "), "")


def _section(module: Module) -> Iterator[str]:
    yield from (f"## {module.name}", "", module.doc, "")
    for function in module.functions:
        yield from _item(function.signature, function.doc)
    yield ""
    for one in module.objects:
        yield from (f"### {one.name}", "", one.doc, "")
        for method in one.methods:
            yield from _item(f".{method.signature}", method.doc)
        for read in one.properties:
            yield from _item(f".{read.name}: {read.result}", read.doc)
        yield ""


def _item(signature: str, doc: str) -> Iterator[str]:
    yield f"- `{signature}`"
    yield textwrap.indent(" ".join(doc.split()), "  ")


def _callable_data(one: Function | Method) -> dict[str, object]:
    return {
        "name": one.name,
        "signature": one.signature,
        "parameters": [
            {"name": given.name, "kind": given.kind.name}
            if given.is_required
            else {
                "name": given.name,
                "kind": given.kind.name,
                "default": given.shown_default,
            }
            for given in one.parameters
        ],
        "result": one.result,
        "doc": one.doc,
    }


def _object_data(one: ObjectTable) -> dict[str, object]:
    return {
        "name": one.name,
        "doc": one.doc,
        "methods": [_callable_data(method) for method in one.methods],
        "properties": [
            {"name": read.name, "result": read.result, "doc": read.doc}
            for read in one.properties
        ],
    }


def main() -> None:
    """Write the documents of a module, or of all, to standard output."""
    parser = argparse.ArgumentParser(prog="horus sal docs")
    names = [module.name for module in MODULES]
    parser.add_argument("module", nargs="?")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true")
    asked = parser.parse_args()
    if asked.module not in {None, *names}:
        parser.error(unknown(asked.module, names))
    modules = [one for one in MODULES if asked.module in {None, one.name}]
    if asked.json:
        written = json.dumps(data(modules), indent=2) + "\n"
    elif asked.markdown:
        written = page(modules)
    else:
        written = shown(modules)
    sys.stdout.write(written)


if __name__ == "__main__":
    main()
