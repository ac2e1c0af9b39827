"""What a child may tell its parent, line by line; the parent believes nothing that is not of this form."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, field_validator

LINE_LIMIT = 256 * 1024  # bytes of one answer; the largest holds a step's facts

StepName = Literal["facts", "squares", "compressed", "webp", "preview", "hls", "waveform", "aac"]
"""The steps of all kinds of media: what a child may name, and how many labels a metric can get."""

_Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
_FactName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
_ClassName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_MAX_FACTS = 64
_MAX_MADE = 16  # files of one step; an HLS of three qualities has seven
_VARIANT = r"^(?:compressed|webp|thumbnail|small|medium|large|preview|aac|waveform|hls(?:/[a-z0-9][a-z0-9._-]{0,31})?)$"
_RENDITION_TYPE = r"^(?:(?:image|video|audio)/[a-z0-9.-]{1,32}|application/vnd\.apple\.mpegurl)$"  # nothing that runs


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Ready(_Answer):
    """The child is confined, and waits for its first job."""

    event: Literal["ready"]
    active: tuple[_Code, ...]
    missing: tuple[_Code, ...]


class StepBegan(_Answer):
    """From now on, whatever happens to the child has happened in this step."""

    event: Literal["began"]
    step: StepName


class MadeFile(_Answer):
    """A rendition, as the child claims."""

    name: Annotated[str, Field(pattern=_VARIANT)]
    path: Annotated[str, Field(max_length=4096)]
    content_type: Annotated[str, Field(pattern=_RENDITION_TYPE)]


class StepMade(_Answer):
    """The step has ended, and these files are written."""

    event: Literal["made"]
    step: StepName
    seconds: _Seconds
    made: Annotated[tuple[MadeFile, ...], Field(max_length=_MAX_MADE)]
    facts: Annotated[dict[_FactName, JsonValue], Field(max_length=_MAX_FACTS)]

    @field_validator("facts")
    @classmethod
    def _storable(cls, facts: dict[str, Any]) -> dict[str, Any]:
        """Refuse what JSON in a database cannot hold: no number, an infinite one, or text with a NUL."""
        if "\\u0000" in json.dumps(facts, allow_nan=False).replace("\\\\", ""):
            raise ValueError("NUL")
        return facts


class StepFailed(_Answer):
    """The step has failed; without a name it was the look at the medium that did, and there are no steps."""

    event: Literal["failed"]
    step: StepName | Literal[""]
    seconds: _Seconds
    code: _Code
    error: _ClassName


class JobDone(_Answer):
    """There are no more steps; the child waits for its next job."""

    event: Literal["done"]


Answer = Ready | StepBegan | StepMade | StepFailed | JobDone

_answers: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="event")])


def parse(line: bytes) -> Answer:
    """Return what a line says; raises ValueError where it is none that a child may send."""
    return _answers.validate_json(line)
