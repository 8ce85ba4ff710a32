"""Exits that really stop: load what the benchmark exported, and classify images.

from lraee.runtime import EarlyExitCLIP

model = EarlyExitCLIP.load("results/shapes/exports/w8a8")
print(model.predict(["photo.jpg"]))
"""

from lraee.runtime.classifier import EarlyExitCLIP, Prediction
from lraee.runtime.folder import ExportError

__all__ = ["EarlyExitCLIP", "ExportError", "Prediction"]
