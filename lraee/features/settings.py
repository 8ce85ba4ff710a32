"""Settings of the feature store."""

from lraee.settings import PositiveInt, Settings


class FeatureSettings(Settings):
    """How features are kept: `shard` is the number of images in a file.

    One job computes one file: what an interruption loses, and what a cluster hands to one node.
    """

    shard: PositiveInt = 10_000
