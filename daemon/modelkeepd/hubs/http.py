"""HTTP to the hubs' APIs: one bounded GET at a time. The only module that imports httpx.

Owns connections, deadlines, size caps, decoding and redirects. Knows no hub: what an answer means
is the client's. File bytes do not come through here.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec
import trio

from modelkeepd.hubs.contract import HubRejected, HubUnavailable
from modelkeepd.secrets import Secret
from modelkeepd.version import VERSION

# Some hubs refuse library agents and answer browsers differently: our own name, nothing else.
USER_AGENT = f"modelkeep/{VERSION}"
MAX_BODY_BYTES = 32 << 20
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

# names may repeat, and their order is kept
Params = Sequence[tuple[str, str]]


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises ValueError for what is not http(s)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http address")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


class HubHttp:
    """A connection pool to one hub. The token never leaves the hub's own origin."""

    def __init__(
        self,
        base_url: str,
        token: Secret | None = None,
        *,
        deadline_s: float = 60.0,
        max_body_bytes: int = MAX_BODY_BYTES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.origin = origin_of(base_url)
        self._token = token
        self._deadline_s = deadline_s
        self._max_body_bytes = max_body_bytes
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def get(
        self, path: str, params: Params = (), *, on_hop: Callable[[], None] = lambda: None
    ) -> Answer:
        """GET ``path`` of the hub, redirects within its origin followed.

        ``on_hop`` is called as each request goes out: a redirect makes two of one. Raises
        HubUnavailable when there is no whole answer in time, HubRejected when the hub sends us
        elsewhere.
        """
        url = self.base_url + path
        for _hop in range(MAX_REDIRECTS + 1):
            on_hop()
            answer = await self._get_once(url, params)
            if answer.status not in _REDIRECTS:
                return answer
            url, params = self._redirected(url, answer), ()
        raise HubUnavailable(
            f"{path} was redirected more than {MAX_REDIRECTS} times", answered=True
        )

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _redirected(self, url: str, answer: Answer) -> str:
        location = answer.headers.get("location", "")
        target = urljoin(url, location)
        try:
            same = origin_of(target) == self.origin
        except ValueError:
            same = False
        if not location or not same:
            where = urlsplit(target).hostname or "nowhere"
            raise HubRejected(
                f"{self.origin[1]} redirects its API to {where}, which is not followed",
                hint="if the hub has moved, set hubs.NAME.base_url to its new address",
                status=answer.status,
            )
        return target

    async def _get_once(self, url: str, params: Params) -> Answer:
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token.reveal()}"}
        path = urlsplit(url).path
        with trio.move_on_after(self._deadline_s):
            try:
                async with self._open().stream(
                    # an empty list would strip the query of a redirect's target
                    "GET",
                    url,
                    params=list(params) or None,
                    headers=headers,
                ) as response:
                    body = await self._read(response)
                    names = {k.lower(): v for k, v in response.headers.items()}
                    return Answer(response.status_code, names, body)
            except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as exc:
                # the texts of httpx name hosts and errors, never headers
                why = str(exc) or type(exc).__name__
                raise HubUnavailable(
                    f"{self.origin[1]} did not answer {path}: {why}",
                    hint="it is tried again by itself; check the network if it lasts",
                ) from exc
        raise HubUnavailable(
            f"{self.origin[1]} gave no whole answer to {path} in {self._deadline_s:.0f} s"
        )

    async def _read(self, response: httpx.Response) -> bytes:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("gzip", "x-gzip", "deflate"):
            inflate = zlib.decompressobj(47)  # gzip or zlib by its header
        elif encoding in ("identity", ""):
            inflate = None
        else:
            # nested encodings exist to be bombs
            raise HubUnavailable(f"an answer encoded as {encoding[:80]!r}", answered=True)
        parts: list[bytes] = []
        room = self._max_body_bytes
        problem: str | None = None
        # Leaving this loop early would leave httpx's nested generators open: only a
        # cancellation unwinds them all.
        with trio.CancelScope() as reading:
            # raw: httpx would decode a chunk of any size before we could count it
            async for chunk in response.aiter_raw():
                if problem is not None:
                    continue
                try:
                    data = chunk if inflate is None else inflate.decompress(chunk, room + 1)
                except zlib.error as exc:
                    data, problem = b"", f"a damaged compressed answer: {exc}"
                room -= len(data)
                if room < 0:
                    problem = f"an answer of more than {self._max_body_bytes >> 20} MiB"
                if problem is not None:
                    reading.cancel()
                parts.append(data)
        if problem is None and inflate is not None and not inflate.eof:
            problem = "a compressed answer that ends too early"
        if problem is not None:
            raise HubUnavailable(problem, status=response.status_code, answered=True)
        return b"".join(parts)

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            local = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))
            self._client = httpx.AsyncClient(
                transport=self._transport,
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                },
                timeout=httpx.Timeout(self._deadline_s, connect=15.0),
                limits=httpx.Limits(max_connections=6, keepalive_expiry=30.0),
                follow_redirects=False,
                # a proxy of the environment is for the world, not for this machine
                mounts=None if self._transport else local,
            )
            self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return self._client
