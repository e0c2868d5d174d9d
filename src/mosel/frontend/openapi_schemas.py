"""JSON schemas of what travels over REST, from the models that are served (`docs/formats.md` has the words).

Answers are closed: a key that is not told of here is none. How they are asked for is `openapi.py`'s business.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mosel.core.states import OUTCOMES, Reason
from mosel.frontend.best import Choice
from mosel.frontend.parameters import (
    LARGEST_WEIGHT,
    LEAST_WEIGHT,
    LONGEST_LENGTH,
    LONGEST_SLO_MS,
    LOWEST_PRIORITY,
    TENANT_LIMIT,
)
from mosel.frontend.repository import READY, UNAVAILABLE
from mosel.frontend.statistics import PARTS
from mosel.models.base import DATATYPES, Model, Tensor

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
OBJECT: Schema = {"type": "object"}
RAW: Schema = {"description": "The JSON object, and behind it the raw tensors in its order, little-endian."}


def closed(properties: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with all of `properties`, perhaps some `optional` ones, and no more."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": {**properties, **(optional or {})},
        "additionalProperties": False,
    }


def listed(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def one_of(names: Iterable[str]) -> Schema:
    """Return the schema of a word out of a set."""
    return {"type": "string", "enum": list(names)}


def _wish(lowest: float, highest: float, *, whole: bool = False, above: bool = False) -> Schema:
    """Return the schema of a parameter that is a number, or a number as a string."""
    kind = "integer" if whole else "number"
    least = {"exclusiveMinimum" if above else "minimum": lowest}
    return {"anyOf": [{"type": kind, **least, "maximum": highest}, STRING]}


_WISHES: Schema = {
    "accuracy_slo": _wish(0, 1),
    "latency_slo_ms": _wish(0, LONGEST_SLO_MS, above=True),
    "timeout": _wish(0, LONGEST_SLO_MS * 1000, above=True),
    "weight": _wish(LEAST_WEIGHT, LARGEST_WEIGHT),
    "priority": _wish(0, LOWEST_PRIORITY, whole=True),
    "tenant": {"type": "string", "maxLength": TENANT_LIMIT},
    "length": _wish(0, LONGEST_LENGTH, above=True),
}


def inference_request(models: Sequence[Model], most_requests: int) -> Schema:
    """Return the schema of a request's JSON object: one alternative a model."""
    return {"anyOf": [_request_of(model, most_requests) for model in models]}


def _request_of(model: Model, most_requests: int) -> Schema:
    tensors = [tensor for modality in model.modalities for tensor in modality.inputs]
    return {
        "title": model.name,
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": STRING,
            "parameters": {
                "type": "object",
                "properties": {**_WISHES, "binary_data_output": BOOLEAN, "offer": STRING},
                "additionalProperties": False,
            },
            "inputs": {
                "type": "array",
                "minItems": 1,
                "maxItems": len(tensors),
                "items": {"anyOf": [_input(tensor, most_requests) for tensor in tensors]},
            },
            "outputs": {"type": "array", "maxItems": len(model.outputs), "items": _output_asked_for(model)},
        },
    }


def _input(tensor: Tensor, most_requests: int) -> Schema:
    limits = iter(tensor.limits)
    sizes = [
        {"type": "integer", "minimum": 1, "maximum": next(limits)} if size == -1 else {"const": size}
        for size in tensor.shape
    ]
    first = {"type": "integer", "minimum": 1, "maximum": most_requests}
    return {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"const": tensor.name},
            "datatype": {"const": tensor.datatype},
            "shape": {
                "type": "array",
                "prefixItems": [first, *sizes],
                "items": False,
                "minItems": 1 + len(sizes),
            },
            "parameters": {"type": "object", "properties": {"binary_data_size": COUNT}},
            "data": {
                "type": "array",
                "description": "The values row by row, nested or not; left out where they travel raw.",
            },
        },
    }


def _output_asked_for(model: Model) -> Schema:
    return {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": one_of(tensor.name for tensor in model.outputs),
            "parameters": {"type": "object", "properties": {"binary_data": BOOLEAN}},
        },
    }


def offer_request(models: Sequence[Model], most_requests: int) -> Schema:
    """Return the schema of an offer."""
    names = dict.fromkeys(name for model in models for name in model.modality_names)
    return closed(
        {"requests": {"type": "integer", "minimum": 1, "maximum": most_requests}},
        {
            "modalities": listed(one_of(names)),
            "parameters": {"type": "object", "properties": _WISHES, "additionalProperties": False},
            "steps": {"type": "integer", "minimum": 1, "maximum": 2},
        },
    )


def feedback_request(most_requests: int) -> Schema:
    """Return the schema of a feedback."""
    score = {"anyOf": [BOOLEAN, {"type": "number", "minimum": 0, "maximum": 1}]}
    return closed(
        {"id": STRING, "scores": {"type": "array", "items": score, "maxItems": most_requests}},
        {"tenant": {"type": "string", "maxLength": TENANT_LIMIT}},
    )


