"""Hash slots of Redis Cluster: a key's slot is CRC16 (XMODEM) of its hash tag, modulo 16384."""

from binascii import crc_hqx

SLOTS = 16_384


def hash_tag(key: str) -> str:
    """The part of a key that decides its slot: what stands in the first `{}` if that is not empty, else all of it."""
    start = key.find("{")
    if start < 0:
        return key
    end = key.find("}", start + 1)
    return key if end <= start + 1 else key[start + 1 : end]


def slot_from_key(key: str) -> int:
    """The slot of a key."""
    return crc_hqx(hash_tag(key).encode(), 0) % SLOTS
