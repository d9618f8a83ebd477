#!/usr/bin/env python3
"""Fetches one object from S3 with nothing but Python's standard library: s3_get.py [--region R] s3://BUCKET/KEY FILE

Credentials come from the environment (AWS_ACCESS_KEY_ID, ...) or else from the instance's role (IMDSv2).
AWS_ENDPOINT_URL names an S3 server of your own; it is asked with the bucket in the path.
"""
import argparse
import datetime
import hashlib
import hmac
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

METADATA = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
EMPTY = hashlib.sha256(b"").hexdigest()


def metadata(path, token=None):
    method, headers = ("GET", {"X-aws-ec2-metadata-token": token}) if token else (
        "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "300"})
    request = urllib.request.Request(f"{METADATA}/latest/{path}", method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read().decode()


def credentials():
    env = os.environ
    if env.get("AWS_ACCESS_KEY_ID"):
        return env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN")
    token = metadata("api/token")
    folder = "meta-data/iam/security-credentials/"
    found = json.loads(metadata(folder + metadata(folder, token).split()[0], token))
    return found["AccessKeyId"], found["SecretAccessKey"], found["Token"]


def signed(region, bucket, key):
    """Returns a GET request with signature version 4."""
    access, secret, token = credentials()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        url, path = urllib.parse.urlsplit(endpoint), "/" + urllib.parse.quote(f"{bucket}/{key}")
    else:
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        url, path = urllib.parse.urlsplit(f"https://{bucket}.s3.{region}.{domain}"), "/" + urllib.parse.quote(key)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": url.netloc, "x-amz-content-sha256": EMPTY, "x-amz-date": now}
    if token:
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n{path}\n\n{lines}\n{names}\n{EMPTY}"
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret_key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        secret_key = hmac.new(secret_key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(secret_key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}")
    return urllib.request.Request(f"{url.scheme}://{url.netloc}{path}", headers=headers)


def fetch(region, uri, file):
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc or len(parts.path) < 2:
        raise SystemExit(f"s3_get: {uri} is not s3://BUCKET/KEY")
    part = f"{file}.part"
    with urllib.request.urlopen(signed(region, parts.netloc, parts.path[1:]), timeout=60) as answer:
        with open(part, "wb") as out:
            shutil.copyfileobj(answer, out, 1 << 20)
        wanted, got = answer.headers.get("content-length"), os.path.getsize(part)
        if wanted is not None and int(wanted) != got:
            raise OSError(f"{got} of {wanted} bytes came")
    os.replace(part, file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--region", default=os.environ.get("AWS_REGION") or "us-east-1")
    parser.add_argument("--attempts", type=int, default=6)
    parser.add_argument("uri")
    parser.add_argument("file")
    args = parser.parse_args()
    for attempt in range(1, args.attempts + 1):
        try:
            return fetch(args.region, args.uri, args.file)
        except (OSError, urllib.error.URLError) as error:
            # The role and the endpoint may take a moment to be known everywhere, so a refusal is tried again as well.
            print(f"s3_get: {args.uri}: {error} (attempt {attempt} of {args.attempts})", file=sys.stderr)
        if attempt < args.attempts:
            time.sleep(min(2**attempt, 30))
    return 1


if __name__ == "__main__":
    sys.exit(main())
