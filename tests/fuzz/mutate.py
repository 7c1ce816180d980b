"""Damage to a sound sample: of its bytes, or of the values of its JSON."""

import json
import random

_TOKENS = (
    b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"../", b"-1", b"0", b"1e999", b"NaN", b"null", b"true",
    b"9" * 40, b"{" * 200, b"[" * 5000, b'{"a":' * 5000,
    b"&a *a", b"!!python/object:os.system", b"\r\n", b"\t",
    b"- ", b"#", b'"', b"\\u0000", b"\\ud800", b"A" * 5000, b"<<:", b"%", b": ",
)  # fmt: skip
_VALUES = (
    None, True, False, 0, -1, 2**63, 2**200, 1e308, -0.5, "", "\x00", "\ud800", "a" * 4096, "../x",
    "/etc/passwd", "sha256:" + "0" * 64, [], {}, [[]], {"": None}, "NaN", "٣", "CON", "x\ny",
)  # fmt: skip


def damaged(sample: bytes, other: bytes, rng: random.Random) -> bytes:
    """`sample` with one to four small harms; `other` is a second sample to splice with."""
    if sample[:1] in b"{[" and rng.random() < 0.5:
        harmed = _damaged_json(sample, rng)
        if harmed is not None:
            return harmed
    for _ in range(rng.randint(1, 4)):
        sample = rng.choice(_HARMS)(sample, other, rng)
    return sample


def _damaged_json(sample: bytes, rng: random.Random) -> bytes | None:
    try:
        value = json.loads(sample)
    except ValueError:
        return None
    for _ in range(rng.randint(1, 3)):
        value = _changed(value, rng)
    return json.dumps(value).encode()


def _changed(value: object, rng: random.Random) -> object:
    """`value` with one node, anywhere in it, replaced, dropped, doubled or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        return _changed_object(value, rng.choice(list(value)), rng)
    if isinstance(value, list) and value and rng.random() < 0.9:
        return _changed_list(value, rng.randrange(len(value)), rng)
    return rng.choice(_VALUES)


def _changed_object(value: dict[str, object], key: str, rng: random.Random) -> dict[str, object]:
    match rng.randrange(8):
        case 0:
            return {name: kept for name, kept in value.items() if name != key}
        case 1:
            return value | {str(rng.choice(_VALUES))[:64]: rng.choice(_VALUES)}
        case _:
            return value | {key: _changed(value[key], rng)}


def _changed_list(value: list[object], at: int, rng: random.Random) -> list[object]:
    match rng.randrange(6):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return [*value, value[at]]
        case _:
            return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]


def _flip(sample: bytes, _other: bytes, rng: random.Random) -> bytes:
    if not sample:
        return b"\x00"
    at = rng.randrange(len(sample))
    return sample[:at] + bytes([sample[at] ^ (1 << rng.randrange(8))]) + sample[at + 1 :]


def _insert(sample: bytes, _other: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(sample) + 1)
    return sample[:at] + rng.choice(_TOKENS) + sample[at:]


def _overwrite(sample: bytes, _other: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(sample) + 1)
    token = rng.choice(_TOKENS)
    return sample[:at] + token + sample[at + len(token) :]


def _cut(sample: bytes, _other: bytes, rng: random.Random) -> bytes:
    low, high = sorted(rng.randrange(len(sample) + 1) for _ in range(2))
    return sample[:low] + sample[high:] if rng.random() < 0.7 else sample[:low]


def _double(sample: bytes, _other: bytes, rng: random.Random) -> bytes:
    low, high = sorted(rng.randrange(len(sample) + 1) for _ in range(2))
    return sample[:high] + sample[low:high][:4096] + sample[high:]


def _splice(sample: bytes, other: bytes, rng: random.Random) -> bytes:
    return sample[: rng.randrange(len(sample) + 1)] + other[rng.randrange(len(other) + 1) :]


def _number(sample: bytes, _other: bytes, rng: random.Random) -> bytes:
    """A little-endian length or offset somewhere gets an extreme value."""
    if len(sample) < 8:
        return sample + b"\xff" * 8
    at = rng.randrange(len(sample) - 7)
    value = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(sample)))
    return sample[:at] + value.to_bytes(8, "little") + sample[at + 8 :]


_HARMS = (_flip, _flip, _insert, _overwrite, _cut, _double, _splice, _number)
