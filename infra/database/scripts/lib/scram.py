#!/usr/bin/env python3
"""Reads a password from standard input and prints the SCRAM-SHA-256 verifier that PostgreSQL stores for it."""
import base64
import hashlib
import hmac
import os
import sys
import unicodedata

ITERATIONS = 4096


def verifier(password, salt):
    # SASLprep: for passwords in ASCII nothing; for others, the normal form that clients use as well.
    secret = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", secret, salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt, stored, server = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{server}"


if __name__ == "__main__":
    print(verifier(sys.stdin.read(), os.urandom(16)))
