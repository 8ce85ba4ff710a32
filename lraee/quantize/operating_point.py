"""Another quantizer's fitted exits, as a setting."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from lraee.settings import Name, Settings

if TYPE_CHECKING:
    import pandas as pd


class OperatingPoint(Settings):
    """The risk-controlled exits (`exits.risk`) of a quantizer of the experiment."""

    quantizer: Name
    policy: str = "learned-gate"
    threshold_rule: str = "risk-disagreement"
    risk: float = Field(gt=0.0, lt=1.0)

    def shares(self, utilisation: "pd.DataFrame") -> Sequence[float]:
        """Read off the quantizer's table the share of images that execute each block.

        ValueError where no thresholds kept the risk, so that there is no such operating point.
        """
        own = {"policy": self.policy, "threshold_rule": self.threshold_rule, "risk": self.risk}
        rows = utilisation[(utilisation[list(own)] == list(own.values())).all(axis=1)]
        if rows.empty:
            named = f"{self.threshold_rule} thresholds of {self.policy} at {self.risk}"
            raise ValueError(f"{self.quantizer} has no {named}: none kept that risk; allow a larger one")
        return [float(share) for share in rows.sort_values("layer")["share"]]
