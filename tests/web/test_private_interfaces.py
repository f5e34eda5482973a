"""Each private interface of a library that the package needs still exists. A failure names the one that is gone."""

import importlib

import pytest

USED = {
    "asyncpg.connection": ["Connection._transport"],
    "litestar._kwargs.extractors": ["create_query_default_dict"],
    "litestar._openapi.schema_generation": ["SchemaCreator.for_field_definition"],
    "litestar._parsers": ["parse_cookie_string", "parse_query_string"],
    "litestar.dto._backend": ["DTOBackend"],
    "uvicorn._types": ["ASGI3Application"],
    "uvicorn.protocols.http.httptools_impl": [
        "RequestResponseCycle",
        *(
            f"HttpToolsProtocol.{name}"
            for name in (
                *("connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing"),
                *("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete"),
                *("on_response_complete", "send_400_response", "timeout_keep_alive_handler", "_start_asgi_task"),
            )
        ),
    ],
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in USED.items() for name in names])
def test_a_private_interface_still_exists(module: str, name: str) -> None:
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert found is not None
