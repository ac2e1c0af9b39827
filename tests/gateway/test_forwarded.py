"""Who a request comes from behind proxies: RFC 7239, ``X-Forwarded-For``, and what strangers write into them."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.forwarded import (
    ALB,
    MAX_HOPS,
    NGINX,
    CertificateFields,
    Fields,
    Networks,
    client_address,
    client_certificate,
    subscriber,
)

PROXY = "10.0.0.1"
TRUSTED = Networks.parse("10.0.0.0/8, 203.0.113.60, ::1, 2001:db8:aaaa::/48")


def fields(**named: str | list[str]) -> list[tuple[bytes, bytes]]:
    """Return header fields as ASGI has them; a list is a field that is repeated."""
    return [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, values in named.items()
        for value in ([values] if isinstance(values, str) else values)
    ]


@pytest.mark.parametrize(
    ("value", "client"),
    [
        pytest.param('for="_gazonk"', PROXY, id="§4-obfuscated"),
        pytest.param('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17", id="§4-names-in-any-case"),
        pytest.param("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60", id="§4-parameters"),
        pytest.param("for=192.0.2.43, for=198.51.100.17", "198.51.100.17", id="§4-elements"),
        pytest.param("for=192.0.2.43, for=10.1.2.3", "192.0.2.43", id="§4-trusted-element"),
        pytest.param("for=192.0.2.43;for=192.0.2.44", PROXY, id="§4-parameter-twice"),
        pytest.param('for=192.0.2.43;ext="a,b;for=192.0.2.44"', "192.0.2.43", id="§4-quoted-delimiters"),
        pytest.param(r'for="192.0.2.4\3"', "192.0.2.43", id="§4-quoted-pair"),
        pytest.param("for=192.0.2.43,, ,for=10.1.2.3,", "192.0.2.43", id="RFC9110§5.6.1.2-empty-elements"),
        pytest.param(";;for=192.0.2.43;;", "192.0.2.43", id="§4-empty-pairs"),
        pytest.param("for=192.0.2.43 ; proto=https", "192.0.2.43", id="space-around-semicolons"),
        pytest.param("for=192.0.2.43;extension=x", "192.0.2.43", id="§5.5-extension"),
        pytest.param("by=203.0.113.43;proto=https", PROXY, id="§5.2-not-disclosed"),
        pytest.param("for=192.0.2.43, proto=https", PROXY, id="§5.2-not-disclosed-by-the-last"),
        pytest.param('for="192.0.2.43:47011"', "192.0.2.43", id="§6-port"),
        pytest.param('for="192.0.2.43:_hidden.1-2"', "192.0.2.43", id="§6-obfuscated-port"),
        pytest.param('for="[2001:db8:cafe::17]"', "2001:db8:cafe::17", id="§6.1-IPv6"),
        pytest.param('for="[2001:DB8:CAFE:0:0:0:0:17]"', "2001:db8:cafe::17", id="§6.1-IPv6-normalised"),
        pytest.param('for="[::ffff:192.0.2.43]"', "192.0.2.43", id="§6.1-IPv4-in-IPv6"),
        pytest.param("for=unknown", PROXY, id="§6.2-unknown"),
        pytest.param("for=192.0.2.43, for=unknown", PROXY, id="§6.2-unknown-last"),
        pytest.param("for=unknown, for=10.9.9.9", "10.9.9.9", id="§6.2-unknown-behind-a-proxy"),
        pytest.param("for=_hidden, for=_SEVKISEK", PROXY, id="§6.3-obfuscated"),
        pytest.param('for=192.0.2.43, for="[2001:db8:aaaa::17]"', "192.0.2.43", id="§7.1-IPv6-proxy"),
        pytest.param("for=10.0.0.2, for=10.0.0.3", "10.0.0.2", id="nobody-but-proxies"),
        pytest.param("for=2001:db8:cafe::17", PROXY, id="§6-colon-unquoted"),
        pytest.param('for="2001:db8:cafe::17"', PROXY, id="§6-no-brackets"),
        pytest.param('for="[192.0.2.43]"', "192.0.2.43", id="IPv4-in-brackets"),
        pytest.param('for="[fe80::1%eth0]"', PROXY, id="zone"),
        pytest.param("for=192.0.2.256", PROXY, id="no-address"),
        pytest.param("for=192.0.2.043", PROXY, id="leading-zero"),
        pytest.param("for=192.0.2.43:99999999", PROXY, id="§6-port-too-long"),
        pytest.param("for = 192.0.2.43", PROXY, id="§4-space-around-equals"),
        pytest.param('for="192.0.2.43', PROXY, id="quote-left-open"),
        pytest.param("192.0.2.43", PROXY, id="no-pair"),
        pytest.param("", PROXY, id="empty"),
    ],
)
def test_forwarded(value: str, client: str) -> None:
    assert client_address(PROXY, fields(forwarded=value), TRUSTED) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.43", "192.0.2.43"),
        ("192.0.2.43, 198.51.100.17", "198.51.100.17"),
        ("192.0.2.43, 198.51.100.17, 10.1.2.3,203.0.113.60", "198.51.100.17"),
        ("192.0.2.43:4711", "192.0.2.43"),
        ("2001:db8:cafe::17", "2001:db8:cafe::17"),
        ("[2001:db8:cafe::17]", "2001:db8:cafe::17"),
        ("[2001:db8:cafe::17]:4711", "2001:db8:cafe::17"),
        ("::ffff:192.0.2.43", "192.0.2.43"),
        ("192.0.2.43, ::ffff:10.1.2.3", "192.0.2.43"),
        ("garbage, 192.0.2.43", "192.0.2.43"),
        ('for="open, 192.0.2.43', "192.0.2.43"),
        ("192.0.2.43, ", "192.0.2.43"),
        ("192.0.2.43, unknown", PROXY),
        ("192.0.2.43, garbage", PROXY),
        ("192.0.2.43, garbage, 10.1.2.3", "10.1.2.3"),
        ("fe80::1%eth0", PROXY),
        ("", PROXY),
    ],
)
def test_x_forwarded_for(value: str, client: str) -> None:
    assert client_address(PROXY, fields(x_forwarded_for=value), TRUSTED) == client


def test_repeated_fields_are_one_list() -> None:
    assert client_address(PROXY, fields(x_forwarded_for=["192.0.2.43", "198.51.100.17", "10.1.2.3"]), TRUSTED) == (
        "198.51.100.17"
    )
    assert client_address(PROXY, fields(forwarded=["for=192.0.2.43", "for=10.1.2.3"]), TRUSTED) == "192.0.2.43"


@pytest.mark.parametrize("name", ["forwarded", "x_forwarded_for"])
def test_a_stranger_is_who_it_is_whatever_it_says(name: str) -> None:
    said = fields(**{name: "for=192.0.2.43" if name == "forwarded" else "192.0.2.43"})
    assert client_address("198.51.100.99", said, TRUSTED) == "198.51.100.99"
    assert client_address(PROXY, said, Networks()) == PROXY


def test_the_field_that_a_proxy_does_not_write_is_not_believed() -> None:
    assert client_address(PROXY, fields(forwarded="for=1.2.3.4", x_forwarded_for="192.0.2.43"), TRUSTED) == PROXY
    assert client_address(PROXY, fields(forwarded="nonsense", x_forwarded_for="192.0.2.43"), TRUSTED) == PROXY
    both = fields(forwarded='for="[2001:db8::1]:1"', x_forwarded_for="2001:db8::1")
    assert client_address(PROXY, both, TRUSTED) == "2001:db8::1"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.43", "192.0.2.43"),
        ("::ffff:192.0.2.43", "192.0.2.43"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_a_peer_is_normalised(peer: str, address: str) -> None:
    assert client_address(peer, [], TRUSTED) == address


def test_a_proxy_may_be_connected_by_an_address_that_is_mapped() -> None:
    assert client_address(f"::ffff:{PROXY}", fields(x_forwarded_for="192.0.2.43"), TRUSTED) == "192.0.2.43"


class TestBounds:
    def test_only_so_many_hops_are_followed(self) -> None:
        chain = ["192.0.2.43", *(f"10.1.0.{number}" for number in range(MAX_HOPS))]
        assert client_address(PROXY, fields(x_forwarded_for=", ".join(chain)), TRUSTED) == "10.1.0.0"
        assert client_address(PROXY, fields(x_forwarded_for=", ".join(chain[:1] + chain[2:])), TRUSTED) == "192.0.2.43"
        said = ", ".join(f"for={hop}" for hop in chain)
        assert client_address(PROXY, fields(forwarded=said), TRUSTED) == "10.1.0.0"

    def test_what_a_stranger_writes_before_it_does_not_hide_it(self) -> None:
        assert client_address(PROXY, fields(x_forwarded_for="1.2.3.4," * 4000 + "192.0.2.43"), TRUSTED) == "192.0.2.43"

    @pytest.mark.parametrize(
        "start", ["for=1.2.3.4," * 4000, " " * 30_000, 'for="', "for=1.2.3.4;x=" + "y" * 30_000, "for=" * 8000]
    )
    def test_an_endless_or_open_field_makes_nobody_of_its_writer(self, start: str) -> None:
        assert client_address(PROXY, fields(forwarded=start + ", for=192.0.2.43"), TRUSTED) == PROXY


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
header = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)


@given(header, header, addresses)
def test_no_field_is_too_strange_to_be_read(forwarded: str, x_forwarded_for: str, peer: str) -> None:
    for said in (fields(forwarded=forwarded), fields(x_forwarded_for=x_forwarded_for)):
        ip_address(client_address(PROXY, said, TRUSTED))
        assert client_address(peer, said, Networks()) == client_address(peer, [], Networks())


pieces = st.lists(
    st.sampled_from(["for=", '"', "\\", ",", ";", "=", " ", "1.2.3.4", "[::9]", "x", 'for="[::9]"', "host="]),
    max_size=12,
).map("".join)


@given(header | pieces, st.ip_addresses(v=4, network="192.0.2.0/24"), st.ip_addresses(v=6, network="2001:db8:b::/48"))
def test_whatever_a_client_writes_its_proxy_has_the_last_word(said: str, v4: IPv4Address, v6: IPv6Address) -> None:
    """The last hop is the proxy's own word: nobody can be anybody but that or, where it is unreadable, the proxy."""
    assert client_address(PROXY, fields(x_forwarded_for=f"{said}, {v4}"), TRUSTED) == str(v4)
    assert client_address(PROXY, fields(x_forwarded_for=f"{said}, {v6}"), TRUSTED) == str(v6)
    for client, written in ((v4, f"for={v4};proto=https"), (v6, f'for="[{v6}]:4711";host="chat.example";proto=https')):
        for sent in (fields(forwarded=f"{said}, {written}"), fields(forwarded=[said, written])):
            assert client_address(PROXY, sent, TRUSTED) in {str(client), PROXY}


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.43", "192.0.2.43"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("", ""),
    ],
)
def test_a_subscriber_has_one_ipv4_address_or_a_64_of_ipv6(address: str, counted: str) -> None:
    assert subscriber(address) == counted


