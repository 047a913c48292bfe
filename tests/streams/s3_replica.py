"""A replica of S3 behind a real socket, as far as ``streams.objects.cloud`` uses it.

It checks that a request is signed, not by which key: AWS's library signs, and that is its own to
test. Source: Amazon S3 API reference, PutObject, GetObject, ListObjectsV2, DeleteObject(s),
CreateMultipartUpload.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class S3:
    """Buckets in memory.

    Attributes:
        objects: by path, bucket first.
        refuses: status of every answer; 0: it works.
        uploads: parts of uploads that are not complete, by id.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    refuses: int = 0
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: S3

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begun(self) -> tuple[str, dict[str, str], bytes] | None:
        """Path, query and body of a request that may go on."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: value[0] for name, value in parse_qs(parts.query, True).items()}
        if "AWS4-HMAC-SHA256" not in self.headers.get("Authorization", ""):
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return None
        if self.s3.refuses:
            self._answer(self.s3.refuses, b"<Error><Code>Refused</Code></Error>")
            return None
        return unquote(parts.path).strip("/"), query, body

    def do_PUT(self) -> None:
        if (begun := self._begun()) is None:
            return
        path, query, body = begun
        if "uploadId" in query:
            self.s3.uploads[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.s3.objects[path] = body
        self._answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')

    def do_POST(self) -> None:
        if (begun := self._begun()) is None:
            return
        path, query, body = begun
        if "uploads" in query:
            upload = f"u{len(self.s3.uploads)}"
            self.s3.uploads[upload] = {}
            answer = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>"
            self._answer(200, f"{answer}</InitiateMultipartUploadResult>".encode())
        elif "uploadId" in query:
            parts = self.s3.uploads.pop(query["uploadId"])
            self.s3.objects[path] = b"".join(parts[number] for number in sorted(parts))
            answer = "<CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag>"
            self._answer(200, f"{answer}</CompleteMultipartUploadResult>".encode())
        else:  # delete
            keys = re.findall(r"<Key>([^<]+)</Key>", body.decode())
            for key in keys:
                self.s3.objects.pop(f"{path}/{key}", None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def do_GET(self) -> None:
        if (begun := self._begun()) is None:
            return
        path, query, _ = begun
        if "list-type" in query:
            self._answer(200, self._listed(path, query.get("prefix", "")))
        elif path in self.s3.objects:
            data = self.s3.objects[path]
            self._answer(200, data, ETag='"e"', Last_Modified="Sat, 28 Nov 2026 12:00:00 GMT")
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_HEAD = do_GET

    def _listed(self, bucket: str, prefix: str) -> bytes:
        rows = "".join(
            f"<Contents><Key>{escape(path[len(bucket) + 1 :])}</Key><Size>{len(data)}</Size>"
            "<LastModified>2026-11-28T12:00:00.000Z</LastModified><ETag>e</ETag></Contents>"
            for path, data in sorted(self.s3.objects.items())
            if path.startswith(f"{bucket}/{prefix}")
        )
        return (
            f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()
        )

    def do_DELETE(self) -> None:
        if (begun := self._begun()) is None:
            return
        self.s3.objects.pop(begun[0], None)
        self._answer(204)


@contextmanager
def s3_replica() -> Iterator[S3]:
    """A replica that listens for the length of the block."""
    s3 = S3()
    handler = type("Handler", (_Handler,), {"s3": s3})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        s3.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield s3
        finally:
            server.shutdown()
            thread.join()
