"""The renditions of a medium, by the names that a URL may ask for."""

ORIGINAL = "original"
AUTO = "auto"
"""The best one for the request's ``Accept`` header."""

VARIANTS = frozenset({
    ORIGINAL,
    AUTO,
    "compressed",
    "webp",
    "thumbnail",
    "small",
    "medium",
    "large",
    "preview",
    "aac",
    "hls",
    "waveform",
})  # fmt: skip
