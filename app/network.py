"""What the environment says about who may reach the app; wrong values end the start with one sentence."""

import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from app.patches import plain_address

Networks = tuple[IPv4Network | IPv6Network, ...]

# Names that nobody can register in public DNS, so that no foreign web page can have them: docs/security.md.
PRIVATE_SUFFIXES = ("localhost", "internal", "svc", "cluster.local")

LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
NAME = re.compile(rf"{LABEL}(\.{LABEL})*")
ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#@\s:\[\]*]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Network:
    """Settings of the HTTP layer.

    Attributes:
        allowed_hosts: further host names that are answered (MANASIGHT_ALLOWED_HOSTS); `*.example.com` stands for every
            name below it, `*` for all.
        cors_origins: web pages that may use the API from a browser (MANASIGHT_CORS_ORIGINS); `*` for all.
        frame_ancestors: pages that may show this one in a frame (MANASIGHT_FRAME_ANCESTORS).
        trusted_proxies: whose X-Forwarded-For is believed (MANASIGHT_TRUSTED_PROXIES).
        max_connections: at once, all clients together (MANASIGHT_MAX_CONNECTIONS).
        client_connections: at once from one address (MANASIGHT_CLIENT_CONNECTIONS).
        client_requests: to /api/predict at once from one address (MANASIGHT_CLIENT_REQUESTS).
        metrics_port: where the metrics are served instead of beside the page (MANASIGHT_METRICS_PORT), 0 for beside it.
    """

    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    trusted_proxies: Networks = ()
    max_connections: int = 1000
    client_connections: int = 256
    client_requests: int = 48
    metrics_port: int = 0

    @classmethod
    def from_environment(cls) -> "Network":
        """Read the environment once; an empty variable counts as not set.

        Raises:
            SystemExit: with a sentence, if a value is wrong.
        """
        return cls(
            allowed_hosts=tuple(_host(text) for text in _items("MANASIGHT_ALLOWED_HOSTS")),
            cors_origins=_origins("MANASIGHT_CORS_ORIGINS"),
            frame_ancestors=_origins("MANASIGHT_FRAME_ANCESTORS"),
            trusted_proxies=tuple(_network(text) for text in _items("MANASIGHT_TRUSTED_PROXIES")),
            max_connections=_number("MANASIGHT_MAX_CONNECTIONS", cls.max_connections),
            client_connections=_number("MANASIGHT_CLIENT_CONNECTIONS", cls.client_connections),
            client_requests=_number("MANASIGHT_CLIENT_REQUESTS", cls.client_requests),
            metrics_port=_number("MANASIGHT_METRICS_PORT", cls.metrics_port, most=65535),
        )

    def trusts(self, address: str) -> bool:
        """Whether an address is one of the proxies in front of the app."""
        if not self.trusted_proxies:
            return False
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.trusted_proxies)

    def allows_host(self, header: str) -> bool:
        """Whether a request's Host header is an address, a name that only this machine's network knows, or allowed."""
        if "*" in self.allowed_hosts:
            return True
        name = host_name(header)
        if name is None:
            return False
        if _is_address(name) or "." not in name or name in own_names():
            return True
        if any(name.endswith(f".{suffix}") for suffix in PRIVATE_SUFFIXES):
            return True
        return any(name == host or (host[:2] == "*." and name.endswith(host[1:])) for host in self.allowed_hosts)


@lru_cache(4096)
def client_of(address: str) -> str:
    """Whom an address is counted as: itself, or the network of 2^64 addresses that one IPv6 line has."""
    address = plain_address(address)
    with suppress(ValueError):
        found = ip_address(address.partition("%")[0])
        if isinstance(found, IPv6Address):
            return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return address


@cache
def network() -> Network:
    """The process's own."""
    return Network.from_environment()


def host_name(header: str) -> str | None:
    """The name or address in a Host header, in lower case and without its port; None if it is malformed."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[^:\[\]]*)(?::\d{1,5})?", header)
    if not found:
        return None
    name = found[1].strip("[]").lower()
    if found[1].startswith("["):
        return name if _is_address(name) else None
    name = name.removesuffix(".")
    return name if NAME.fullmatch(name) else None


@cache
def own_names() -> frozenset[str]:
    """What this machine calls itself."""
    full = socket.gethostname().lower()
    return frozenset({full, f"{full.partition('.')[0]}.local"})


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _items(variable: str) -> list[str]:
    return [item.strip() for item in (os.environ.get(variable) or "").split(",") if item.strip()]


def _host(text: str) -> str:
    """One of MANASIGHT_ALLOWED_HOSTS as browsers send it."""
    name = text.lower().removesuffix(".")
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        name = ""
    if text == "*" or NAME.fullmatch(name.removeprefix("*.")):
        return name or text
    raise SystemExit(
        "MANASIGHT_ALLOWED_HOSTS must list host names such as app.example.com or *.example.com, separated by commas, "
        f"without scheme and port, not '{text}'"
    )


def _origins(variable: str) -> tuple[str, ...]:
    """Origins as browsers send them: lower case, and no port where it is the scheme's own."""
    found = []
    for text in _items(variable):
        match = ORIGIN.fullmatch(text.lower())
        if match:
            scheme, host, port = match.groups()
            standard = {"http": ":80", "https": ":443"}.get(scheme)
            found.append(f"{scheme}://{host}{'' if port == standard else port or ''}")
        elif text == "*":
            found.append(text)
        else:
            raise SystemExit(
                f"{variable} must list origins such as https://shop.example, separated by commas, without a path, "
                f"not '{text}'"
            )
    if "*" in found and len(found) > 1:
        raise SystemExit(f"{variable} must be * alone, or name each origin")
    return tuple(found)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise SystemExit(
            "MANASIGHT_TRUSTED_PROXIES must list addresses or networks such as 10.0.0.0/8, separated by commas, "
            f"not '{text}'"
        ) from None


def _number(variable: str, default: int, most: int = 1_000_000) -> int:
    text = os.environ.get(variable) or str(default)
    if text.isascii() and text.isdigit() and (1 <= int(text) <= most or text == str(default)):
        return int(text)
    raise SystemExit(f"{variable} must be a whole number from 1 to {most}, not '{text}'")
