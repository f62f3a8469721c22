"""What can go wrong with objects, each as a sentence that a script may show.

OsisError
├── ModelError        declare it differently
│   └── ModelUnknown      there is no such model in this context
├── FieldError        give another value: the field cannot have this one
├── ObjectNotFound    there is no such object
├── ChangeError       read it again: what is stored stands in the way
│   ├── ObjectChanged     somebody saved it meanwhile
│   └── ValueTaken        another object has the value, which is to be unique
└── NameUnknown       no such function or property: also a LookupError
"""

from __future__ import annotations


class OsisError(Exception):
    """The root of the tree; its text names the thing and the remedy."""


class ModelError(OsisError):
    """A model is declared as it cannot be."""


class ModelUnknown(ModelError):
    """There is no such model."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no model {name} in this context: declare it with"
            f' osis.model("{name}", #{{fields: …}})'
        )
        self.name = name


class FieldError(OsisError):
    """A value is none that its field, or a parameter, can have."""


class ObjectNotFound(OsisError):
    """There is no such object."""

    def __init__(self, model: str, object_id: int) -> None:
        super().__init__(f"there is no {model} {object_id}")
        self.model = model
        self.object_id = object_id


class ChangeError(OsisError):
    """What is stored does not allow it."""


class ObjectChanged(ChangeError):
    """Somebody saved the object since it was read."""

    def __init__(self, model: str, object_id: int) -> None:
        super().__init__(
            f"{model} {object_id} was saved by somebody else since it was read: get it"
            " again, change that, and save it"
        )
        self.model = model
        self.object_id = object_id


class ValueTaken(ChangeError):
    """Another object has a value that is to be unique."""

    def __init__(self, model: str, field: str, holder: int) -> None:
        super().__init__(
            f"{model} {holder} has this {field} already, and {field} is unique"
        )
        self.model = model
        self.field = field
        self.holder = holder


class NameUnknown(OsisError, LookupError):
    """There is no function or property of this name."""
