"""Owns a small W&B server for the tests: it answers what wandb.Api asks to list runs and to read their history."""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "0123456789abcdef0123456789abcdef01234567"  # of the only account
PAGE = 2  # runs a page, so that paging is needed
SLOW_S = 4.0


class Server:
    """Serves the runs of one project on a port of this machine. Unknown questions are kept in `unknown`."""

    def __init__(self, entity: str, project: str, runs: Sequence[Mapping[str, Any]]) -> None:
        self.entity, self.project, self.runs = entity, project, list(runs)
        self.unknown: list[str] = []
        self.views: dict[str, dict[str, Any]] = {}  # saved ones, by id
        self.fault = ""  # how it fails to save one: "refuses", "dies" (hangs up) or "is slow" (answers too late)
        self.history_read: list[str] = []  # ids of the runs whose history was asked for
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != "/graphql":  # W&B's own statistics
                    return self._send(404, {})
                body = json.loads(content)
                given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
                if given != f"api:{KEY}":
                    return self._send(401, {"errors": [{"message": "user is not logged in"}]})
                return self._send(200, server.answer(body["query"], body.get("variables") or {}))

            def _send(self, code: int, content: Mapping[str, Any]) -> None:
                text = json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it so)
                pass

        class Http(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exc_info()[1], ConnectionError):  # W&B may hang up
                    server.unknown.append(traceback.format_exc())

        self._http = Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one GraphQL question."""
        if "viewer" in query:
            teams = {"edges": []}
            me = {"id": "VXNlcjox", "entity": self.entity, "username": self.entity, "email": "a@b.c", "flags": "{}"}
            return {"data": {"viewer": {**me, "name": self.entity, "teams": teams, "apiKeys": {"edges": []}}}}
        if "mutation UpsertView2" in query or "mutation upsertView(" in query:  # of a workspace's view, of a report
            if self.fault == "dies":
                raise ConnectionError
            if self.fault == "is slow":
                time.sleep(SLOW_S)
            if self.fault == "refuses":
                return {"errors": [{"message": "no right to save views"}]}
            return {"data": {"upsertView": self._upserted(variables)}}
        if "query ProjectInternalId" in query:
            return {"data": {"project": {"id": "1", "internalId": "1"}}}
        if "query Projects" in query or "models(" in query:
            known = {"id": "1", "name": self.project, "entityName": self.entity, "user": None}
            node = {**known, "createdAt": "2026-01-01T00:00:00Z"}
            page = {"edges": [{"node": {**node, "isBenchmark": False}, "cursor": "1"}]}
            return {"data": {"models": {**page, "pageInfo": {"endCursor": "1", "hasNextPage": False}}}}
        if "serverInfo" in query:
            return {"data": {"serverInfo": {"features": []}}}
        if "query Runs(" in query:
            return {"data": {"project": self._project(query, variables)}}
        name = str(variables.get("name") or variables.get("run") or variables.get("runName") or "")
        run = next((run for run in self.runs if run["id"] == name), None)
        if run is None:
            self.unknown.append(query)
            return {"errors": [{"message": f"unknown question: {query[:200]}"}]}
        rows = [{"_step": step, **row} for step, row in enumerate(run["history"])]
        if "historyKeys" in query and "RunFragment" not in query:
            return {"data": {"project": {"run": {"historyKeys": {"lastStep": len(rows) - 1}}}}}
        if "parquetHistory" in query:
            self.history_read.append(name)
            return {"data": {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": None}}}}}
        if "query HistoryPage" in query:
            asked = [json.dumps(r) for r in rows if variables["minStep"] <= r["_step"] < variables["maxStep"]]
            return {"data": {"project": {"run": {"history": asked}}}}
        if "query Run(" in query:
            return {"data": {"project": {"run": _node(run)}}}
        self.unknown.append(query)
        return {"errors": [{"message": f"unknown question: {query[:200]}"}]}

    def _upserted(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        key = str(variables.get("id") or f"view{len(self.views)}")
        inserted = key not in self.views
        self.views[key] = {**variables, "spec": json.loads(variables["spec"])}
        project = {"id": "1", "name": variables["projectName"], "entityName": variables["entityName"]}
        told = {name: variables.get(name) for name in ("name", "type", "displayName", "description", "spec")}
        view = {**told, "id": key, "project": project, "updatedAt": "2026-01-01T00:00:00Z"}
        return {"view": view, "inserted": inserted}

    def _project(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any] | None:
        if (variables["entity"], variables["project"]) != (self.entity, self.project):
            return None
        filters = json.loads(variables.get("filters") or "{}")
        runs = [run for run in self.runs if all(run[key] == value for key, value in filters.items())]
        start = int(variables.get("cursor") or 0)
        page = runs[start : start + PAGE]
        edges = [{"node": _node(run), "cursor": str(start + 1 + i)} for i, run in enumerate(page)]
        more = start + PAGE < len(runs)
        info = {"endCursor": str(start + len(page)), "hasNextPage": more}
        return {"internalId": "1", "runCount": len(runs), "readOnly": True, "runs": {"edges": edges, "pageInfo": info}}


def _node(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{
            "id": run["id"],
            "name": run["id"],
            "displayName": run["name"],
            "projectId": "1",
            "tags": [],
            "state": run["state"],
        },
        **{"sweepName": None, "group": run["group"], "jobType": run["job_type"], "commit": None, "readOnly": True},
        **{"createdAt": "2026-01-01T00:00:00Z", "heartbeatAt": run["heartbeatAt"], "description": None, "notes": None},
        **{"historyLineCount": len(run["history"]), "user": {"name": "me", "username": "me"}, "historyKeys": {}},
        "config": json.dumps({key: {"value": value, "desc": None} for key, value in run["config"].items()}),
        **{"summaryMetrics": json.dumps(run["values"]), "systemMetrics": "{}"},
    }
