"""The renditions of a medium, by the names that a URL may ask for."""

ORIGINAL = "original"
AUTO = "auto"
"""The best one for the request's ``Accept`` header."""
HLS = "hls"
MASTER = "master.m3u8"  # the file of `HLS` that a player begins with
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"

SQUARES = ("small", "thumbnail", "medium", "large")
QUICK = frozenset({*SQUARES, "compressed", "webp"})
"""What is made of an image when it is asked for."""

VARIANTS = frozenset({
    ORIGINAL,
    AUTO,
    "compressed",
    "webp",
    *SQUARES,
    "preview",
    "aac",
    HLS,
    "waveform",
})  # fmt: skip

NEAREST = {
    # A larger one first: it looks right when it is scaled down.
    "small": ("thumbnail", "medium", "large", "compressed"),
    "thumbnail": ("medium", "large", "small", "compressed"),
    "medium": ("large", "compressed"),
    "large": ("compressed",),
    "webp": ("compressed",),
    "preview": ("compressed",),
    "aac": ("compressed",),
    HLS: ("compressed",),
}
"""What stands in for a variant that is not there, before the original does."""
