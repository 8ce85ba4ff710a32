"""The paper's own numbers, as data. They are shown beside ours only where the setting is the paper's.

Shares and accuracies are 0..1. Quadrants are shares of the paper's 10,000 images, and our shares of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SOURCE = "“The Rescue Effect” (LRA-EE), arXiv 2605.26415"
SETTING = "CLIP ViT-B/32 on ImageNet-1K (validation), dynamic INT8"

Kind = Literal["share", "points", "value"]


@dataclass(frozen=True)
class PaperNumber:
    """One number of the paper: where it stands, what it is, and the key under which ``coverage`` measures ours."""

    where: str
    quantity: str
    value: float
    key: str
    kind: Kind = "share"


def _profile() -> tuple[PaperNumber, ...]:
    percent = (1, 2, 3, 4, 5, 6, 8, 10, 30, 40, 52, 48)
    return tuple(
        PaperNumber("Fig. 1", f"NSR after block {layer}", value / 100, f"nsr:{layer}")
        for layer, value in enumerate(percent, start=1)
    )


NUMBERS: tuple[PaperNumber, ...] = (
    *_profile(),
    PaperNumber("Fig. 2", "Images leaving after block 8", 0.101, "share:8"),
    PaperNumber("Fig. 2", "Images leaving after block 10", 0.253, "share:10"),
    PaperNumber("Fig. 2", "Images leaving after block 11", 0.321, "share:11"),
    PaperNumber("Fig. 2", "Images that stay to the end", 0.325, "share:12"),
    PaperNumber("Fig. 4", "Quantization MSE after block 8", 0.003638, "mse:8", "value"),
    PaperNumber("Fig. 4", "Quantization MSE after block 9", 0.007532, "mse:9", "value"),
    PaperNumber("Table 1", "Full depth, top-1", 0.5872, "full"),
    PaperNumber("Table 1", "LRA-EE optimised, top-1 (3 runs, ± 0.06)", 0.6116, "routed"),
    PaperNumber("Table 1", "LRA-EE optimised, FLOPs saved by the paper's count", 0.1338, "saved_blocks"),
    PaperNumber("Table 1", "LRA-EE optimised minus full depth", 0.0244, "margin", "points"),
    PaperNumber("Table 2", "PABEE, top-1 at 3.64 % saved", 0.6182, "policy:patience"),
    PaperNumber("Fig. 3", "Confidence alone, top-1 at 4.7 % saved (its peak)", 0.6028, "policy:confidence"),
    PaperNumber("Table 3", "SSA on the last layer, hard labels, top-1", 0.5918, "refit:ssa:hard"),
    PaperNumber("Table 3", "SSA on the last layer, distilled, top-1", 0.5965, "refit:ssa:distilled"),
    PaperNumber("Table 3", "Routed, hard labels, top-1", 0.6042, "routed:hard"),
    PaperNumber("Table 3", "Routed, distilled, top-1", 0.6116, "routed:distilled"),
    PaperNumber("Table 4", "Both right (5,162 of 10,000)", 0.5162, "quadrant:both_right"),
    PaperNumber("Table 4", "Rescue (947 of 10,000)", 0.0947, "quadrant:rescue"),
    PaperNumber("Table 4", "Loss (710 of 10,000)", 0.0710, "quadrant:loss"),
    PaperNumber("Table 4", "Both wrong (3,181 of 10,000)", 0.3181, "quadrant:both_wrong"),
    PaperNumber("Section 6.2", "[CLS] head at block 8, top-1", 0.2173, "static:cls:8"),
    PaperNumber("Section 6.2", "SSA head at block 8, top-1 (47.20 elsewhere)", 0.4560, "static:ssa:8"),
    PaperNumber("Section 6.2", "SSA head at block 9, top-1", 0.5300, "static:ssa:9"),
    PaperNumber("Section 6.2", "SSA head at block 11, top-1", 0.6140, "static:ssa:11"),
    PaperNumber("Section 7.2", "Share of images that leave early", 0.757, "early:share"),
    PaperNumber("Section 7.2", "Accuracy of those that leave early", 0.6881, "early:accuracy_exit"),
    PaperNumber("Section 7.2", "Accuracy of the rest", 0.3700, "early:accuracy_rest"),
)
"""Every number of the paper that this report can measure, too."""
