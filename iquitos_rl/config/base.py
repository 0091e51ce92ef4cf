"""What every configuration model shares: unknown keys are errors, values are immutable."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Fraction", "NonNegative", "Positive", "StrictModel"]

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class StrictModel(BaseModel):
    """A section of a YAML file.

    A key the model does not know is an error (a misspelt key must never be ignored), a value is never
    coerced across kinds that YAML can tell apart (a string is no number), and an instance cannot be changed
    after it has been checked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
