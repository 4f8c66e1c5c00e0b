"""The object store that an address names: S3 and what speaks it, a folder, memory."""

from __future__ import annotations

import os
import re
import threading
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from jrnl.archive.failures import KeyTaken, ObjectMissing, Patience
from jrnl.archive.folder import FolderObjects
from jrnl.archive.obstored import DEFAULT_MOST, Listed, Objects, ObstoreObjects
from jrnl.errors import InvalidArgument, InvalidType
from jrnl.extras import need

_CONNECT_S = 5.0
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_KINDS = "s3://bucket/prefix, file:///folder, a path, or memory://name"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PREFIX = re.compile(r"[A-Za-z0-9._=+@,-]+(?:/[A-Za-z0-9._=+@,-]+)*")
_in_memory: dict[str, Any] = {}  # one store for each name, for as long as the process lives
_in_memory_lock = threading.Lock()


def from_url(
    url: str | os.PathLike[str], *, patience: Patience | None = None, **options: Any
) -> Objects:
    """Return the objects at an address.

    Parameters
    ----------
    url : str or path
        ``s3://bucket/prefix``; ``file:///folder`` or a path, a folder that the first object makes;
        ``memory://name``, one for each name in this process.
    patience : Patience, optional
        How long a call goes on trying.
    **options
        For ``s3://``: endpoint, region, access_key_id, secret_access_key, session_token, and what
        else ``obstore.store.S3Config`` names. What is not given is taken from the usual variables
        of the environment: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, and so on. Plain HTTP
        is used only where the endpoint says ``http://``. Neither is ever shown.

    Raises
    ------
    InvalidArgument, InvalidType
        The address or an option names nothing of that kind.
    MissingPackage
        obstore is not installed.
    """
    address = os.fspath(url)
    if not isinstance(address, str):
        raise InvalidType(f"an archive's address is a str or a path, not {type(url).__name__}")
    scheme, mark, rest = address.partition("://")
    if not mark:
        _refuse_options(options, "a folder")
        return FolderObjects(os.path.abspath(_filled(address)), patience)
    if scheme == "file":
        _refuse_options(options, "a folder")
        return FolderObjects(_path_of(address), patience)
    if scheme == "memory":
        _refuse_options(options, "memory")
        return ObstoreObjects(_memory(rest), f"memory://{rest}", patience)
    if scheme == "s3":
        return _s3(address, patience or Patience(), options)
    raise InvalidArgument(f"{scheme[:20]!r} is no kind of archive: use {_KINDS}")


def _s3(address: str, patience: Patience, options: dict[str, Any]) -> ObstoreObjects:
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/")
    if "@" in bucket or "?" in address or "#" in address:
        raise InvalidArgument(
            "an archive's address has no credentials and no options in it: s3://bucket/prefix; "
            "put them into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...)"
        )
    if not _BUCKET.fullmatch(bucket) or (prefix and not _plain(prefix)):
        raise InvalidArgument(
            "an archive's address is s3://bucket/prefix, of letters, digits and ._-=+@, between "
            "slashes"
        )
    endpoint = _endpoint(options)
    store = need("obstore.store", "archive")
    exceptions = need("obstore", "archive").exceptions
    seconds = timedelta(seconds=patience.request_s)
    try:
        made = store.S3Store(
            bucket,
            prefix=prefix or None,
            client_options={
                "allow_http": bool(endpoint) and endpoint.lower().startswith("http://"),
                "timeout": seconds,
                "connect_timeout": min(seconds, timedelta(seconds=_CONNECT_S)),
            },
            retry_config={"max_retries": 0},  # `Patience` decides
            **({"endpoint": endpoint} if endpoint else {}),
            **options,
        )
    except (exceptions.BaseError, TypeError, ValueError) as error:
        names = ", ".join(sorted(options)) or "none"
        raise InvalidArgument(
            f"obstore makes no store of s3://{bucket} with these options ({names}): "
            f"{type(error).__name__}; obstore.store.S3Config has those that there are"
        ) from None
    shown = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
    return ObstoreObjects(made, shown, patience)


def _endpoint(options: dict[str, Any]) -> str:
    """Take the endpoint out of the options, or the environment; raise if it holds credentials."""
    given = [options.pop(name, None) for name in ("aws_endpoint_url_s3", "endpoint")]
    found = [value for value in (*given, *map(os.environ.get, _ENDPOINTS)) if value]
    if not found:
        return ""
    endpoint = str(found[0])
    parts = urlsplit(endpoint)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise InvalidArgument("the endpoint of an object store begins with https:// or http://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidArgument(
            "the endpoint of an object store has no credentials in it: put them into "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return endpoint


def _plain(prefix: str) -> bool:
    parts = prefix.split("/")
    return bool(_PREFIX.fullmatch(prefix)) and not {".", ".."} & set(parts)


def _path_of(address: str) -> str:
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise InvalidArgument("a folder's address is file:///folder, without a host or options")
    return os.path.abspath(_filled(unquote(parts.path)))


def _filled(path: str) -> str:
    if not path or "\0" in path:
        raise InvalidArgument(f"{path!r} is no path of a folder")
    return path


def _memory(name: str) -> Any:
    if not name:
        raise InvalidArgument("an archive in memory has a name: memory://name")
    with _in_memory_lock:
        if name not in _in_memory:
            _in_memory[name] = need("obstore.store", "archive").MemoryStore()
        return _in_memory[name]


def _refuse_options(options: dict[str, Any], where: str) -> None:
    if options:
        raise InvalidArgument(f"{', '.join(sorted(options))}: {where} has no options")


__all__ = [
    "DEFAULT_MOST",
    "KeyTaken",
    "Listed",
    "ObjectMissing",
    "Objects",
    "ObstoreObjects",
    "Patience",
    "from_url",
]
