"""Train the embedded CLIP and write its weights into the package."""

from pathlib import Path

from _job import logged

from lraee.models.embedded.train import WEIGHTS, Recipe, export, train

with logged(snakemake):
    checkpoint = Path(snakemake.params.checkpoint)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    export(train(Recipe(), checkpoint, snakemake.threads), WEIGHTS)
