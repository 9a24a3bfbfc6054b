#!/usr/bin/env python3
"""A stand-in for the Hugging Face Hub on loopback, for the tests of hf-fetch.

It serves the directories ROOT/ORG/NAME as model repositories, in the Hub's own words: the API (revision, tree
with paging, paths-info), resolve, and large files behind a redirect to another host name, as the Hub redirects
to its CDN. It also misbehaves on demand:

    --fault KIND:GLOB[:ARGUMENT[:TIMES]]   for files matching GLOB ("api" is the API); TIMES 0 is always

    drop        close the connection after ARGUMENT bytes of the body
    stall       send ARGUMENT bytes and then nothing
    slow        send at most ARGUMENT bytes a second
    norange     answer a request for a range with the whole file
    corrupt     send the byte at ARGUMENT wrong
    short, long send ARGUMENT bytes less or more than the file has, and say so in Content-Length
    416, 403, 429, 500, 503 ...    answer with that status; ARGUMENT is Retry-After in seconds (0: none)

Every request is a line of JSON in the log; a token that arrives where none may is a line with "violation". The
server chooses its ports, writes them to the port file, and ends with its parent or after its lifetime."""

import argparse
import fnmatch
import hashlib
import http.server
import json
import os
import pathlib
import socketserver
import ssl
import threading
import time
import urllib.parse

REVISIONS = ("main", "HEAD", "v1", "refs/pr/1")
LARGE = (".safetensors", ".bin", ".gguf", ".model")
PIECE = 64 * 1024


class Fault:
    def __init__(self, text):
        kind, glob, argument, times, *_ = text.split(":") + ["", ""]
        self.kind, self.glob, self.argument = kind, glob, int(argument or 0)
        self.left = int(times or 1) or 1 << 60


class Repository:
    """The files of a directory, with the digests that the Hub would give them."""

    def __init__(self, directory, extra):
        self.files = {}
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            name = path.relative_to(directory).as_posix()
            self.files[name] = self.describe(name, path)
        seed = json.dumps([(n, f["oid"]) for n, f in self.files.items()])
        self.commit = hashlib.sha1(seed.encode()).hexdigest()
        self.entries = [self.entry(name) for name in self.files] + extra

    @staticmethod
    def describe(name, path):
        size = path.stat().st_size
        blob, content = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()
        large = name.endswith(LARGE)
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                content.update(piece) if large else blob.update(piece)
        oid = hashlib.sha1(content.digest()).hexdigest() if large else blob.hexdigest()
        return {"path": path, "size": size, "oid": oid, "sha256": content.hexdigest() if large else None}

    def entry(self, name):
        file = self.files[name]
        entry = {"type": "file", "oid": file["oid"], "size": file["size"], "path": name}
        if file["sha256"]:
            entry["lfs"] = {"oid": file["sha256"], "size": file["size"], "pointerSize": 134}
        return entry


