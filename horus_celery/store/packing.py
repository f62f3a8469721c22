"""How a text is kept in Redis: in fewer bytes, and the very same text again."""

from __future__ import annotations

import binascii
import re
import zlib
from typing import Final

import orjson

#: What a packed text begins with; any other is the text itself.
_PACKED: Final = b"\x01"
#: Base64 inside a text, such as the body of an envelope and its signatures.
_BASE64: Final = re.compile(rb'(?<=")[0-9A-Za-z+/]{32,}={0,2}(?=")')
#: Where it stood; a text that holds this is kept in one piece.
_GAP: Final = b"\0"
#: Characters of a text; more is none of ours. Nobody shall fill our memory with it.
_MAX_TEXT: Final = 16 * 1024 * 1024
#: A window that our texts fit into, and little memory to work with: it is done often.
_WINDOW: Final = 13
_MEMORY: Final = 6

#: What the texts have in common. Part of the form: it never changes; another one would
#: come with another first byte.
_COMMON: Final = (
    b'","reason":"exit_code","reason":"timeout","status":"failed","status":"rejected"'
    b',"status":"stopped","truncated":true,"workflow":{"executor":"osis"system","python"'
    b'{"args":[],"attempts":1,"aud":"hero","caller_id":"default","context_id":"default"'
    b',"created_at":17,"env_vars":{},"executor":"python","expires_at":17,"id":"'
    b'","inputs":{},"limits":{"cpu_s":60,"memory_mb":512,"output_kb":1024,"procs":64}'
    b',"needs":[],"net":"none","nonce":"","not_before":null,"payload":"print(import '
    b'","runner":null,"secrets":[],"timeout":60,"v":1,"workflow":null}'
    b'{"attempt":1,"aud":"hero","ended_at":17,"exit_code":0,"inputs":[],"job":"'
    b'","job_id":"","prev":"","reason":null,"result":{"bytes":0,"sha256":"'
    b'"},"runner":"python_runner_1","sandbox":"plain","seq":1,"software":"horus 0.1.0'
    b', python 3.1","started_at":17,"status":"completed","stderr":{"bytes":0,"sha256":"'
    b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    b'","truncated":false},"stdout":{"bytes":0,"sha256":"","truncated":false},"v":1}'
    b'{"payloadType":"application/vnd.horus.receipt.v1+json'
    b'{"payloadType":"application/vnd.horus.job.v1+json","payload":"'
    b'","signatures":[{"keyid":"","sig":""}]}'
)


def pack(text: str) -> bytes:
    """Return a text as it is kept; `unpack` gives it back."""
    plain = text.encode()
    skeleton, blobs = _taken_apart(plain)
    sizes = orjson.dumps([len(blob) for blob in blobs])
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -_WINDOW, _MEMORY, zdict=_COMMON)
    packed = squeeze.compress(b"".join((sizes, *blobs, skeleton))) + squeeze.flush()
    if len(_PACKED + packed) < len(plain) or plain.startswith(_PACKED):
        return _PACKED + packed
    return plain


def unpack(kept: bytes) -> str:
    """Return the text that was packed.

    Raises:
        ValueError: if it is none.
    """
    if not kept.startswith(_PACKED):
        return kept.decode()
    swell = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_COMMON)
    try:
        parts = swell.decompress(kept[len(_PACKED) :], _MAX_TEXT)
    except zlib.error:
        raise ValueError("what is kept of a text is damaged") from None
    if not swell.eof:
        raise ValueError("what is kept of a text is cut off, or far too long")
    return _put_together(parts).decode()


def _taken_apart(plain: bytes) -> tuple[bytes, list[bytes]]:
    """Return the text with a gap for each piece of base64, and what stood there."""
    blobs: list[bytes] = []

    def take(found: re.Match[bytes]) -> bytes:
        try:
            blob = binascii.a2b_base64(found[0], strict_mode=True)
        except ValueError:
            return found[0]
        # Several texts give the same bytes: only the usual one comes back from them.
        if _to_base64(blob) != found[0]:
            return found[0]
        blobs.append(blob)
        return _GAP

    return (plain, blobs) if _GAP in plain else (_BASE64.sub(take, plain), blobs)


def _put_together(parts: bytes) -> bytes:
    end = parts.index(b"]") + 1
    sizes = orjson.loads(parts[:end])
    # Others write there: by going back, one piece could be taken again and again.
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError("what is kept of a text has pieces of impossible sizes")
    texts: list[bytes] = []
    for size in sizes:
        texts.append(_to_base64(parts[end : end + size]))
        end += size
    skeleton = parts[end:]
    if not texts:
        return skeleton
    first, *rest = skeleton.split(_GAP)
    return first + b"".join(map(b"".join, zip(texts, rest, strict=True)))


def _to_base64(blob: bytes) -> bytes:
    return binascii.b2a_base64(blob, newline=False)
