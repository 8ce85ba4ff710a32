"""Which exit heads a run fits. Free of torch."""

from itertools import product
from typing import NamedTuple

from lraee.exits.settings import Aggregation, HeadSettings, Supervision
from lraee.exits.variants import BASE
from lraee.settings import Settings


class HeadKey(NamedTuple):
    """Which head: the variant it belongs to, the layer it reads, what it reads there, and what it was taught."""

    variant: str
    layer: int
    aggregation: str
    supervision: str


class HeadPlan(Settings):
    """Which heads a run fits: the layers of exits (`candidates`), `depth`, and the headline's kind of head.

    `base` has every kind of head at the candidates and at full depth, and the headline's supervision at every layer.
    Other variants have the headline's kind at the candidates, and every aggregation of its supervision at full depth.
    """

    candidates: tuple[int, ...]
    depth: int
    aggregation: Aggregation
    supervision: Supervision

    def keys(self, settings: HeadSettings, variant: str) -> list[HeadKey]:
        """The heads of a variant, in the order in which the stacked parameters hold them."""
        every, exits = range(1, self.depth + 1), (*self.candidates, self.depth)
        if variant == BASE:
            kinds = product(every, settings.aggregations, settings.supervisions)
            return [HeadKey(BASE, *k) for k in kinds if k[0] in exits or k[2] == self.supervision]
        at_exits = [HeadKey(variant, layer, self.aggregation, self.supervision) for layer in self.candidates]
        return at_exits + [HeadKey(variant, self.depth, a, self.supervision) for a in settings.aggregations]
