"""The stand-in hub's writing side: repositories that are made, uploaded to and committed to, and read at any commit.

It speaks what huggingface_hub 0.30 to 2.4 do without xet: whoami, repos/create, validate-yaml, preupload, LFS batch,
PUT to origin B, verify, commit. A fault belongs to one of these steps (`fail("commit", "412")`); "cut" hangs up in the
middle of a PUT, "kill" kills the process `victim`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from hub import Fault, Handler, Hub, Request

TOKEN = "hf_standinstandin"
LARGE = (".safetensors", ".png")


@dataclass
class Repository:
    """commits: revision -> path -> content, the newest last. proposed: those of pull requests."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    proposed: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def add(self, files: dict[str, bytes], *, propose: bool = False) -> str:
        number = len(self.commits) + len(self.proposed)
        revision = hashlib.sha1(b"%d" % number + b"".join(sorted(files.values()))).hexdigest()
        (self.proposed if propose else self.commits)[revision] = files
        return revision

    def at(self, revision: str) -> dict[str, bytes] | None:
        revision = self.head if revision == "main" else revision
        return (self.commits | self.proposed).get(revision)


@dataclass
class WritableHub(Hub):
    """repos: by id. stored: LFS objects by sha256. steps: what was asked, in order."""

    repos: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    user: str = "me"
    orgs: tuple[tuple[str, str], ...] = (("ORG", "write"), ("READERS", "read"))
    role: str = "write"
    victim: int = 0  # the process that "kill" kills

    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Writer

    def files_of(self, repo: str) -> dict[str, bytes]:
        """What is in a repository now, without what it was made with."""
        return {k: v for k, v in self.repos[repo].at("main").items() if k != ".gitattributes"}