class Hub:
    def __init__(self, arguments):
        self.arguments = arguments
        self.faults = [Fault(text) for text in arguments.fault]
        self.repositories = {}
        self.lock = threading.Lock()
        self.log_file = open(arguments.log, "a", buffering=1)
        self.ports = []

    def repository(self, name):
        with self.lock:
            directory = pathlib.Path(self.arguments.root, name)
            if name not in self.repositories and directory.is_dir() and name.count("/") == 1:
                extra = [json.loads(text) for text in self.arguments.entry]
                self.repositories[name] = Repository(directory, extra)
            return self.repositories.get(name)

    def log(self, **what):
        with self.lock:
            self.log_file.write(json.dumps(what) + "\n")

    def fault(self, name, kinds=None):
        """Takes the first fault for the file that is left; None if there is none."""
        with self.lock:
            for fault in self.faults:
                if fault.left > 0 and fnmatch.fnmatch(name, fault.glob) and (not kinds or fault.kind in kinds):
                    fault.left -= 1
                    return fault
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "standin"
    wbufsize = 0
    disable_nagle_algorithm = True
    hub = None

    def log_message(self, *_):
        pass

    # -- answers

    def answer(self, status, body=b"", **headers):
        self.status = status
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value, **headers):
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json; charset=utf-8", **headers)

    def refuse(self, status, code, message):
        body = json.dumps({"error": message}).encode()
        self.answer(status, body, X_Error_Code=code, X_Error_Message=message, Content_Type="application/json")

    def answer_fault(self, fault):
        headers = {"Retry_After": str(fault.argument)} if fault.argument else {}
        self.answer(int(fault.kind), b"fault", **headers)

    # -- requests

    def do_HEAD(self):
        self.handle_request()

    def do_GET(self):
        self.handle_request()

    def do_POST(self):
        self.handle_request()

    def handle_request(self):
        self.status, self.sent = 0, 0
        token = self.headers.get("Authorization")
        host = self.headers.get("Host", "")
        try:
            self.route(host)
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True
        self.hub.log(method=self.command, host=host, path=self.path, range=self.headers.get("Range"),
                     auth=bool(token), status=self.status, sent=self.sent)

    def route(self, host):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        parts = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if parts[0] == "cdn":
            self.cdn(host, parts, query)
        elif parts[:2] == ["api", "models"] and len(parts) >= 6:
            self.api("/".join(parts[2:4]), parts[4], "/".join(parts[5:]), query, body)
        elif len(parts) >= 5 and parts[2] == "resolve":
            self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.refuse(404, "", "Not Found")

    def is_authorized(self):
        return self.headers.get("Authorization") == "Bearer " + self.hub.arguments.token

    def find(self, name, revision):
        """The repository, or None after a refusal in the Hub's words."""
        repository = self.hub.repository(name)
        hidden = name in self.hub.arguments.private and not self.is_authorized()
        if not repository or hidden:
            known = self.is_authorized()
            self.refuse(404 if known else 401, "RepoNotFound",
                        "Repository not found" if known else "Invalid username or password.")
            return None
        if revision not in REVISIONS + (repository.commit,):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository

    def api(self, name, verb, revision, query, body):
        fault = self.hub.fault("api")
        if fault:
            if fault.kind == "drop":
                self.close_connection = True
                return
            self.answer_fault(fault)
            return
        repository = self.find(name, revision)
        if not repository:
            return
        if verb == "revision":
            siblings = [{"rfilename": path} for path in repository.files]
            self.answer_json({"_id": "1", "id": name, "sha": repository.commit, "private": False, "gated": False,
                              "downloads": 0, "likes": 0, "lastModified": "2024-01-01T00:00:00.000Z",
                              "siblings": siblings})
        elif verb == "tree":
            self.tree(repository, query)
        elif verb == "paths-info":
            wanted = json.loads(body)["paths"]
            last = {"id": repository.commit, "title": "", "date": "2024-01-01T00:00:00.000Z"}
            self.answer_json([e | {"lastCommit": last} for e in repository.entries if e["path"] in wanted])
        else:
            self.refuse(404, "", "Not Found")

    def tree(self, repository, query):
        page, first = self.hub.arguments.page, int(query.get("cursor", ["0"])[0])
        headers = {}
        if first + page < len(repository.entries):
            host = self.headers["Host"]
            path = self.path.split("?")[0]
            headers["Link"] = f'<{self.hub.scheme}://{host}{path}?recursive=true&cursor={first + page}>; rel="next"'
        self.answer_json(repository.entries[first:first + page], **headers)

    def resolve(self, name, revision, path):
        repository = self.find(name, revision)
        if not repository:
            return
        if name in self.hub.arguments.gated and not self.is_authorized():
            self.refuse(401 if "Authorization" not in self.headers else 403, "GatedRepo",
                        f"Access to model {name} is restricted. {self.hub.arguments.gated_message}")
            return
        file = repository.files.get(path)
        if not file:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        if not file["sha256"]:
            self.content(path, file, file["oid"])
            return
        port = self.hub.ports[1] if self.hub.arguments.cdn_port else self.hub.ports[0]
        host = "127.0.0.1" if self.hub.arguments.cdn_port else "localhost"
        where = f"{self.hub.scheme}://{host}:{port}/cdn/{name}/{urllib.parse.quote(path)}?Signature=secret"
        self.answer(302, b"Found", Location=where, X_Repo_Commit=repository.commit,
                    X_Linked_Size=str(file["size"]), X_Linked_Etag=f'"{file["sha256"]}"')

    def cdn(self, host, parts, query):
        if "Authorization" in self.headers:
            self.hub.log(violation="a token was sent to " + host)
        path = "/".join(parts[3:])
        repository = self.hub.repository("/".join(parts[1:3]))
        if query.get("Signature") != ["secret"] or not repository or path not in repository.files:
            self.answer(403, b"<Error>AccessDenied</Error>")
            return
        file = repository.files[path]
        self.content(path, file, file["sha256"])

    # -- contents

    def content(self, path, file, etag):
        fault = self.hub.fault(path)
        kind, argument = (fault.kind, fault.argument) if fault else ("", 0)
        size = file["size"] + {"short": -argument, "long": argument}.get(kind, 0)
        first, last = 0, size - 1
        headers = {"ETag": f'"{etag}"', "Accept_Ranges": "bytes", "Content_Type": "application/octet-stream"}
        wanted = self.headers.get("Range")
        if kind.isdigit():
            self.answer_fault(fault)
            return
        ranged = wanted and kind != "norange"
        if ranged:
            begin, end = wanted.removeprefix("bytes=").split("-")
            first, last = int(begin), min(int(end) if end else size - 1, size - 1)
            if first >= size:
                self.answer(416, b"", Content_Range=f"bytes */{size}")
                return
            headers["Content_Range"] = f"bytes {first}-{last}/{size}"
        self.status = 206 if ranged else 200
        self.send_response(self.status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(file["path"], first, last + 1, kind, argument)

    def send_body(self, path, first, end, kind, argument):
        with open(path, "rb") as file:
            if not kind and not self.hub.arguments.tls:
                self.connection.setblocking(True)
                while first < end:
                    n = os.sendfile(self.connection.fileno(), file.fileno(), first, min(end - first, 1 << 24))
                    if n == 0:
                        break
                    first += n
                    self.sent += n
                return
            file.seek(first)
            while first < end:
                if kind in ("drop", "stall") and self.sent >= argument:
                    if kind == "stall":
                        time.sleep(30)
                    self.close_connection = True
                    return
                n = min(argument // 20 if kind == "slow" else PIECE, end - first)
                if kind in ("drop", "stall"):
                    n = min(n, argument - self.sent)
                piece = bytearray(file.read(n).ljust(n, b"+"))
                if kind == "corrupt" and first <= argument < first + n:
                    piece[argument - first] ^= 1
                self.wfile.write(piece)
                first += n
                self.sent += n
                if kind == "slow":
                    time.sleep(0.05)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass  # a client that went away


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="directory with ORG/NAME directories")
    parser.add_argument("--port-file", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--entry", action="append", default=[], help="JSON of one more entry of every tree")
    parser.add_argument("--token", default="hf_rightTokenForTheStandin")
    parser.add_argument("--gated", action="append", default=[], help="ORG/NAME whose files need the token")
    parser.add_argument("--gated-message", default="", help="end of the X-Error-Message about that")
    parser.add_argument("--private", action="append", default=[], help="ORG/NAME that needs the token")
    parser.add_argument("--page", type=int, default=1000, help="entries in a page of the tree")
    parser.add_argument("--cdn-port", action="store_true", help="redirect to another port instead of another host")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--lifetime", type=float, default=120)
    parser.add_argument("--parent", type=int, default=os.getppid(), help="process to end with")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    hub = Handler.hub = Hub(arguments)
    hub.scheme = "https" if arguments.tls else "http"
    servers = [Server(("127.0.0.1", 0), Handler) for _ in range(2)]
    for server in servers:
        if arguments.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*arguments.tls)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        hub.ports.append(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
    temporary = arguments.port_file + ".tmp"
    pathlib.Path(temporary).write_text(str(hub.ports[0]))
    os.rename(temporary, arguments.port_file)
    end = time.monotonic() + arguments.lifetime
    while time.monotonic() < end and os.path.exists(f"/proc/{arguments.parent}"):
        time.sleep(0.2)


main()
