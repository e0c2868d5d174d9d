"""mosel: an inference server that chooses modalities so that multi-modal models meet their deadlines.

The names a model's author needs are here; everything else is imported from its own module.
"""

from mosel.models.base import Modality, Model, Recipe, Samples, Tensor

__version__ = "0.1.0"

__all__ = ["Modality", "Model", "Recipe", "Samples", "Tensor", "__version__"]
