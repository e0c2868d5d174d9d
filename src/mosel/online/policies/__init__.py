"""Policies by name. To add one, write a function over a `View` and name it here."""

from mosel.online.policies.base import Options, Policy, cheapest, full_modalities, most_accurate
from mosel.online.policies.batching import none_batching
from mosel.online.policies.joint import joint
from mosel.online.policies.paper import aggressive, none, optimized, paper, random

POLICIES: dict[str, Policy] = {
    "none": Policy(none, first=full_modalities, least=full_modalities, drops=False),
    "none+batching": Policy(none_batching, first=full_modalities, least=full_modalities),
    "random": Policy(random, first=most_accurate, least=cheapest),
    "aggressive": Policy(aggressive, first=cheapest, least=cheapest),
    "paper": Policy(paper, first=most_accurate, least=cheapest),
    "optimized": Policy(optimized, first=most_accurate, least=cheapest),
    "joint": Policy(joint, first=cheapest, least=cheapest, shares=True),
}

DEFAULT = "joint"

__all__ = ["DEFAULT", "POLICIES", "Options", "Policy"]
