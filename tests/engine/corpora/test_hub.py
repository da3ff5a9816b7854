"""A data set of the hub is streamed, from a hub that runs here and holds one Parquet file."""

from __future__ import annotations

import http.server
import io
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789" * 4
PATH = "data/train.parquet"


def parquet_bytes() -> bytes:
    """Return a file of two rows."""
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    table = pyarrow.table({"text": ["gulls nest", "hay burns"], "topic": ["a", "b"]})
    parquet.write_table(table, buffer)
    return buffer.getvalue()


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers the few requests that there are."""

    content = b""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _reply(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _file(self) -> None:
        size = len(self.content)
        marks = {"ETag": '"x"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if not wanted:
            return self._reply(200, self.content, **marks)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or size - 1), size - 1)
        marks["Content_Range"] = f"bytes {start}-{stop}/{size}"
        return self._reply(206, self.content[start : stop + 1], **marks)

    def _answer(self) -> None:
        path = urllib.parse.urlsplit(urllib.parse.unquote(self.path)).path
        file = {"type": "file", "oid": "ab" * 20, "size": len(self.content), "path": PATH}
        folder = {"type": "directory", "oid": "cd" * 20, "size": 0, "path": "data"}
        said: Any = None
        if path.startswith("/datasets/org/tiny/resolve/"):
            if path.endswith(PATH):
                return self._file()
            return self._reply(404, X_Error_Code="EntryNotFound")
        if path.startswith("/api/datasets/org/tiny/tree/"):
            said = [file] if path.endswith("/data") else [folder]
        elif path.startswith("/api/datasets/org/tiny"):
            if path.endswith("/nope"):
                return self._reply(404, X_Error_Code="RevisionNotFound")
            said = {"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": PATH}]}
        if said is None:
            return self._reply(404, X_Error_Code="RepoNotFound")
        return self._reply(200, json.dumps(said).encode(), Content_Type="application/json")

    do_GET = do_HEAD = _answer


@contextmanager
def fake_hub() -> Iterator[str]:
    """Serve while the block runs; the address is yielded."""
    handler = type("FilledHub", (Hub,), {"content": parquet_bytes()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_data_set_is_streamed_from_a_hub(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the data extra is not installed")
    # The address of the hub is read once, at import: hence another process. No file is kept.
    code = """
import json, sys
from layerlake.engine.corpora.hub import HubData
from layerlake.store.errors import InvalidInput
for name in sys.argv[1:]:
    try:
        corpus = HubData(name).read()
        print(json.dumps([corpus.texts, corpus.columns["topic"].tolist(), corpus.source]))
    except InvalidInput as error:
        print(json.dumps(str(error)))
"""
    names = [f"hf://org/{end}" for end in ("tiny", "tiny:train@main", "tiny@nope", "none")]
    with fake_hub() as address:
        variables = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "h")}
        proxies = {name: "" for name in os.environ if name.lower().endswith("_proxy")}
        done = subprocess.run(
            [sys.executable, "-c", code, *names],
            env={**os.environ, **proxies, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    newest, named, *refused = map(json.loads, done.stdout.splitlines())
    for texts, topics, source in (newest, named):
        assert texts == ["gulls nest", "hay burns"]
        assert topics == ["a", "b"]
        assert (source["revision"], source["split"]) == (COMMIT, "train")
    assert "(Revision 'nope' doesn't exist" in refused[0]
    assert "(Dataset 'org/none' doesn't exist" in refused[1]
    assert not list(tmp_path.rglob("*.parquet"))
