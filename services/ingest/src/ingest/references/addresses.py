"""Which addresses a reference may lead to."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

# Public by their numbers, but they lead to the platform: Azure's metadata and keys, and special
# addresses of IETF protocols, among them the metadata of Oracle's cloud.
_PLATFORM: Final = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE: Final = IPv6Network("::/96")
_IPV4_MASK: Final = 0xFFFF_FFFF


def is_public(address: str) -> bool:
    """Whether an address is one of the public Internet, of a single host.

    Not public: private, shared, loopback, link-local (cloud metadata), multicast, reserved,
    unspecified, and IPv6 addresses that lead to such an IPv4 address.
    """
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found in _NAT64_LOCAL:
            return False
        if (inner := _embedded_ipv4(found)) is not None:
            return _is_public_ipv4(inner)
        return found in _UNICAST and found.is_global
    return _is_public_ipv4(found)


def _is_public_ipv4(address: IPv4Address) -> bool:
    special = address.is_multicast or any(address in network for network in _PLATFORM)
    return address.is_global and not special


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which packets for an IPv6 address are sent, if there is one."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or address in _IPV4_COMPATIBLE:
        return IPv4Address(int(address) & _IPV4_MASK)
    return None