class TestNetworks:
    @pytest.mark.parametrize(
        ("address", "inside"),
        [
            ("10.0.0.0", True),
            ("10.255.255.255", True),
            ("11.0.0.0", False),
            ("203.0.113.60", True),
            ("203.0.113.61", False),
            ("::1", True),
            ("::2", False),
            ("2001:db8:aaaa:ffff::1", True),
            ("2001:db8:aaab::1", False),
            ("::a00:1", False),
        ],
    )
    def test_an_address_is_inside_or_not(self, address: str, inside: bool) -> None:  # noqa: FBT001 a table's column
        assert (ip_address(address) in TRUSTED) is inside

    def test_there_may_be_none(self) -> None:
        assert ip_address("127.0.0.1") not in Networks.parse(" , ")

    @pytest.mark.parametrize(
        "text", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example", "*", "10.0.0.0-10.0.0.9", "fe80::1%"]
    )
    def test_what_is_no_network_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            Networks.parse(f"127.0.0.1,{text}")

    @pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0"])
    def test_everybody_is_no_proxy(self, text: str) -> None:
        with pytest.raises(ValueError, match="let every client say who it is"):
            Networks.parse(text)


SUBJECT = "CN=cdn.example,O=Example"
VERIFIED = {"x_ssl_client_verify": "SUCCESS", "x_ssl_client_s_dn": SUBJECT}


