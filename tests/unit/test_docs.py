import re
from pathlib import Path

from horus_celery.lifecycle import TRANSITIONS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_diagram_shows_the_table():
    text = (DOCS / "lifecycle.md").read_text()
    drawn = re.findall(r"^ +(\w+) --> (\w+): ([\w ]+)$", text, flags=re.M)
    table = [(str(a), str(b), str(event)) for (a, event), b in TRANSITIONS.items()]
    assert drawn == table
