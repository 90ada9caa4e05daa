"""Checks /openapi.json: a validator accepts it, its codes are those of the program, and responses match their schemas."""

import json
import re
import urllib.error
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from pages import ROOT

EXAMPLES = {"room": "lobby", "language": "zh", "client": "c1-1", "user": "ada", "offset": "1"}
FILES = {
    "/docs/{name}": "/docs/protocol",
    "/docs/{language}/{name}": "/docs/zh/protocol",
    "/assets/{name}": "/assets/client.js",
    "/assets/{folder}/{name}": "/assets/client/client.js",
    "/assets/{folder}/{part}/{name}": "/assets/page/base/json.js",
}


def failures(pages, server_url):
    """Every fault, as one line each. The server has no key, and a message in the room `lobby`."""
    status, _, body = call(server_url + "/openapi.json", "GET")
    document = json.loads(body)
    found = [f"openapi.json: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()]
    found += code_failures(document, pages)
    publish(server_url)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            found += response_failures(document, server_url, path, method.upper(), operation)
    return found


def publish(server_url):
    message = json.dumps({"type": "message", "payload": "hello", "id": "1"}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{server_url}/rooms/lobby/messages", message, headers)).close()


def code_failures(document, pages):
    """The enumeration of error codes has those of the protocol and of the table in http.md, and no others."""
    source = (ROOT / "src/protocol/code.rs").read_text(encoding="utf-8")
    known = set(re.findall(r'Self::\w+ => "([a-z_]+)",', source.split("enum CloseCode")[0]))
    for page in pages:
        if page.path == ROOT / "assets/docs/http.md":
            cells = [cells[1] for title, cells in page.rows if title == "Errors"]
            known |= {code for cell in cells for code in re.findall(r"`([a-z_]+)`", cell)}
    described = set(document["components"]["schemas"]["ErrorCode"]["enum"])
    return [f"openapi.json: error codes differ: {sorted(known ^ described)}"] if known != described else []


def response_failures(document, server_url, path, method, operation):
    """Calls an operation, and compares status, content type and body with the description."""
    concrete = FILES.get(path) or re.sub(r"\{(\w+)\}", lambda name: EXAMPLES[name[1]], path)
    name = f"openapi.json: {method} {path}"
    if method == "POST":
        return body_failures(document, name)
    if path.endswith("/events"):
        # The stream has no end.
        return []
    status, content_type, body = call(server_url + concrete, method)
    responses = operation["responses"]
    if str(status) not in responses:
        return [f"{name}: the server responds with {status}"]
    described = resolved(document, responses[str(status)]).get("content", {})
    if not described and not body:
        return []
    media = content_type.split(";")[0]
    if media not in described:
        return [f"{name}: {status} has the content type {media}"]
    if media != "application/json":
        return []
    schema = {**described[media]["schema"], "components": document["components"]}
    return [f"{name}: {error.message}" for error in Draft202012Validator(schema).iter_errors(json.loads(body))]


def body_failures(document, name):
    schema = {**document["components"]["schemas"]["Publish"], "components": document["components"]}
    example = {"type": "message", "payload": {"any": [1, None]}, "id": "order-17"}
    return [f"{name}: {error.message}" for error in Draft202012Validator(schema).iter_errors(example)]


def resolved(document, node):
    while "$ref" in node:
        target = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def call(url, method):
    """The status, the content type and the body of a response."""
    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(urllib.request.Request(url, method=method), timeout=20) as response:
            return response.status, response.headers.get("Content-Type", ""), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("Content-Type", ""), error.read()
