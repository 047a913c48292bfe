"""An object store: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.

Invariants:
1. Credentials come from the environment or the machine's role, by the names that these services'
   own tools read (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``); an address has none.
2. An object is there once all of its parts are: so S3 itself promises, also for parts in parallel.

Source: documentation of obstore 0.12, «from_url», «S3Store», «Errors».
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.errors import Unavailable
from streams.objects.objects import PIECE_BYTES, Check, Missing, checked

SCHEMES = ("s3", "gs", "az")
ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
    "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ALLOW_HTTP",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY",
)  # fmt: skip
"""Variables that a role with an object store is given."""


def is_cloud(address: str) -> bool:
    """Whether an address is of an object store."""
    return address.partition("://")[0] in SCHEMES and "://" in address


class Bucket:
    """A bucket, or a prefix of one.

    Args:
        address: such as ``s3://bucket/prefix``.

    Raises:
        ImportError: obstore is not installed.
        ValueError: the address can't be used.
    """

    def __init__(self, address: str) -> None:
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        if not is_cloud(address):
            raise ValueError(f"a path, or an address that begins with {', '.join(SCHEMES)}")
        self.name = address
        self._obstore: Any = obstore
        self._error = BaseError
        try:
            self._store: Any = from_url(address)
        except BaseError as error:
            raise ValueError(_first_line(error)) from error

    def put(self, key: str, source: Path) -> None:
        """See ``Objects``."""
        with self._judged(key):
            self._obstore.put(self._store, checked(key), source)

    def write(self, key: str, data: bytes) -> None:
        """See ``Objects``."""
        with self._judged(key):
            self._obstore.put(self._store, checked(key), data)

    def read(self, key: str) -> bytes:
        """See ``Objects``."""
        with self._judged(key):
            return bytes(self._obstore.get(self._store, checked(key)).bytes())

    def fetch(self, key: str, target: Path, check: Check) -> None:
        """See ``Objects``."""
        with self._judged(key), target.open("wb") as file:
            for piece in self._obstore.get(self._store, checked(key)).stream(PIECE_BYTES):
                file.write(piece)
                check()

    def keys(self, under: str) -> list[str]:
        """See ``Objects``."""
        with self._judged(under):
            pages = self._obstore.list(self._store, checked(under))
            return sorted(str(one["path"]) for page in pages for one in page)

    def delete(self, key: str) -> None:
        """See ``Objects``."""
        with self._judged(key):
            try:
                self._obstore.delete(self._store, checked(key))
            except FileNotFoundError:
                return

    @contextmanager
    def _judged(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Missing(f"{self.name}: {key} is not there") from error
        except (self._error, OSError) as error:
            raise Unavailable(f"{self.name}: {key}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """An error without its debug output, which may show requests with their signatures."""
    return (str(error).splitlines() or [type(error).__name__])[0]
