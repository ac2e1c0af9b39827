"""The many forms in which the provider states one fact about a medium."""

from ingest.simulator.faults import HashForm, TypeForm
from ingest.simulator.media import Medium


def format_hash(medium: Medium, form: HashForm) -> str | None:
    """State the hash; None: it is left out."""
    match form:
        case HashForm.HEX:
            return medium.sha256_hex
        case HashForm.BASE64:
            return medium.sha256_base64
        case HashForm.WRONG:
            return medium.sha256[::-1].hex()
        case HashForm.MISSING:
            return None


def format_type(medium: Medium, form: TypeForm) -> str | None:
    """State the MIME type; None: it is left out."""
    match form:
        case TypeForm.FULL:
            return medium.mime_type
        case TypeForm.BARE:
            return medium.mime_type.partition(";")[0].strip()
        case TypeForm.UPPER:
            return medium.mime_type.upper()
        case TypeForm.OCTET_STREAM:
            return "application/octet-stream"
        case TypeForm.MISSING:
            return None
