"""Looks whether a file of a film's type is a film: MP4, 3GP, WebM and Ogg may hold sound alone."""

from pathlib import Path

import av
from av.stream import Disposition

# Only what may be either is opened, and nothing that names further files or hosts, as playlists do.
_OPTIONS = {"format_whitelist": "matroska,mov,ogg", "protocol_whitelist": "file"}


def is_sound_alone(path: Path) -> bool:
    """Tell whether there is sound and not one moving picture; a cover is none. False where that cannot be told."""
    try:
        container = av.open(f"file:{path}", options=_OPTIONS, metadata_errors="replace")
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError:
        return False  # whoever decodes it says what is wrong
    with container:
        films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        return bool(container.streams.audio) and not films
