"""A small Internet for tests: a proxy that notes who is called, and TLS in front of a plain server."""

import ipaddress
import re
import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOOPBACK = "127.0.0.1"
#: Threads of these servers, whose own connections are not the client's.
THREAD = "recorded-network"
_DAY = timedelta(days=1)


class Authority:
    """A certificate authority of its own, in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"authority {directory.name}")])
        self.bundle = directory / "authority.pem"
        self.bundle.write_bytes(_pem(self._certificate(self._name, self._key, [], 0, is_authority=True)))

    def context(
        self, *hosts: str, days_off: int = 0, self_signed: bool = False, tls: ssl.TLSVersion | None = None
    ) -> ssl.SSLContext:
        """
        Return what a server needs to be these hosts.

        :param days_off: how far the certificate's three days of validity are from today
        :param tls: the only version that it speaks
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
        certificate = self._certificate(subject, key, hosts, days_off, self_signed=self_signed)
        stem = self._directory / f"{hosts[0]}-{certificate.serial_number}"
        pem, key_file = stem.with_suffix(".pem"), stem.with_suffix(".key")
        pem.write_bytes(_pem(certificate))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, key_file)
        if tls:
            # Such old versions are off in OpenSSL unless the level of security is 0.
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                context.minimum_version = context.maximum_version = tls
        return context

    def _certificate(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        hosts: tuple[str, ...] | list[str],
        days_off: int,
        *,
        self_signed: bool = False,
        is_authority: bool = False,
    ) -> x509.Certificate:
        middle = datetime.now(UTC) + days_off * _DAY
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(middle - _DAY)
            .not_valid_after(middle + _DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_name_of(host) for host in hosts]), False
            )
        return builder.sign(key if self_signed else self._key, hashes.SHA256())


def _name_of(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class _Server:
    """Hand each connection to :meth:`serve`, on a thread of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        _start(self._accept)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            _start(self._guarded, client)

    def _guarded(self, client: socket.socket) -> None:
        with client:
            try:
                self.serve(client)
            except OSError:
                # A client that does not like the certificate, or leaves.
                return


class TlsFront(_Server):
    """
    TLS in front of a plain HTTP server, which is told that it was https.

    :param context: its certificate; may be replaced at any time
    :param port: of the plain server, on loopback
    """

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self.context = context
        self._target = port
        #: The head of each request, in clear.
        self.requests: list[bytes] = []
        super().__init__()

    def serve(self, client: socket.socket) -> None:
        with (
            self.context.wrap_socket(client, server_side=True) as secure,
            socket.create_connection((LOOPBACK, self._target)) as server,
        ):
            with secure.makefile("rb") as stream:
                if not (head := _read_head(stream.readline)):
                    return
                self.requests.append(head)
                length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
                body = stream.read(int(length[1])) if length else b""
            # One request per connection, so that one thread can do.
            server.sendall(head[:-2] + b"X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n" + body)
            _pump(server, secure)


class RecordingProxy(_Server):
    """
    An HTTP proxy that notes each request for a connection, and lets through what it has a route for.

    :param routes: ``host:port`` to a port on loopback
    """

    def __init__(self, routes: dict[str, int]) -> None:
        self._routes = routes
        #: What was asked for: ``host:port`` of a CONNECT, or the first line of anything else.
        self.calls: list[str] = []
        self.heads: list[bytes] = []
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def serve(self, client: socket.socket) -> None:
        with client.makefile("rb", buffering=0) as stream:
            head = _read_head(stream.readline)
        method, _, rest = head.decode("latin-1").partition("\r\n")[0].partition(" ")
        target = rest.partition(" ")[0]
        self.calls.append(target if method == "CONNECT" else f"{method} {target}")
        self.heads.append(head)
        if method != "CONNECT" or target not in self._routes:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with socket.create_connection((LOOPBACK, self._routes[target])) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _start(_pump, server, client)
            _pump(client, server)


class Trickle(_Server):
    """
    Take a request and answer so slowly that no single read times out, until the client leaves.

    :param reply: its first bytes at once, and then one byte at a time for ever
    :param pause: seconds between two bytes
    :param takes: bytes of the request that are taken at a time, just as slowly; None: all of it at once
    """

    def __init__(self, reply: bytes, pause: float, takes: int | None = None) -> None:
        self._reply = reply
        self._pause = pause
        self._takes = takes
        self._closing = threading.Event()
        self.requests = 0
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def close(self) -> None:
        self._closing.set()
        super().close()

    def serve(self, client: socket.socket) -> None:
        self.requests += 1
        if self._takes:
            while client.recv(self._takes) and not self._closing.wait(self._pause):
                pass
            return
        with client.makefile("rb") as stream:
            _read_head(stream.readline)
        client.sendall(self._reply)
        while not self._closing.wait(self._pause):
            client.sendall(b"x")


def _read_head(readline: Callable[[], bytes]) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = readline()
        if not line:
            return b""
        head += line
    return head


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _start(run: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=run, args=arguments, name=THREAD, daemon=True).start()
