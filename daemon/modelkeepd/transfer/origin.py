"""Where a request may go and what it may carry there (threats D3-D6): pure policy.

Owns the reading of addresses, the verdict on each redirect and on each resolved address, and
which headers travel. Opens no socket; names are resolved by an injected function, once a hop, and
the engine may connect only to the addresses judged here.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from modelkeepd.secrets import Secret
from modelkeepd.transfer.errors import RedirectRefused, TransferError, quoted

MAX_HOPS = 10
DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z")
_NUMERIC_LABEL = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]+)\Z")
_BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\\]")
_SAFE_IN_PATH = "%/:;=@!$&'()*+,~-._?[]|{}^`\""
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Header = tuple[str, str | Secret]


class BadAddress(TransferError):
    """A URL we do not read: the same rules for the first address and for every redirect."""

    code = "invalid"


@dataclass(frozen=True, slots=True)
class Origin:
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if DEFAULT_PORTS[self.scheme] == self.port else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True)
class Url:
    """A URL read strictly and written canonically, so that two readers cannot disagree on it."""

    origin: Origin
    target: str  # path and query, ASCII; may hold a signature

    @property
    def text(self) -> str:
        return f"{self.origin}{self.target}"

    @property
    def shown(self) -> str:
        """For messages and logs: no query, which may be signed."""
        return f"{self.origin}{self.target.partition('?')[0]}"

    def __repr__(self) -> str:
        return f"Url({self.shown})"


def parse_url(text: str) -> Url:
    """Raises BadAddress on anything two programs could read in two ways."""
    if _BAD_CHARACTERS.search(text):
        raise BadAddress("the address holds control characters or backslashes")
    try:
        parts = urlsplit(text.strip(" "))
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"the address cannot be read: {quoted(str(error))}") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise BadAddress(f"the address has the scheme {quoted(parts.scheme, 20)!r}, not http(s)")
    if "@" in parts.netloc:
        raise BadAddress("the address carries a user name")
    origin = Origin(parts.scheme, _host(parts.netloc, parts.hostname), port or _port(parts.scheme))
    target = quote(parts.path or "/", safe=_SAFE_IN_PATH)
    if parts.query:
        target += "?" + quote(parts.query, safe=_SAFE_IN_PATH)
    return Url(origin, target)


def _port(scheme: str) -> int:
    return DEFAULT_PORTS[scheme]


def _host(netloc: str, hostname: str | None) -> str:
    host = hostname or ""
    if "[" in netloc or "]" in netloc:
        try:
            address = ipaddress.IPv6Address(host)
            if address.scope_id is not None:
                raise ValueError("a zone belongs to this machine, not to an address from outside")
            return address.compressed
        except ValueError:
            raise BadAddress("the address has a bad IPv6 host") from None
    host = host.removesuffix(".").lower()
    if not _HOST.match(host) or ".." in host:
        raise BadAddress(f"the host {quoted(host, 60)!r} is not a plain host name")
    if _NUMERIC_LABEL.match(host.rpartition(".")[2]):
        # 127.1, 0x7f000001 and 2130706433 are addresses to some readers and names to others.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise BadAddress(f"the host {quoted(host, 60)!r} is an oddly written number") from None
    return host


def next_hop(chain: Sequence[Url], location: str | None) -> Url:
    """The redirect's target, or RedirectRefused with the chain so far in the message."""
    here = chain[-1]
    route = " -> ".join(hop.shown for hop in chain[-MAX_HOPS:])
    if not location:
        raise RedirectRefused(f"{here.shown} redirects to nowhere (no Location)", route)
    if len(chain) > MAX_HOPS:
        raise RedirectRefused(
            f"more than {MAX_HOPS} redirects: {route}", "the hub sends us in circles; try later"
        )
    try:
        target = parse_url(urljoin(here.text, location))
    except BadAddress as error:
        raise RedirectRefused(
            f"{here.shown} redirects to an address that is not followed: {error.message}",
            "nothing was fetched from there; if it stays so, the hub or a proxy has a fault",
        ) from None
    if here.origin.scheme == "https" and target.origin.scheme == "http":
        raise RedirectRefused(
            f"{here.shown} redirects from https to http ({target.shown})",
            "an encrypted download is never continued in the open",
        )
    if any(hop.text == target.text for hop in chain):
        raise RedirectRefused(f"redirect loop: {route} -> {target.shown}", "try later")
    return target


def travelling_headers(
    headers: Sequence[Header], chain: Sequence[Url], home: Origin
) -> tuple[Header, ...]:
    """All of them while every hop so far was on the hub's own origin, none ever after."""
    return tuple(headers) if all(hop.origin == home for hop in chain) else ()


# Addresses -------------------------------------------------------------------------------------


def address_class(address: Address) -> str:
    """``public``, or the name of the private place it leads to."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return address_class(inner)
        if address in ipaddress.IPv6Network("fd00:ec2::/32"):
            return "metadata"
    elif address == ipaddress.IPv4Address("169.254.169.254"):
        return "metadata"
    if address.is_unspecified or int(address) == 0:
        return "unspecified"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if not address.is_global or address.is_reserved:
        return "private"
    return "public"


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, compatible, NAT64, 6to4 or Teredo address really reaches."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if int(address) >> 32 == 0 and int(address) > 0xFFFF:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def literal_address(host: str) -> Address | None:
    """The address when the host is one."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def checked_addresses(
    url: Url, resolved: Sequence[str], allowed_classes: frozenset[str]
) -> tuple[Address, ...]:
    """All of ``resolved`` when each is public or of an allowed class, else RedirectRefused.

    One private answer among public ones refuses the lot: a resolver that mixes them is the attack.
    """
    addresses = tuple(ipaddress.ip_address(text.partition("%")[0]) for text in resolved)
    for address in addresses:
        kind = address_class(address)
        if kind != "public" and kind not in allowed_classes:
            raise RedirectRefused(
                f"{url.origin} leads to a {kind} address ({address}) and is not asked",
                "only a hub whose own base_url is private may use private addresses",
            )
    return addresses


def classes_of_home(resolved: Sequence[str]) -> frozenset[str]:
    """What redirects of this hub may reach besides the public: the class its own base URL is of."""
    kinds = {address_class(ipaddress.ip_address(text.partition("%")[0])) for text in resolved}
    return frozenset(kinds - {"public"})


# Proxies ---------------------------------------------------------------------------------------


def proxy_for(url: Url, environ: Mapping[str, str]) -> str | None:
    """The proxy the environment names for this URL (``http_proxy`` in lower case only: httpoxy)."""
    host = url.origin.host
    for entry in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(","):
        if _exempt(entry.strip().lower(), host, url.origin.port):
            return None
    names: tuple[str, ...]
    if url.origin.scheme == "https":
        names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    else:
        names = ("http_proxy", "all_proxy", "ALL_PROXY")
    return next((environ[name] for name in names if environ.get(name)), None)


def _exempt(entry: str, host: str, port: int) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    address = literal_address(host)
    if address is not None:
        try:
            network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            network = None
        if network is not None:
            return address.version == network.version and address in network
    name, colon, wanted_port = entry.rpartition(":")
    if colon and wanted_port.isdigit():
        if int(wanted_port) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    return host == entry or host.endswith("." + entry)
