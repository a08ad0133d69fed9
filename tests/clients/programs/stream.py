"""A stream read by httpx with httpx-sse, or by requests: reports what it sees, one JSON a line.

The argument names the library; the first line of standard input holds {"url"}.
"""

import json
import sys

import httpx
import httpx_sse
import requests


def report(**what):
    print(json.dumps(what))


def refused(status, body):
    report(status=status, code=json.loads(body)["error"]["code"])


def by_httpx(url, **options):
    with httpx.Client(trust_env=False, **options) as client:
        with httpx_sse.connect_sse(client, "GET", url) as source:
            if source.response.status_code != 200:
                return refused(source.response.status_code, source.response.read())
            report(open=source.response.http_version)
            for event in source.iter_sse():
                report(event=event.event, data=event.data, id=event.id)
    report(end="clean")


def by_requests(url):
    session = requests.Session()
    session.trust_env = False
    with session.get(url, stream=True, timeout=60) as response:
        if response.status_code != 200:
            return refused(response.status_code, response.content)
        report(open=response.raw.version_string)
        for line in response.iter_lines():
            report(line=line.decode())
    report(end="clean")


report(ready=True)
order = json.loads(sys.stdin.readline())
try:
    match sys.argv[1]:
        case "httpx":
            by_httpx(order["url"], timeout=httpx.Timeout(5, read=60))
        case "httpx with its own time-out":
            by_httpx(order["url"])
        case "requests":
            by_requests(order["url"])
except (httpx.HTTPError, requests.RequestException) as error:
    report(end=type(error).__name__)