class TestClientCertificate:
    def test_the_subject_that_a_trusted_proxy_has_verified(self) -> None:
        assert client_certificate(PROXY, fields(**VERIFIED), TRUSTED, NGINX) == SUBJECT
        assert client_certificate("::1", fields(x_amzn_mtls_clientcert_subject=SUBJECT), TRUSTED, ALB) == SUBJECT

    @pytest.mark.parametrize("peer", ["192.0.2.43", "", "::2", "fe80::1%eth0"])
    @pytest.mark.parametrize("names", [NGINX, ALB])
    def test_nobody_else_is_believed(self, peer: str, names: CertificateFields) -> None:
        said = fields(**VERIFIED, x_amzn_mtls_clientcert_subject=SUBJECT, x_forwarded_for=PROXY)
        assert client_certificate(peer, said, TRUSTED, names) is None

    @pytest.mark.parametrize(
        "said",
        [
            fields(),
            fields(x_ssl_client_s_dn=SUBJECT),
            fields(x_ssl_client_verify="SUCCESS"),
            fields(**VERIFIED | {"x_ssl_client_verify": "NONE"}),
            fields(**VERIFIED | {"x_ssl_client_verify": "FAILED:certificate has expired"}),
            fields(**VERIFIED | {"x_ssl_client_verify": "success"}),
            fields(**VERIFIED | {"x_ssl_client_verify": ""}),
            fields(**VERIFIED | {"x_ssl_client_s_dn": ""}),
            fields(**VERIFIED | {"x_ssl_client_s_dn": "CN=\x07"}),
            fields(**VERIFIED | {"x_ssl_client_s_dn": "CN=" + "x" * 2000}),
            fields(**VERIFIED, x_amzn_mtls_clientcert_subject=SUBJECT)[2:],
            fields(x_ssl_client_verify=["NONE", "SUCCESS"], x_ssl_client_s_dn=SUBJECT),
            fields(x_ssl_client_verify="SUCCESS", x_ssl_client_s_dn=["CN=other", SUBJECT]),
        ],
    )
    def test_what_is_missing_failed_or_said_twice_is_no_certificate(self, said: Fields) -> None:
        assert client_certificate(PROXY, said, TRUSTED, NGINX) is None
