"""Serves the metadata of EC2 for a test, IMDSv2 only, with one role: metadata_server.py ACCESS_KEY SECRET_KEY"""
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "a-token-of-the-test"
ROLE = "latest/meta-data/iam/security-credentials/"


class Metadata(BaseHTTPRequestHandler):
    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "300")
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        self.answer(200, TOKEN) if self.path == "/latest/api/token" else self.answer(404, "")

    def do_GET(self):
        path = self.path.strip("/") + "/"
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self.answer(401, "")
        elif path == ROLE:
            self.answer(200, "host")
        elif path == ROLE + "host/":
            self.answer(200, json.dumps({
                "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": sys.argv[1], "SecretAccessKey": sys.argv[2],
                "Token": "", "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"}))
        else:
            self.answer(404, "")

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("169.254.169.254", 80), Metadata).serve_forever()
