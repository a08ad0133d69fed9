"""A backend for any WSGI server: reports each callback, one JSON a line, and has everybody hear news."""

import json


def application(environ, start_response):
    callback = json.load(environ["wsgi.input"])
    callback["path"] = environ["PATH_INFO"]
    print(json.dumps(callback), flush=True)
    is_connect = callback["action"] == "connect"
    answer = json.dumps({"channels": ["news"]} if is_connect else {}).encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
