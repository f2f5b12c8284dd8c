"""Where a fleet meets, and how its connections are secured: TLS wherever another machine can reach them.

Whoever is let in can run code on every machine of the fleet (Dask sends pickles), so that both ends must show a
certificate of the fleet's own authority.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import BadInputError, importing

if TYPE_CHECKING:
    from distributed import Security

TCP, TLS = "tcp", "tls"
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")

LOCAL = "local"
"""What sweeps call the machine that they run on, where that stands among boards."""
ANY = ("0.0.0.0", "::")
"""Hosts that mean every interface of the machine."""


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority that signed all certificates of the fleet, this machine's certificate and its key."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Link:
    """One end of a fleet's connections; `certificates` None is unencrypted, on this machine alone."""

    host: str
    port: int
    certificates: Certificates | None = None

    @property
    def address(self) -> str:
        """As Dask writes it: "tls://desktop:8786"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TLS if self.certificates else TCP}://{host}:{self.port}"

    def security(self) -> Security:
        """What Dask needs to know of it; BadInputError when the files are no certificates or do not fit each other."""
        from distributed import Security

        if self.certificates is None:
            return Security(require_encryption=False)
        files = self.certificates
        pair = {f"tls_{role}_cert": str(files.certificate) for role in ("client", "scheduler", "worker")}
        pair |= {f"tls_{role}_key": str(files.key) for role in ("client", "scheduler", "worker")}
        security = Security(require_encryption=True, tls_ca_file=str(files.authority), **pair)
        try:
            security.get_connection_args("worker")
        except (ssl.SSLError, OSError) as error:
            raise BadInputError(
                f"The certificate {files.certificate}, its key {files.key} and the authority {files.authority} cannot "
                f"be used together ({error}); make them again as docs/sweep.md says."
            ) from error
        return security


def link_to(address: str, authority: Path | None, certificate: Path | None, key: Path | None) -> Link:
    """The link that a user asked for, with the files of --tls-ca, --tls-cert and --tls-key.

    Raises BadInputError for an address that cannot be read, for tcp:// to or from another machine, and for missing
    files.
    """
    scheme, host, port = _parts(address)
    given = {"--tls-ca": authority, "--tls-cert": certificate, "--tls-key": key}
    if scheme == TCP:
        if not is_loopback(host):
            raise BadInputError(
                f"{address} can be reached from other machines, and tcp would let anybody in; write "
                f"tls://{host}:{port} with --tls-ca, --tls-cert and --tls-key."
            )
        if any(given.values()):
            raise BadInputError(f"{address} is not encrypted and takes no certificates; write tls://{host}:{port}.")
        return Link(host, port)
    for option, path in given.items():
        if path is None:
            raise BadInputError(f"{address} needs {', '.join(given)}; {option} is missing (docs/sweep.md, Fleets).")
        if not path.is_file():
            raise BadInputError(f"There is no file {path} for {option}; check the path (docs/sweep.md, Fleets).")
    assert authority is not None and certificate is not None and key is not None
    return Link(host, port, Certificates(authority.absolute(), certificate.absolute(), key.absolute()))


def check_name(board: str) -> None:
    """Raise BadInputError for a board's name that is no plain word."""
    if not NAME.fullmatch(board):
        raise BadInputError(f"A board cannot be called '{board}'; use small letters, digits and '-', such as pi5.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost counts as another machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_installed() -> None:
    """NotAvailableError without Dask distributed."""
    with importing("A fleet", "rtmw-edge[fleet]"):
        import distributed  # noqa: F401


def cause_of(error: BaseException) -> BaseException:
    """What an error began with."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error


def said_by(error: BaseException) -> str:
    """The first line of what an error began with: what the system or OpenSSL says, without Dask's words around it."""
    cause = cause_of(error)
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def _parts(address: str) -> tuple[str, str, int]:
    try:
        split = urlsplit(address)
        scheme, host, port = split.scheme, split.hostname, split.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in (TCP, TLS) or not host or not port or address.rstrip("/").count("/") != 2:
        raise BadInputError(
            f"Cannot read the address '{address}'; write tls://HOST:8786, or tcp://127.0.0.1:8786 for one "
            "machine alone."
        )
    return scheme, host, port
