"""What every settings class shares: frozen, unknown keys refused.

Settings live beside the code that uses them, so that a new quantizer, data source, model family or policy is one new
file; `lraee.config` puts them together. Modules that hold settings must stay free of torch: Snakemake reads them anew
in every job.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A frozen group of settings; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Bits = Annotated[int, Field(ge=2, le=8)]
PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]
"""A name that becomes part of a file name."""
