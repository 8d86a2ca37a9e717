"""Files that only their owner may read."""

from pathlib import Path


def write_secret(path: Path, text: str) -> None:
    """Writes a file that nobody else could read at any moment."""
    path.touch(mode=0o600)
    path.write_text(text)