class _Writer(Handler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path).path.strip("/").split("/")
        query = parse_qs(urlsplit(self.path).query)
        if parts[:2] == ["api", "models"]:
            step, repo, revision = parts[4], "/".join(parts[2:4]), unquote(parts[5])
        elif parts[-1] == "batch":
            step, repo, revision = "batch", "/".join(parts[:2]).removesuffix(".git"), "main"
        else:
            step, repo, revision = parts[-1], "", ""
        if self.refused(step):
            return
        getattr(self, "on_" + step.replace("-", "_"))(body, repo, revision, query)

    def do_PUT(self) -> None:
        hub: WritableHub = self.server.hub
        oid, length = self.path.rpartition("/")[2], int(self.headers.get("Content-Length") or 0)
        hub.steps.append("put")
        if (fault := hub.take("put", "bytes")) and fault.kind == "cut":
            self.rfile.read(length // 2)
            self.close_connection = True
            return self.connection.close()
        content = self.rfile.read(length)
        if fault:
            return self.say({"error": "fault"}, int(fault.kind))
        assert hashlib.sha256(content).hexdigest() == oid and "Authorization" not in self.headers
        hub.stored[oid] = content
        self.say({})

    def answer(self, head: bool) -> None:
        """Reading: whoami, and repositories of this module; the rest is the reading side's."""
        hub: WritableHub = self.server.hub
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts == ["api", "whoami-v2"]:
            if not self.refused("whoami"):
                orgs = [{"name": name, "roleInOrg": role} for name, role in hub.orgs]
                access = {"accessToken": {"role": hub.role}}
                self.say({"type": "user", "name": hub.user, "orgs": orgs, "auth": access})
        elif parts[:2] == ["api", "models"] and not self.unknown("/".join(parts[2:4])):
            if not self.refused("info"):
                repo = hub.repos["/".join(parts[2:4])]
                revision = repo.head if parts[4:5] != ["revision"] or parts[5] == "main" else parts[5]
                siblings = [{"rfilename": name} for name in repo.at(revision)]
                told = {"id": "/".join(parts[2:4]), "sha": revision, "private": repo.private, "siblings": siblings}
                self.say(told)
        elif parts[2:3] == ["resolve"] and "/".join(parts[:2]) in hub.repos:
            self.resolve_at("/".join(parts[:2]), unquote(parts[3]), "/".join(parts[4:]), head)
        elif parts[0] == "lfs":
            self.record("bytes", parts[1])
            self.serve(hub.stored[parts[1]], Fault(""))
        elif parts[:2] != ["api", "models"]:
            super().answer(head)

    def unknown(self, repo: str) -> bool:
        if repo in self.server.hub.repos:
            return False
        self.say({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        return True

    def record(self, where: str, file: str) -> None:
        self.request_seen = Request(self.command, where, file, dict(self.headers))
        self.server.hub.requests.append(self.request_seen)

    def refused(self, step: str) -> bool:
        """Whether a fault, or a wrong token, answers in the step's place; it is written down either way."""
        hub: WritableHub = self.server.hub
        hub.steps.append(step)
        if fault := hub.take(step, "bytes"):
            if fault.kind == "kill":
                os.kill(hub.victim, signal.SIGKILL)
                self.close_connection = True
            else:
                self.say(
                    {"error": f"{step}: {fault.value or 'refused'}", "url": f"{hub.endpoint}/ORG/NAME"}, int(fault.kind)
                )
            return True
        if step in ("verify", "validate-yaml") or self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return False
        self.say(
            {"error": "Invalid user token."}, 401, {"X-Error-Message": "Invalid credentials in Authorization header"}
        )
        return True

    def say(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.record("api", self.path)
        said = {"Content-Type": "application/json"} | (headers or {})
        if status >= 400:
            said["X-Error-Message"] = said.get("X-Error-Message", str(value["error"]))
        self.reply(status, json.dumps(value).encode(), said)

    def on_create(self, body, repo, revision, query) -> None:
        hub: WritableHub = self.server.hub
        asked = json.loads(body)
        repo = f"{asked.get('organization') or hub.user}/{asked['name']}"
        if repo in hub.repos:
            return self.say({"error": "You already created this model repo", "url": repo}, 409)
        private = asked.get("private", False) or asked.get("visibility") == "private"
        hub.repos[repo] = Repository(private)
        hub.repos[repo].add({".gitattributes": b"*.safetensors filter=lfs\n"})
        self.say({"url": f"{hub.endpoint}/{repo}", "id": repo, "name": repo})

    def on_validate_yaml(self, body, repo, revision, query) -> None:
        content = json.loads(body)["content"]
        try:
            head = yaml.safe_load(content.split("---")[1])
            errors = [] if isinstance(head["license"], str) else [{"message": '"license" must be a string'}]
            if head["license"].lower() not in ("mit", "apache-2.0", "bsd-3-clause", "cc-by-4.0", "other"):
                errors = [{"message": f'"license" must be one of [apache-2.0, mit, ...], not {head["license"]}'}]
            for model in head.get("model-index", []):
                assert model["name"] and model["results"]
        except (yaml.YAMLError, KeyError, IndexError, TypeError, AssertionError) as error:
            errors = [{"message": str(error)}]
        self.say({"errors": errors, "warnings": [], "error": "Invalid YAML"}, 400 if errors else 200)

    def on_paths_info(self, body, repo, revision, query) -> None:
        if self.unknown(repo):
            return
        paths, files = parse_qs(body.decode())["paths"], self.server.hub.repos[repo].at(revision)
        self.say([_entry(path, files[path]) for path in paths if path in files])

    def on_preupload(self, body, repo, revision, query) -> None:
        if self.unknown(repo):
            return
        files = self.server.hub.repos[repo].at("main")
        asked = json.loads(body)["files"]
        told = []
        for file in asked:
            path = file["path"]
            entry = _entry(path, files[path]) if path in files else {}
            oid = entry.get("lfs", {}).get("oid") or entry.get("oid")
            mode = "lfs" if path.endswith(LARGE) else "regular"
            told.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.say({"files": told})

    def on_batch(self, body, repo, revision, query) -> None:
        hub: WritableHub = self.server.hub
        told = []
        for entry in json.loads(body)["objects"]:
            if entry["oid"] not in hub.stored:
                upload = {"href": f"{hub.bytes_origin}/lfs/{entry['oid']}"}
                verify = {"href": f"{hub.endpoint}/lfs/verify"}
                entry = entry | {"actions": {"upload": upload, "verify": verify}}
            told.append(entry)
        self.say({"transfer": "basic", "objects": told})

    def on_verify(self, body, repo, revision, query) -> None:
        asked = json.loads(body)
        found = self.server.hub.stored.get(asked["oid"])
        there = found is not None and len(found) == asked["size"]
        self.say({} if there else {"error": "not there"}, 200 if there else 404)

    def on_commit(self, body, repo, revision, query) -> None:
        hub: WritableHub = self.server.hub
        if self.unknown(repo):
            return None
        here, propose = hub.repos[repo], "create_pr" in query
        files = dict(here.at("main"))
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit", here.head) != here.head:
                    return self.say({"error": "A commit has happened since. Please refresh and try again."}, 412)
            elif line["key"] == "lfsFile":
                if value["oid"] not in hub.stored:
                    return self.say({"error": f"{value['path']} was not uploaded"}, 400)
                files[value["path"]] = hub.stored[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        oid = here.add(files, propose=propose)
        told = {"commitUrl": f"{hub.endpoint}/{repo}/commit/{oid}", "commitOid": oid, "success": True}
        return self.say(told | ({"pullRequestUrl": f"{hub.endpoint}/{repo}/discussions/1"} if propose else {}))

    def resolve_at(self, repo: str, revision: str, path: str, head: bool) -> None:
        hub: WritableHub = self.server.hub
        self.record("head" if head else "resolve", path)
        here = hub.repos[repo]
        if here.private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply(401, b"", {"X-Error-Code": "RepoNotFound"})
        files = here.at(revision)
        if files is None or path not in files:
            code = "EntryNotFound" if files else "RevisionNotFound"
            return self.reply(404, b"", {"X-Error-Code": code})
        entry, commit = _entry(path, files[path]), here.head if revision == "main" else revision
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry["oid"]}"'}
        if "lfs" not in entry:
            return self.reply(200, files[path], headers | {"Content-Type": "text/plain; charset=utf-8"})
        declared = hub.declared.get(path, entry["lfs"]["oid"])
        hub.stored.setdefault(entry["lfs"]["oid"], files[path])
        headers |= {"X-Linked-Etag": f'"{declared}"', "X-Linked-Size": str(entry["size"])}
        return self.reply(302, b"", headers | {"Location": f"{hub.bytes_origin}/lfs/{entry['lfs']['oid']}"})


def _entry(path: str, content: bytes) -> dict[str, object]:
    """As the hub's tree lists a file."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    told: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": oid}
    if path.endswith(LARGE):
        told["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return told
