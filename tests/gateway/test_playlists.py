import pytest

from gateway.playlists import credential_of, readdress

MASTER = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS

#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360,CODECS="avc1.64001e,mp4a.40.2"
360p.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1500000,RESOLUTION=1280x720,CODECS="avc1.64001f,mp4a.40.2"
720p.m3u8
"""
MEDIA = """#EXTM3U
#EXT-X-MAP:URI="360p.mp4",BYTERANGE="1200@0"
#EXTINF:4.000000,
#EXT-X-BYTERANGE:50000@1200
360p.mp4
#EXT-X-ENDLIST
"""


def test_every_uri_of_a_master_playlist_carries_the_credential() -> None:
    served = readdress(MASTER, folder="", credential="exp=1&kid=k&sig=s")
    assert [line for line in served.splitlines() if line and not line.startswith("#")] == [
        "360p.m3u8?exp=1&kid=k&sig=s",
        "720p.m3u8?exp=1&kid=k&sig=s",
    ]
    assert [line for line in served.splitlines() if line.startswith("#")] == [
        line for line in MASTER.splitlines() if line.startswith("#")
    ]


def test_so_does_the_uri_of_an_initialisation_section() -> None:
    served = readdress(MEDIA, folder="", credential="exp=1&kid=k&sig=s")
    assert '#EXT-X-MAP:URI="360p.mp4?exp=1&kid=k&sig=s",BYTERANGE="1200@0"' in served.splitlines()
    assert "#EXT-X-BYTERANGE:50000@1200\n360p.mp4?exp=1&kid=k&sig=s\n" in served


def test_with_another_credential_the_uris_are_plain() -> None:
    assert readdress(MEDIA, folder="", credential="") == MEDIA


def test_beside_the_folder_the_uris_lead_into_it() -> None:
    assert "\nm%201/hls/360p.m3u8?sig=s\n" in readdress(MASTER, folder="m%201/hls/", credential="sig=s")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"exp": "1", "kid": "a b", "sig": "x=", "retry": "2"}, "exp=1&kid=a+b&sig=x%3D"),
        ({"exp": "1", "kid": "k", "sig": "s", "download": "1"}, "exp=1&kid=k&sig=s&download=1"),
        ({"variant": "hls"}, ""),
    ],
)
def test_the_credential_is_the_signature_and_what_it_covers(query: dict[str, str], expected: str) -> None:
    assert credential_of(query) == expected
