"""Where requests go and what they carry there (D3-D6), without a socket."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.secrets import Secret
from modelkeepd.transfer.errors import RedirectRefused, TransferError
from modelkeepd.transfer.origin import (
    MAX_HOPS,
    BadAddress,
    Origin,
    Url,
    checked_addresses,
    classes_of_home,
    literal_address,
    next_hop,
    parse_url,
    proxy_for,
    travelling_headers,
)

HUB = parse_url("https://hub.example/api/download/1")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://hub.example", "https://hub.example/"),
        ("HTTPS://Hub.Example:443/a?b=c", "https://hub.example/a?b=c"),
        ("http://hub.example:8080/x#part", "http://hub.example:8080/x"),
        ("https://hub.example./x", "https://hub.example/x"),
        ("https://hub.example/a b/é.safetensors?n=日", "https://hub.example/a%20b/%C3%A9.safetensors?n=%E6%97%A5"),
        ("https://hub.example/a%20b?sig=x%2Fy%3D", "https://hub.example/a%20b?sig=x%2Fy%3D"),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x"),
        ("http://[::1]:9/x", "http://[::1]:9/x"),
        ("http://[0:0:0:0:0:0:0:1]/x", "http://[::1]/x"),
        ("https://xn--hb-fka.example/x", "https://xn--hb-fka.example/x"),
    ],
)  # fmt: skip
def test_a_url_is_written_one_way_only(text: str, canonical: str) -> None:
    assert parse_url(text).text == canonical
    assert parse_url(canonical).text == canonical


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "//hub.example/x", "file:///etc/passwd", "ftp://hub.example/x", "data:,x",
        "gopher://hub.example", "javascript:x", "https://user:pass@hub.example/",
        "https://user@hub.example/", "https://@hub.example/", "https:///x", "https://",
        "https://hub.example\\@evil.example/", "https://hub.example:99999/", "https://hub.example:x/",
        "https://hüb.example/", "https://hub..example/", "https://-hub.example/",
        "https://hub.example\r\nHost: evil/", "https://hub\x00.example/", "https://hub example/",
        "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
        "http://127.0.0.1.0x1/", "http://[::1%25lo]/", "http://[::1", "http://[v1.x]/",
        "http://hub.example%2f@evil/", "http://１２７.0.0.1/", "http://hub。example/",
    ],
)  # fmt: skip
def test_addresses_that_two_programs_could_read_differently_are_refused(text: str) -> None:
    with pytest.raises(BadAddress):
        parse_url(text)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/other", "https://hub.example/other"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
        ("?page=2", "https://hub.example/api/download/1?page=2"),
        ("../2", "https://hub.example/api/2"),
    ],
)
def test_a_redirect_is_joined_to_where_it_came_from(location: str, target: str) -> None:
    assert next_hop([HUB], location).text == target


@pytest.mark.parametrize(
    ("location", "why"),
    [
        (None, "nowhere"),
        ("", "nowhere"),
        ("http://hub.example/x", "https to http"),
        ("file:///etc/passwd", "not followed"),
        ("ftp://cdn.example/x", "not followed"),
        ("data:text/plain,x", "not followed"),
        ("https://me:secret@cdn.example/x", "not followed"),
        ("https://hub.example@evil.example/x", "not followed"),
        ("https://hüb.example/x", "not followed"),
        ("https://hub.example/api/download/1", "loop"),
    ],
)
def test_redirects_that_are_not_followed(location: str | None, why: str) -> None:
    with pytest.raises(RedirectRefused, match=why) as caught:
        next_hop([HUB], location)
    assert "secret" not in caught.value.message


def test_the_chain_ends_after_ten_hops_and_is_in_the_error() -> None:
    chain = [HUB]
    for number in range(MAX_HOPS):
        chain.append(next_hop(chain, f"https://h{number}.example/x?sig=SECRET"))
    with pytest.raises(RedirectRefused, match="more than 10") as caught:
        next_hop(chain, "https://last.example/")
    assert "h9.example" in caught.value.message
    assert "SECRET" not in caught.value.message + repr(chain)


def test_headers_stay_with_the_hub_and_never_come_back() -> None:
    headers = [("Authorization", Secret("t")), ("X-Api-Key", "k")]
    home = HUB.origin
    here = parse_url("https://hub.example/two")
    assert travelling_headers(headers, [HUB, here], home) == tuple(headers)
    for elsewhere in (
        "https://cdn.example/x",
        "https://cdn.hub.example/x",
        "https://hub.example:8443/x",
        "http://hub.example/x",
    ):
        strange = parse_url(elsewhere)
        assert travelling_headers(headers, [HUB, strange], home) == ()
        assert travelling_headers(headers, [HUB, strange, here], home) == ()
        assert travelling_headers(headers, [strange], home) == ()


PRIVATE = {
    "127.0.0.1": "loopback", "127.9.9.9": "loopback", "::1": "loopback",
    "0.0.0.0": "unspecified", "::": "unspecified",
    "10.0.0.1": "private", "172.16.3.4": "private", "192.168.1.1": "private",
    "100.64.0.1": "private", "198.18.0.1": "private", "192.0.2.1": "private",
    "240.0.0.1": "private", "255.255.255.255": "private", "fc00::1": "private",
    "2001:db8::1": "private", "fd12::1": "private",
    "169.254.1.1": "link-local", "fe80::1": "link-local",
    "169.254.169.254": "metadata", "fd00:ec2::254": "metadata",
    "224.0.0.1": "multicast", "ff02::1": "multicast",
    "::ffff:127.0.0.1": "loopback", "::ffff:10.1.2.3": "private",
    "::ffff:169.254.169.254": "metadata",
    "64:ff9b::7f00:1": "loopback", "64:ff9b::a9fe:a9fe": "metadata", "64:ff9b:1::a00:1": "private",
    "2002:7f00:1::": "loopback", "2002:c0a8:101::1": "private", "::127.0.0.1": "loopback",
}  # fmt: skip


@pytest.mark.parametrize(("address", "kind"), PRIVATE.items())
def test_no_redirect_leads_to_a_private_place(address: str, kind: str) -> None:
    with pytest.raises(RedirectRefused, match=f"a {kind} address"):
        checked_addresses(HUB, [address], frozenset())


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:8.8.8.8"]
)
def test_public_addresses_pass(address: str) -> None:
    assert [str(a) for a in checked_addresses(HUB, [address], frozenset())]


def test_one_private_answer_among_public_ones_refuses_all() -> None:
    with pytest.raises(RedirectRefused):
        checked_addresses(HUB, ["93.184.216.34", "10.0.0.1"], frozenset())


def test_a_private_hub_may_redirect_to_its_own_kind_only() -> None:
    home = classes_of_home(["127.0.0.1"])
    assert checked_addresses(HUB, ["127.0.0.1"], home)
    for elsewhere in ("10.0.0.1", "169.254.169.254"):
        with pytest.raises(RedirectRefused):
            checked_addresses(HUB, [elsewhere], home)
    assert classes_of_home(["93.184.216.34"]) == frozenset()


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://a.example/", {}, None),
        ("https://a.example/", {"https_proxy": "http://p:1"}, "http://p:1"),
        ("https://a.example/", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example/", {"http_proxy": "http://p:1"}, None),
        ("https://a.example/", {"ALL_PROXY": "socks5://p:1"}, "socks5://p:1"),
        ("http://a.example/", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("http://a.example/", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://a.example/", {"https_proxy": "http://p:1", "no_proxy": "*"}, None),
        ("https://a.example/", {"https_proxy": "http://p:1", "no_proxy": "b.c, example"}, None),
        ("https://a.example/", {"https_proxy": "http://p:1", "NO_PROXY": ".a.example"}, None),
        ("https://a.example/", {"https_proxy": "http://p:1", "no_proxy": "ample"}, "http://p:1"),
        ("https://a.example/", {"https_proxy": "http://p:1", "no_proxy": "a.example:443"}, None),
        ("https://a.example/", {"https_proxy": "http://p:1", "no_proxy": "a.example:80"}, "http://p:1"),
        ("http://10.1.2.3/", {"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("http://[::1]/", {"http_proxy": "http://p:1", "no_proxy": "::1"}, None),
    ],
)  # fmt: skip
def test_proxies_come_from_the_environment(
    url: str, environ: dict[str, str], proxy: str | None
) -> None:
    assert proxy_for(parse_url(url), environ) == proxy


@given(st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_strictly_or_refused(text: str) -> None:
    for attempt in (text, f"https://{text}", f"https://hub.example/{text}"):
        try:
            url = parse_url(attempt)
        except TransferError:
            continue
        assert isinstance(url, Url)
        assert url.text.isascii()
        assert url.text.isprintable()
        assert " " not in url.text
        assert "@" not in str(url.origin)
        assert parse_url(url.text) == url


def test_an_origin_shows_its_port_only_when_it_is_odd() -> None:
    assert str(Origin("https", "a.example", 443)) == "https://a.example"
    assert str(Origin("http", "::1", 8080)) == "http://[::1]:8080"
    assert literal_address("a.example") is None
