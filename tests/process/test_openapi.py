"""What schemathesis sends by the OpenAPI document, over real sockets: what fits it, and what does not."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mosel.core.tables import Device, Mode, Profile
from mosel.frontend.config import Address
from mosel.frontend.connection import at_most
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.server import listen, url_of
from mosel.frontend.service import Service
from mosel.models.base import Modality, Model, Tensor
from mosel.online.serving import ServedModel

pytestmark = pytest.mark.process

EXAMPLES = 12
MODEL = Model(
    "m",
    (
        Modality("text", (Tensor("tokens", "INT64", (-1,), limits=(5,)),)),
        Modality("sound", (Tensor("wave", "FP32", (2,)), Tensor("loud", "BOOL", ()))),
    ),
    (Tensor("scores", "FP32", (3,)), Tensor("label", "INT64", ())),
    lambda _device, _precision: lambda **_: {},
)
PROFILE = Profile(
    format="mosel.profile/1",
    model="m",
    modalities=("text", "sound"),
    metric="accuracy",
    batch_sizes=(1,),
    modes=tuple(
        Mode(names, accuracy, accuracy, 1, [0.01], [0.01], [1])
        for names, accuracy in ((("text",), 0.6), (("sound",), 0.8), (("text", "sound"), 0.9))
    ),
    device=Device("none", "host"),
    precision="float32",
    software={},
    measured_at="2026-11-22T00:00:00Z",
)
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where a server listens that runs in a thread and answers each job at once."""
    app = HttpApp(Service(InstantEngine(zeros(MODEL)), [ServedModel("m", MODEL, PROFILE)]))
    server = uvicorn.Server(
        uvicorn.Config(app, http=at_most(64), ws="none", lifespan="off", log_config=None, proxy_headers=False)
    )
    with listen(Address("127.0.0.1", 0)) as listening:
        running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        running.start()
        try:
            yield url_of(listening)
        finally:
            server.should_exit = True
            running.join()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_answers_are_as_the_document_says(url: str, mode: GenerationMode) -> None:
    """To calls that fit it and to calls that do not: described status, headers and body; no 5xx but 503."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    with requests.Session() as session:
        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            operation = result.ok()
            if mode is GenerationMode.NEGATIVE and not (
                operation.path_parameters or operation.query or operation.body
            ):
                continue
            assert session.post(f"{url}/v2/repository/models/m/load").status_code == 200

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Case[Any]) -> None:
                response = case.call(base_url=url, session=session, timeout=30)
                assert response.status_code < 500 or response.status_code == 503
                case.validate_response(response, checks=CHECKS)

            check()


WAVE = {"name": "wave", "datatype": "FP32", "shape": [1, 2]}
LOUD = {"name": "loud", "datatype": "BOOL", "shape": [1], "data": [True]}
RAW_WAVE = {**WAVE, "parameters": {"binary_data_size": 8}}


@pytest.mark.parametrize("raw_outputs", [False, True])
@pytest.mark.parametrize("wave", [{**WAVE, "data": [0, 1]}, RAW_WAVE])
def test_an_answer_with_outputs_is_as_the_document_says(
    url: str, wave: dict[str, Any], raw_outputs: bool
) -> None:
    """With tensors in JSON and raw, both ways."""
    head: Any = {"id": "a", "inputs": [wave, LOUD], "parameters": {"binary_data_output": raw_outputs}}
    content = json.dumps(head).encode()
    length = {"Inference-Header-Content-Length": str(len(content))}
    operation = schemathesis.openapi.from_url(f"{url}/openapi.json")["/v2/models/{model}/infer"]["POST"]
    assert requests.post(f"{url}/v2/repository/models/m/load", timeout=30).status_code == 200
    if wave is RAW_WAVE:
        case = operation.Case(
            path_parameters={"model": "m"},
            headers=length,
            body=content + bytes(8),
            media_type="application/octet-stream",
        )
    else:
        case = operation.Case(path_parameters={"model": "m"}, body=head, media_type="application/json")
    response = case.call(base_url=url, timeout=30)
    assert response.status_code == 200
    case.validate_response(response, checks=CHECKS)
    told = response.headers["content-type"][0]
    assert told == ("application/octet-stream" if raw_outputs else "application/json")