COUNTED = closed(
    {
        "model_name": STRING,
        "id": STRING,
        "counted": {"type": "object", "additionalProperties": COUNT},
        "left_out": COUNT,
    }
)

_MAYBE: Schema = {"type": ["number", "null"]}
_VERDICT: Schema = {"type": ["boolean", "null"]}

_AGREEMENT = closed(
    {
        "mean": NUMBER,
        "low": NUMBER,
        "high": NUMBER,
        "shadows": COUNT,
        "accuracy_low": NUMBER,
        "accuracy_high": NUMBER,
        "holds": _VERDICT,
    }
)

LIVE_ACCURACY = closed(
    {
        "model_name": STRING,
        "metric": STRING,
        "modes": listed(
            closed(
                {
                    "mode": STRING,
                    "profiled": NUMBER,
                    "live": _MAYBE,
                    "low": _MAYBE,
                    "high": _MAYBE,
                    "scores": COUNT,
                    "holds": _VERDICT,
                    "agreement": {"oneOf": [{"type": "null"}, _AGREEMENT]},
                }
            )
        ),
        "cascades": listed(
            closed(
                {
                    "mode": STRING,
                    "escalated": BOOLEAN,
                    "from": _MAYBE,
                    "to": _MAYBE,
                    "expected": NUMBER,
                    "live": NUMBER,
                    "low": NUMBER,
                    "high": NUMBER,
                    "scores": COUNT,
                    "holds": {"type": ["boolean", "null"]},
                }
            )
        ),
        "cascade_agreement": listed(
            closed({"mode": STRING, "shadows": COUNT, "agreement": NUMBER, "least": NUMBER, "holds": _VERDICT})
        ),
    }
)

OFFERED = closed(
    {
        "model_name": STRING,
        "offer": STRING,
        "modalities": listed(STRING),
        "inputs": listed(STRING),
        "hold_ms": NUMBER,
    },
    {"requests": listed(COUNT)},
)

RECEIPT = closed(
    {
        "outcome": one_of(OUTCOMES),
        "reason": one_of(Reason),
        "modes": STRING,
        "arrival_s": NUMBER,
        "decided_ms": NUMBER,
        "batches": {"type": "string", "contentMediaType": "application/json"},
    },
    {
        "decision": one_of(Choice),
        "expected_accuracy": NUMBER,
        "queue_ms": NUMBER,
        "compute_ms": NUMBER,
        "slack_ms": NUMBER,
    },
)

_TENSOR_HEAD: Schema = {"name": STRING, "datatype": one_of(DATATYPES), "shape": listed({"type": "integer"})}

ANSWER = closed(
    {
        "model_name": STRING,
        "model_version": STRING,
        "parameters": RECEIPT,
        "outputs": listed(
            {
                "oneOf": [
                    closed({**_TENSOR_HEAD, "data": {"type": "array"}}),
                    closed({**_TENSOR_HEAD, "parameters": closed({"binary_data_size": COUNT})}),
                ]
            }
        ),
    },
    {"id": STRING},
)

ERROR = closed({"error": STRING}, {"parameters": RECEIPT})

SERVER = closed({"name": {"const": "mosel"}, "version": STRING, "extensions": listed(STRING)})

METADATA = closed(
    {
        "name": STRING,
        "versions": listed(STRING),
        "platform": STRING,
        "inputs": listed(
            closed(
                {
                    **_TENSOR_HEAD,
                    "parameters": closed({"modality": STRING, "limits": listed(COUNT)}, {"most_bytes": COUNT}),
                }
            )
        ),
        "outputs": listed(closed(_TENSOR_HEAD)),
        "parameters": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
    }
)

_CONFIGURED: Schema = {"name": STRING, "data_type": STRING, "dims": listed({"type": "integer"})}

CONFIGURATION = closed(
    {
        "name": STRING,
        "platform": STRING,
        "backend": STRING,
        "max_batch_size": COUNT,
        "input": listed(closed({**_CONFIGURED, "optional": BOOLEAN})),
        "output": listed(closed(_CONFIGURED)),
        "parameters": {"type": "object", "additionalProperties": closed({"string_value": STRING})},
    }
)

_SUM = closed({"count": COUNT, "ns": COUNT})

STATISTICS = closed(
    {
        "model_stats": listed(
            closed(
                {
                    "name": STRING,
                    "version": STRING,
                    "last_inference": COUNT,
                    "inference_count": COUNT,
                    "execution_count": COUNT,
                    "inference_stats": closed(dict.fromkeys(PARTS, _SUM)),
                    "batch_stats": listed(
                        closed(
                            {
                                "batch_size": COUNT,
                                "compute_input": _SUM,
                                "compute_infer": _SUM,
                                "compute_output": _SUM,
                            }
                        )
                    ),
                }
            )
        )
    }
)

INDEX = listed(
    closed({"name": STRING, "version": STRING, "state": one_of((READY, UNAVAILABLE)), "reason": STRING})
)
