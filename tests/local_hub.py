"""A hub of this machine: it keeps what the hub's own client sends in a folder, and gives it back.

Only what `huggingface_hub` asks to create, fill and fetch a dataset of small files, and for leave
to read a model.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from huggingface_hub import close_session, constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    root: Path

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization')}/{asked['name']}"
            self.answer(
                {"url": f"{self.here}/datasets/{name}", "visibility": asked.get("visibility")}
            )
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in path:
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    file = self.root / line["value"]["path"]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(base64.b64decode(line["value"]["content"]))
            url = f"{self.here}/datasets/org/name/commit/{COMMIT}"
            self.answer({"commitUrl": url, "commitOid": COMMIT, "success": True})
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        if "/resolve/" in path:
            self.file(self.root / path.split("/resolve/", 1)[1].partition("/")[2])
        elif "/tree/" in path:
            self.answer([{"type": "file", "path": name, "size": (self.root / name).stat().st_size,
                          "oid": "0" * 40} for name in self.names])  # fmt: skip
        elif path.startswith("/api/models/") and path.endswith("/auth-check"):
            self.gate(path.split("/")[4])
        elif path.startswith("/api/datasets/org/name"):
            siblings = [{"rfilename": name} for name in self.names]
            self.answer({"id": "org/name", "sha": COMMIT, "siblings": siblings})
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 (the server's own spelling)

    @property
    def names(self) -> list[str]:
        files = (file for file in self.root.rglob("*") if file.is_file())
        return sorted(str(file.relative_to(self.root)) for file in files)

    @property
    def here(self) -> str:
        return f"http://{self.headers['Host']}"

    def gate(self, model: str) -> None:
        """Let everybody read the model `open`, nobody `gated`; there is no other."""
        self.send_response({"open": 200, "gated": 403}.get(model, 404))
        self.send_header("X-Error-Code", {"gated": "GatedRepo"}.get(model, "RepoNotFound"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def file(self, path: Path) -> None:
        data = path.read_bytes()
        etag = hashlib.sha256(data).hexdigest()
        self.answer(data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def answer(self, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(200)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def local_hub(root: Path, cache: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the hub's client meet a hub of this machine, that keeps one dataset in `root`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Hub,), {"root": root}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "ENDPOINT": here,
        "HUGGINGFACE_CO_URL_TEMPLATE": here + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_XET": True,
    }.items():
        patch.setattr(constants, name, value)
    patch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        close_session()
