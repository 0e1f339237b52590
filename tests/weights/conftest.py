"""Checkpoints over several files, and a Hub on the loopback interface with faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

Shard = Callable[[dict[str, Tensor], Path], Path]


@pytest.fixture
def shard() -> Shard:
    """Writes tensors over two files with an index."""

    def write(tensors: dict[str, Tensor], folder: Path) -> Path:
        stem = "diffusion_pytorch_model"
        names = sorted(tensors)
        weight_map: dict[str, str] = {}
        for n, held in enumerate((names[::2], names[1::2]), start=1):
            file = f"{stem}-0000{n}-of-00002.safetensors"
            save_file({name: tensors[name] for name in held}, folder / file)
            weight_map |= dict.fromkeys(held, file)
        index = folder / f"{stem}.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return index

    return write


COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(r"/api/models/([^/]+/[^/]+)/revision/(.+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class FakeHub:
    """What the server holds and how it fails. `requests` are "METHOD path Range"."""

    repositories: dict[str, dict[str, bytes]]
    commit: str = COMMIT
    gated: bool = False
    gated_files: bool = False
    down: bool = False
    cut: dict[str, int] = field(default_factory=dict)  # file → byte at which every connection is cut
    served: dict[str, bytes] = field(default_factory=dict)  # file → what comes instead of its content
    checksums: dict[str, str] = field(default_factory=dict)  # file → what is said to be its checksum
    ignores_ranges: bool = False
    requests: list[str] = field(default_factory=list)
    address: str = ""

    def asked_for(self, file: str) -> list[str]:
        """The GET requests of a file's content, with their Range."""
        return [r for r in self.requests if r.startswith("GET") and "/api/" not in r and f"/{file} " in r]


def checksum(path: str, content: bytes) -> str:
    """sha256 of what is kept by Git LFS, git's own hash of the rest."""
    if path.endswith((".safetensors", ".bin", ".pth", ".model")):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.fake.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}")
        if self.fake.down:
            self._refuse(503, "", "Service unavailable")
        elif api := _API.fullmatch(path):
            self._describe(*api.groups())
        elif file := _FILE.fullmatch(path):
            self._file(*file.groups())
        elif path.startswith("/cdn/"):
            _, _, owner, name, file_path = path.split("/", 4)
            self._content(f"{owner}/{name}", file_path)
        else:
            self._refuse(404, "", "no such page")

    def _known(self, repo: str, revision: str) -> bool:
        """Whether there is such a repository and revision; otherwise answers as the Hub does."""
        if repo not in self.fake.repositories:
            self._refuse(401, "", "Invalid username or password.")
        elif revision not in ("main", "v1", self.fake.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return True
        return False

    def _describe(self, repo: str, revision: str) -> None:
        if not self._known(repo, revision):
            return
        if self.fake.gated:
            self._refuse(403, "GatedRepo", f"Access to model {repo} is restricted")
            return
        siblings = []
        for path, content in self.fake.repositories[repo].items():
            told = self.fake.checksums.get(path, checksum("", content))
            sibling = {"rfilename": path, "size": len(content), "blobId": told}
            if len(checksum(path, content)) == 64:
                sibling["lfs"] = {
                    "sha256": checksum(path, content), "size": len(content), "pointerSize": 130
                }  # fmt: skip
            siblings.append(sibling)
        facts = {"id": repo, "sha": self.fake.commit, "cardData": {"license": "mit"}, "siblings": siblings}
        self._send(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, revision: str, path: str) -> None:
        if not self._known(repo, revision):
            return
        if self.fake.gated_files:
            self._refuse(403, "GatedRepo", f"Access to model {repo} is restricted")
            return
        content = self.fake.repositories[repo].get(path)
        if content is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        known = {"X-Repo-Commit": self.fake.commit}
        tag = f'"{checksum(path, content)}"'
        if len(tag) < 60:
            self._content(repo, path, {**known, "ETag": tag})
            return
        known |= {"X-Linked-Etag": tag, "X-Linked-Size": str(len(content))}
        elsewhere = self.fake.address.replace("127.0.0.1", "localhost")  # as the Hub does: another host
        self._send(302, b"", {**known, "Location": f"{elsewhere}/cdn/{repo}/{path}"})

    def _content(self, repo: str, path: str, headers: dict[str, str] | None = None) -> None:
        content = self.fake.served.get(path, self.fake.repositories[repo][path])
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and not self.fake.ignores_ranges else 0
        if start and start >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        extra = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        cut = max(0, self.fake.cut[path] - start) if path in self.fake.cut else None
        self._send(206 if start else 200, content[start:], {**(headers or {}), **extra}, cut)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with one model in each form, and one in pickles."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    weights = save({"weight": torch.arange(400_000.0)})
    hub = FakeHub(
        repositories={
            "owner/native": {"config.json": b"{}", "model.safetensors": weights, "README.md": b"# hello"},
            "owner/diffusers": diffusers_files(weights),
            "owner/pickles": {"config.json": b"{}", "models_t5.pth": b"PK", "pytorch_model.bin": b"PK"},
        }
    )

    class Handler(_Handler):
        fake = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


def diffusers_files(weights: bytes) -> dict[str, bytes]:
    """A pipeline in diffusers form, with what such repositories hold besides."""
    parts = {
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    }
    first, second = (f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2))
    index = {"metadata": {}, "weight_map": {"a": first, "b": second}}
    return {
        "model_index.json": json.dumps({"_class_name": "WanPipeline", **parts}).encode(),
        "transformer/config.json": b'{"num_layers": 1}',
        "transformer/diffusion_pytorch_model.safetensors.index.json": json.dumps(index).encode(),
        f"transformer/{first}": save({"a": torch.ones(3)}),
        f"transformer/{second}": save({"b": torch.ones(4)}),
        "transformer/diffusion_pytorch_model.fp16.safetensors": b"another form",
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.safetensors": weights,
        "text_encoder/config.json": b"{}",
        "text_encoder/model.safetensors": save({"weight": torch.ones(5)}),
        "text_encoder/pytorch_model.bin": b"a pickle",
        "tokenizer/tokenizer.json": b"{}",
        "tokenizer/spiece.model": b"pieces",
        "scheduler/scheduler_config.json": b"{}",
        "assets/example.mp4": b"a film",
        "README.md": b"# hello",
    }
