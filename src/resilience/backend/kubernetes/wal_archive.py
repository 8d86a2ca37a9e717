"""``python -m resilience.backend.kubernetes.wal_archive FOLDER``: what stands for an object store in a cluster.

PostgreSQL's members archive their log to it (``stacks/postgresql/archive-store.sh``): pods of several nodes have no
folder in common. ::

    PUT /NAME    keeps a file whole or not at all; the same again is no error, another under that name is (409)
    GET /NAME    the file (404: there is none)
    GET /        the names of the files that tell of timelines' beginnings, a line each

Who may reach it is the network's business.
"""

import filecmp
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 8432
BYTES_MAX = 1 << 30  # the largest segment that a server can be built with
SILENT_S = 60.0
_NAMES = re.compile(r"[0-9A-F]{8}\.history|[0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?")
_PIECE_BYTES = 1 << 16


class Store:
    """The files in one folder."""

    def __init__(self, folder: Path) -> None:
        """The folder is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def histories(self) -> str:
        """What tells of timelines' beginnings, a line each."""
        return "".join(f"{path.name}\n" for path in sorted(self.folder.glob("*.history")))

    def file(self, name: str) -> Path | None:
        """The place of a file, None if the log has none of that name."""
        return self.folder / name if _NAMES.fullmatch(name) else None

    def keep(self, whole: Path, place: Path) -> bool:
        """Takes a file in; False if another one is there under its name."""
        try:
            place.hardlink_to(whole)  # at once, and never in the place of another
        except FileExistsError:
            return filecmp.cmp(whole, place, shallow=False)
        return True


class Handler(BaseHTTPRequestHandler):
    """One request; its server has the `Store`."""

    server: "Archive"
    timeout = SILENT_S

    def do_GET(self) -> None:
        """See the module."""
        name = self.path.removeprefix("/")
        if not name:
            self._head(HTTPStatus.OK, len(text := self.server.store.histories().encode()))
            self.wfile.write(text)
            return
        place = self.server.store.file(name)
        if place is None or not place.is_file():
            self._head(HTTPStatus.NOT_FOUND)
            return
        with place.open("rb") as file:
            self._head(HTTPStatus.OK, place.stat().st_size)
            shutil.copyfileobj(file, self.wfile)

    def do_PUT(self) -> None:
        """See the module."""
        place = self.server.store.file(self.path.removeprefix("/"))
        length = self.headers.get("Content-Length", "")
        if place is None or not re.fullmatch("[0-9]{1,12}", length) or int(length) > BYTES_MAX:
            self._head(HTTPStatus.BAD_REQUEST)
            return
        with tempfile.NamedTemporaryFile(dir=self.server.store.folder, prefix=".") as whole:
            left = int(length)
            while left and (piece := self.rfile.read(min(left, _PIECE_BYTES))):
                left -= whole.write(piece)
            whole.flush()
            kept = not left and self.server.store.keep(Path(whole.name), place)
        self._head(HTTPStatus.OK if kept else HTTPStatus.BAD_REQUEST if left else HTTPStatus.CONFLICT)

    def _head(self, status: HTTPStatus, length: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Says what was refused; segments that were kept are told by the folder."""
        if code != HTTPStatus.OK:
            super().log_request(code, size)


class Archive(ThreadingHTTPServer):
    """The store, listening."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = PORT) -> None:
        """Port 0: any that is free."""
        self.store = Store(folder)
        super().__init__(("0.0.0.0", port), Handler)  # noqa: S104  its pod's own network


def main(argv: Sequence[str]) -> None:
    """Serves until it is ended."""
    (folder,) = argv
    Archive(Path(folder)).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
