"""How much processing may cost: the processing part of the environment."""

import os
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ingest.scanner import ClamAddress

_MEBIBYTE = 1024**2


def _clamd(text: str) -> str:
    ClamAddress.parse(text)
    return text


class ProcessingSettings(BaseSettings):
    """Children, their limits, and what is too much to decode; every field's alias is its environment variable."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    children: int = Field(default_factory=lambda: os.cpu_count() or 1, alias="MEDIA_PROCESSING_CHILDREN", ge=1, le=256)
    """One for each core unless configured."""
    memory: int = Field(1536 * _MEBIBYTE, alias="MEDIA_PROCESSING_MEMORY", ge=256 * _MEBIBYTE)
    """Bytes of address space of one child."""
    seconds: float = Field(120.0, alias="MEDIA_PROCESSING_SECONDS", gt=0, le=86_400)
    """That one step may take; films and recordings have as many more as they last."""
    max_pixels: int = Field(50_000_000, alias="MEDIA_MAX_PIXELS", ge=1)
    """Of a picture or one frame."""
    max_frames: int = Field(600, alias="MEDIA_MAX_FRAMES", ge=1)
    """Of an animation."""
    max_seconds: float = Field(1800.0, alias="MEDIA_MAX_SECONDS", gt=0)
    """Of a film or recording."""
    clamd: Annotated[str, AfterValidator(_clamd)] | None = Field(None, alias="MEDIA_CLAMD")
    """Where the malware scanner listens; without it nothing is scanned."""
