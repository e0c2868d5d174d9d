import re

import torch
from torch import nn

from mosel.core.tables import read_profile
from mosel.models import selfmm, tvlt, vilt
from mosel.models.avhubert.network import AVHubert
from mosel.models.avhubert.shape import SHAPES as AVHUBERT_SHAPES
from mosel.models.avhubert.vocabulary import DIGITS, placeholder, words
from mosel.models.base import Model
from mosel.models.registry import find, zoo
from mosel.models.selfmm.network import SelfMM
from mosel.models.tbn.network import TBN
from mosel.models.tbn.shape import SHAPES as TBN_SHAPES
from mosel.models.tvlt.network import TVLT
from mosel.models.vilt.network import ViLT
from tests.docs.blocks import ROOT
from tests.docs.test_pages import load_script

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
LISTED = {
    found[1]: (float(found[2]), int(found[3]))
    for found in re.finditer(r"^\| `([\w-]+)` \| [^|]+ \| ([\d.]+) M \| (\d+)", PAGE, re.MULTILINE)
}
"""By zoo name the parameters in millions, and the modes at one precision."""


def networks() -> dict[str, nn.Module]:
    """Return a network of each size, with no memory behind it."""
    with torch.device("meta"):
        made: dict[str, nn.Module] = {}
        for size, suffix in (("full", ""), ("small", "-small")):
            made[f"tvlt{suffix}"] = TVLT(tvlt.SHAPES[size])
            made[f"vilt{suffix}"] = ViLT(vilt.SHAPES[size], 2)
            made[f"selfmm{suffix}"] = SelfMM(selfmm.SHAPES[size])
            made[f"tbn{suffix}"] = TBN(TBN_SHAPES[size])
        for size, name in (("base", "avhubert"), ("large", "avhubert-large"), ("small", "avhubert-small")):
            vocabulary = words(DIGITS) if size == "small" else placeholder()
            made[name] = AVHubert(AVHUBERT_SHAPES[size], vocabulary)
        return made


def test_the_page_counts_parameters_as_they_are() -> None:
    """Rounded to the digits that it shows."""
    for name, network in networks().items():
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert LISTED[name][0] == round(millions, 1), name


def test_the_page_counts_modes_as_they_are() -> None:
    """One for each combination of modalities."""
    for name, (_, modes) in LISTED.items():
        model: Model = find(name)
        assert len(model.combinations()) == modes, name


def test_every_model_of_the_zoo_is_on_the_page() -> None:
    """A name that can be given is explained."""
    assert {name for name in zoo() if f"`{name}`" not in PAGE} <= {"av-digits"}


def test_the_page_shows_what_the_profiles_measured() -> None:
    """The table of accuracies is the one that the script makes of the committed profiles."""
    script = load_script("zoo_table")
    assert script.block() in PAGE, "run .venv/bin/python scripts/zoo_table.py"


def test_the_profiles_of_the_small_models_are_of_the_weights_that_ship() -> None:
    """Weights that were trained anew need new profiles: the version in each is that of the model."""
    script = load_script("zoo_table")
    for name in script.NAMES:
        extra = read_profile(script.profile_of(name)).profile.extra or {}
        assert (extra["version"], extra["accuracy_source"]) == (find(name).version, "measured"), name
