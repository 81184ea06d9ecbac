"""``GET /openapi.json``: one operation for each method, in OpenAPI 3.1."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from perdure.wire import JSON, KEY_HEADER, KEY_PATTERN, MSGPACK, Answer, Failure, Method, Parameter

_POSITION_KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORD_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_REFUSALS = {
    "400": "The body cannot be read.",
    "401": "The token is missing or not known.",
    "403": "The token may not do this.",
    "405": "Calls are made with POST.",
    "406": "A query returned what cannot be sent in this format.",
    "408": "The body took too long to arrive.",
    "409": "The method raised an exception: the body says which.",
    "413": "The body is too large.",
    "415": "The body is of another type.",
    "422": "The arguments are not those of the method, or the key belongs to another command.",
    "429": "Too many calls at once: come again.",
    "503": "The disk refused. The body's `outcome` says what became of the command.",
    "504": "No answer in time. A command goes on, and runs once: ask again with the same key.",
}


def openapi(cls: type, methods: Mapping[str, Method], *, version: str, has_tokens: bool) -> dict[str, Any]:
    """The document for the public methods of a class."""
    hints: list[Any] = [each.returns for each in methods.values()]
    hints += [parameter.hint for each in methods.values() for parameter in each.parameters or ()]
    schemas, components = _schemas([*hints, Failure])
    paths = {f"/call/{name}": {"post": _operation(method, schemas, has_tokens)} for name, method in methods.items()}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": cls.__name__,
            "description": inspect.getdoc(cls) or f"The public methods of {cls.__name__}.",
            "version": version,
        },
        "paths": paths,
        "components": {
            "schemas": {
                **components,
                "Refusal": {
                    "type": "object",
                    "properties": {"error": schemas[repr(Failure)]},
                    "required": ["error"],
                },
            }
        },
    }
    if has_tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _schemas(hints: Iterable[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON schema of each type, by its ``repr``; and the components that they refer to."""
    known = [hint for hint in {repr(each): each for each in hints}.values() if hint is not Any]
    usable: list[Any] = []
    schemas: dict[str, Any] = {repr(Any): {}}
    for hint in known:
        try:
            msgspec.json.schema_components([hint], schema_hook=_schema_of_object)
            usable.append(hint)
        except (TypeError, ValueError, NotImplementedError):
            schemas[repr(hint)] = {}
    found, components = msgspec.json.schema_components(
        usable, schema_hook=_schema_of_object, ref_template="#/components/schemas/{name}"
    )
    schemas.update({repr(hint): _as_taken(schema) for hint, schema in zip(usable, found, strict=True)})
    return schemas, {name: _as_taken(schema) for name, schema in components.items()}


def _as_taken(schema: Any) -> Any:
    """What is taken is a little more than msgspec says: of equal members of a set one is kept."""
    if isinstance(schema, dict):
        return {key: _as_taken(value) for key, value in schema.items() if key != "uniqueItems"}
    return [_as_taken(value) for value in schema] if isinstance(schema, list) else schema


def _schema_of_object(kind: type) -> dict[str, Any]:
    return {"not": {}, "description": f"A {kind.__qualname__}: only perdure's own client can send one."}


def _operation(method: Method, schemas: Mapping[str, Any], has_tokens: bool) -> dict[str, Any]:
    summary, _, _ = method.doc.partition("\n")
    body = _body(method, schemas)
    result = dict(schemas[repr(method.returns)])
    result.pop("not", None)
    answer = {
        "type": "object",
        "properties": {
            "result": {} if result.keys() == {"description"} else {"anyOf": [result, {"type": "null"}]},
            "is_self": {"type": "boolean"},
            "unsendable": {"type": ["string", "null"]},
        },
        "required": list(Answer.__struct_fields__),
    }
    refusals = {status: text for status, text in _REFUSALS.items() if has_tokens or status not in ("401", "403")}
    operation: dict[str, Any] = {
        "operationId": method.name,
        "summary": summary or f"Call {method.name}.",
        "description": method.doc or f"Call {method.name}.",
        "tags": [method.kind],
        "requestBody": {
            "required": _needs_arguments(method),
            "content": {JSON: {"schema": body}, MSGPACK: {"schema": body}},
        },
        "responses": {
            "200": {
                "description": "What the method returned.",
                "content": {JSON: {"schema": answer}, MSGPACK: {"schema": answer}},
            },
            **{status: _refusal(text) for status, text in refusals.items()},
        },
    }
    if not method.is_query:
        operation["parameters"] = [
            {
                "name": KEY_HEADER,
                "in": "header",
                "required": False,
                "description": "1 to 200 printable ASCII characters. The same key again runs nothing, and gives the "
                "same answer, also after a restart.",
                "schema": {"type": "string", "pattern": KEY_PATTERN},
            }
        ]
    return operation


def _refusal(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Refusal"}
    return {"description": text, "content": {JSON: {"schema": schema}, MSGPACK: {"schema": schema}}}


def _needs_arguments(method: Method) -> bool:
    return any(each.required for each in method.parameters or ())


def _body(method: Method, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """All ways to give the arguments: the first ones by position, the others by name."""
    parameters = method.parameters
    if parameters is None:
        return _call({"type": "array"}, {"type": "object"}, args=False, kwargs=False)
    by_position = [each for each in parameters if each.kind in _POSITION_KINDS]
    ways = []
    for count in range(len(by_position) + 1):
        rest = by_position[count:]
        if any(each.kind is each.kind.POSITIONAL_ONLY and each.required for each in rest):
            continue
        ways.append(_way(parameters, by_position[:count], last=count == len(by_position), schemas=schemas))
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


def _way(
    parameters: tuple[Parameter, ...], first: list[Parameter], *, last: bool, schemas: Mapping[str, Any]
) -> dict[str, Any]:
    args: dict[str, Any] = {"type": "array", "minItems": len(first)}
    if first:
        args["prefixItems"] = [schemas[repr(each.hint)] for each in first]
    more = next((each for each in parameters if each.kind is each.kind.VAR_POSITIONAL), None)
    if more is not None and last:
        args["items"] = schemas[repr(more.hint)]
    else:
        args["maxItems"] = len(first)
    named = [each for each in parameters if each.kind in _KEYWORD_KINDS and each not in first]
    kwargs: dict[str, Any] = {
        "type": "object",
        "properties": {each.name: schemas[repr(each.hint)] for each in named},
        "additionalProperties": False,
    }
    required = [each.name for each in named if each.required]
    if required:
        kwargs["required"] = required
    others = next((each for each in parameters if each.kind is each.kind.VAR_KEYWORD), None)
    if others is not None:
        kwargs["additionalProperties"] = schemas[repr(others.hint)]
        if first:
            kwargs["propertyNames"] = {"not": {"enum": [each.name for each in first]}}
    return _call(args, kwargs, args=bool(first), kwargs=bool(required))


def _call(args_schema: dict[str, Any], kwargs_schema: dict[str, Any], *, args: bool, kwargs: bool) -> dict[str, Any]:
    needed = [name for name, is_needed in (("args", args), ("kwargs", kwargs)) if is_needed]
    return {
        "type": "object",
        "properties": {"args": args_schema, "kwargs": kwargs_schema},
        "additionalProperties": False,
        **({"required": needed} if needed else {}),
    }
