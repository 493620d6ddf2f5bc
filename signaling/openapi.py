"""The OpenAPI 3.1 document, made from the table of endpoints and the pydantic models of their bodies and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import pydantic
from pydantic.json_schema import models_json_schema

from config.http import Endpoint

_PAGE: Final = {"cursor": "string", "limit": "integer"}
QUERIES: Final[dict[str, dict[str, str]]] = {
    "/api/v1/sessions": _PAGE,
    "/api/v1/sessions/{id}/messages": {"after": "string", "limit": "integer"},
    "/api/v1/wallet/transfers": _PAGE,
    "/api/v1/recordings": _PAGE
    | {"participant": "string", "session": "string", "from_ms": "integer", "to_ms": "integer", "held": "integer"}
    | {"kind": "string", "state": "string", "min_duration_ms": "integer", "max_duration_ms": "integer"}
    | {"tag": "string", "min_mos": "number", "max_mos": "number"},
    "/api/v1/recordings/{id}/accesses": _PAGE,
    "/api/v1/recordings/reports/access": _PAGE
    | {"from_ms": "integer", "to_ms": "integer", "user": "string", "recording": "string", "action": "string"}
    | {"format": "string"},
    "/api/v1/recordings/reports/lifecycle": _PAGE | {"from_ms": "integer", "to_ms": "integer", "format": "string"},
    "/api/v1/me/recordings": _PAGE | {"session": "string"},
}
"""Query parameters of GET endpoints, by path."""
_REF: Final = "#/components/schemas/{model}"


class ErrorBody(pydantic.BaseModel):
    """Why a request was not carried out: ``code`` for programs, ``message`` for people."""

    code: str
    message: str
    details: dict[str, Any]
    request_id: str


class ErrorAnswer(pydantic.BaseModel):
    """The one shape of errors."""

    error: ErrorBody


def document(endpoints: Iterable[Endpoint], version: str) -> dict[str, Any]:
    """The whole document, as JSON."""
    table = list(endpoints)
    models = {(entry.body, "validation") for entry in table if entry.body is not None}
    models |= {(entry.result, "serialization") for entry in table if entry.result is not None}
    models.add((ErrorAnswer, "serialization"))
    ordered: Any = sorted(models, key=lambda item: (item[0].__name__, item[1]))
    names, schemas = models_json_schema(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for entry in table:
        operation = _operation(entry, {**names})
        paths.setdefault(entry.path, {})[entry.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Turnpike", "version": version, "description": "Paid, recorded calls. See docs/protocol.md."},
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(entry: Endpoint, names: dict[Any, Any]) -> dict[str, Any]:
    words = [word for word in re.split(r"[/{}._-]+", entry.path.removeprefix("/api/v1")) if word]
    operation: dict[str, Any] = {
        "operationId": "_".join([entry.method.lower(), *words]),
        "summary": entry.summary,
        "responses": _responses(entry, names),
    }
    if entry.handler.__doc__:
        operation["description"] = entry.handler.__doc__.strip()
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)(?::[^}]*)?\}", entry.path)
    ]
    if entry.method == "GET":
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": {"type": type_}}
            for name, type_ in QUERIES.get(entry.path, {}).items()
        ]
    if parameters:
        operation["parameters"] = parameters
    if entry.body is not None:
        schema = names[entry.body, "validation"]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if entry.roles is not None:
        operation["security"] = [{"bearer": []}]
        operation["x-roles"] = sorted(role.value for role in entry.roles)
    return operation


def _responses(entry: Endpoint, names: dict[Any, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": names[ErrorAnswer, "serialization"]}}
    responses: dict[str, Any] = {"default": {"description": "Refused, or failed.", "content": error}}
    if entry.result is None:
        responses[str(entry.status)] = {"description": "Done; the content is not JSON, or there is none."}
    else:
        schema = names[entry.result, "serialization"]
        responses[str(entry.status)] = {
            "description": entry.summary + ".",
            "content": {"application/json": {"schema": schema}},
        }
    return responses
