"""Which addresses may be connected to on behalf of a manifest: public ones, and what is allowed.

A name is resolved once; the addresses that were checked are the ones to connect to.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from libs.common.errors import PermanentError, TransientError
from libs.stores._settings import Network

# Public by `is_global`, yet ways into what is private: NAT64 and 6to4 wrap IPv4 addresses, Teredo
# tunnels, and 192.0.0.0/24 has a cloud's metadata service.
HIDDEN_WAYS = tuple(
    ipaddress.ip_network(n)
    for n in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "192.0.0.0/24")
)


def public(text: str) -> bool:
    """Whether an address belongs to the open internet and nothing else."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return False
    if address.is_multicast or not address.is_global:
        return False
    return not any(address in network for network in HIDDEN_WAYS)


def allowed(text: str, networks: Sequence[Network]) -> bool:
    """Whether it is public, or in a network that the operator allows."""
    if "%" in text:  # link-local with a zone
        return False
    address = ipaddress.ip_address(text)
    return public(text) or any(address in network for network in networks)


def resolve(host: str, port: int, networks: Sequence[Network], what: str) -> list[str]:
    """The addresses of a host, every one of them allowed; `what` names it in errors.

    Raises PermanentError `endpoint_forbidden`, TransientError `dns`. Blocks.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise TransientError(f"{what}: the name {host!r} doesn't resolve", code="dns") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not all(allowed(address, networks) for address in addresses):
        raise PermanentError(  # without the address: it may be a secret of an inner network
            f"{what}: {host!r} is not at a public address; an operator allows its network with "
            "ONEBLOCK_PRIVATE_NETWORKS",
            code="endpoint_forbidden",
        )
    return addresses
