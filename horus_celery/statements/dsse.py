"""What a signed statement is: bytes of one type, and who really signed them (DSSE v1).

Whoever reads a statement verifies the bytes first (`signers`), then parses them
(`canonical.parse`), then reads them by the closed schema of their type.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from horus_celery.errors import MalformedError
from horus_celery.statements import canonical
from horus_celery.statements.keys import KeyPair, is_signed_by

#: The types of statements; each has its own role of key.
JOB: Final = "application/vnd.horus.job.v1+json"
WORKFLOW: Final = "application/vnd.horus.workflow.v1+json"
RECEIPT: Final = "application/vnd.horus.receipt.v1+json"
TRUST: Final = "application/vnd.horus.trust.v1+json"
RUNNER: Final = "application/vnd.horus.runner.v1+json"

#: Bytes that a body may have, if nobody says otherwise.
MAX_BODY: Final = 1024 * 1024
MAX_SIGNATURES: Final = 8
#: Characters of a key id, which is only a hint, and of a signature's base64.
MAX_KEYID: Final = 128
MAX_SIGNATURE: Final = 1024
#: Verifications of one envelope, so that junk stays cheap: every signature is tried
#: with the key that it names, then with the others as far as this reaches.
MAX_VERIFICATIONS: Final = 64

#: An envelope's text may have this many characters per byte that its body may have,
#: and at least those of the longest signatures.
_TEXT_PER_BODY: Final = 2
_MIN_TEXT: Final = 64 * 1024

_ENVELOPE_FIELDS: Final = frozenset({"payloadType", "payload", "signatures"})
_SIGNATURE_FIELDS: Final = frozenset({"keyid", "sig"})


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as it came: whose it is and whether it is one is not decided yet."""

    keyid: str
    sig: bytes


@dataclass(frozen=True)
class Envelope:
    """The exact bytes of a statement with whatever signatures came along."""

    #: The payload type.
    kind: str
    body: bytes
    signatures: tuple[Signature, ...]

    @cached_property
    def signed_bytes(self) -> bytes:
        """What a signature covers: type and body, each with its length."""
        frame = f"DSSEv1 {len(self.kind)} {self.kind} {len(self.body)} "
        return frame.encode("ascii") + self.body

    @cached_property
    def digest(self) -> str:
        """The identity of the statement: the SHA-256 of its signed bytes."""
        return hashlib.sha256(self.signed_bytes).hexdigest()


def read(text: str | bytes, kind: str, *, max_bytes: int = MAX_BODY) -> Envelope:
    """Read an envelope of one type from its JSON text; nothing is verified yet.

    Raises:
        MalformedError: `env.*` or `json.*`.
    """
    if len(text) > max(max_bytes * _TEXT_PER_BODY, _MIN_TEXT):
        raise _too_large(max_bytes)
    return from_wire(canonical.load(text), kind, max_bytes=max_bytes)


def from_wire(value: object, kind: str, *, max_bytes: int = MAX_BODY) -> Envelope:
    """Read an envelope of one type from parsed JSON; nothing is verified yet.

    Raises:
        MalformedError: `env.*`; its `digest` is set as soon as the body could be read.
    """
    if not isinstance(value, dict) or value.keys() != _ENVELOPE_FIELDS:
        raise MalformedError(
            "env.fields", "an envelope has payloadType, payload and signatures"
        )
    if value["payloadType"] != kind:
        raise MalformedError("env.type", f"the payload type must be {kind}")
    payload, entries = value["payload"], value["signatures"]
    if not isinstance(payload, str) or not isinstance(entries, list):
        raise MalformedError(
            "env.shape", "payload must be a string and signatures a list"
        )
    if not 1 <= len(entries) <= MAX_SIGNATURES:
        raise MalformedError(
            "env.shape", f"an envelope has 1 to {MAX_SIGNATURES} signatures"
        )
    body = _read_body(payload, max_bytes)
    try:
        signatures = tuple(map(_read_signature, entries))
    except MalformedError as refusal:
        refusal.digest = Envelope(kind, body, ()).digest
        raise
    return Envelope(kind, body, signatures)


def to_wire(envelope: Envelope) -> dict[str, Any]:
    """Write an envelope as a JSON object."""
    return {
        "payloadType": envelope.kind,
        "payload": _to_base64(envelope.body),
        "signatures": [
            {"keyid": one.keyid, "sig": _to_base64(one.sig)}
            for one in envelope.signatures
        ],
    }


def to_json(envelope: Envelope) -> str:
    """Write an envelope as compact JSON text in ASCII."""
    return json.dumps(to_wire(envelope), separators=(",", ":"))


def sign(kind: str, body: bytes, keys: Sequence[KeyPair]) -> Envelope:
    """Sign a body as a statement of this type with each of the keys."""
    message = Envelope(kind, body, ()).signed_bytes
    return Envelope(
        kind, body, tuple(Signature(key.keyid, key.sign(message)) for key in keys)
    )


def signers(envelope: Envelope, keys: Mapping[str, bytes]) -> frozenset[str]:
    """Return the ids of those among the keys that really signed the envelope.

    The key id in a signature is a hint: its key is tried first, then the others.
    A key counts once, however many signatures it made.
    """
    message = envelope.signed_bytes
    found: set[str] = set()
    unclaimed: list[Signature] = []
    budget = MAX_VERIFICATIONS
    for one in envelope.signatures:
        hinted = keys.get(one.keyid)
        if hinted is None:
            unclaimed.append(one)
            continue
        budget -= 1
        if is_signed_by(hinted, message, one.sig):
            found.add(one.keyid)
        else:
            unclaimed.append(one)
    for one in unclaimed:
        for keyid, public in keys.items():
            if keyid in found or keyid == one.keyid:
                continue
            if budget == 0:
                return frozenset(found)
            budget -= 1
            if is_signed_by(public, message, one.sig):
                found.add(keyid)
                break
    return frozenset(found)


def _read_body(payload: str, max_bytes: int) -> bytes:
    # The length of the text decides first, so that nothing large is decoded in vain.
    if len(payload) > (max_bytes + 2) // 3 * 4:
        raise _too_large(max_bytes)
    body = _from_base64(payload, "the payload")
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return body


def _read_signature(entry: object) -> Signature:
    if not isinstance(entry, dict) or entry.keys() != _SIGNATURE_FIELDS:
        raise MalformedError("env.sig", "a signature has keyid and sig")
    keyid, sig = entry["keyid"], entry["sig"]
    if not isinstance(keyid, str) or not isinstance(sig, str):
        raise MalformedError("env.sig", "keyid and sig of a signature are strings")
    if len(keyid) > MAX_KEYID or len(sig) > MAX_SIGNATURE:
        raise MalformedError("env.sig", "keyid or sig of a signature is far too long")
    return Signature(keyid, _from_base64(sig, "a signature"))


def _from_base64(text: str, name: str) -> bytes:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        data = b""
    # Several texts give the same bytes; only the one that the bytes give is accepted.
    if _to_base64(data) != text:
        raise MalformedError("env.base64", f"{name} is not standard base64")
    return data


def _to_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _too_large(max_bytes: int) -> MalformedError:
    return MalformedError("env.size", f"a body has at most {max_bytes} bytes")
