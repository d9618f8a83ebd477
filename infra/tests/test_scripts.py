"""The scripts of infra/database, as far as they need no server: make test-host runs them for real."""
import base64
import importlib.util
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from user_data import rendered

SCRIPTS = Path(__file__).resolve().parents[1] / "database" / "scripts"


def module(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / "lib" / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def bash(script, *arguments, **environment):
    return subprocess.run(["bash", "-c", script, "bash", *arguments], capture_output=True, text=True, cwd=SCRIPTS,
                          env={**os.environ, **environment})


def setup(*arguments, **environment):
    """Reads the options of the setup, and nothing else."""
    source = "".join(f". lib/{name}.sh; " for name in ["say", "options"])
    return bash(f"set -euo pipefail; usage() {{ :; }}; {source} read_settings; read_options \"$@\"; "
                "echo \"password is ${#PASSWORD} long, allow=$ALLOW\"", *arguments, **environment)


def test_the_verifier_is_that_of_the_rfc_for_its_password():
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    assert module("scram").verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")


def test_a_request_to_s3_is_signed_for_its_region_and_host(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]:
        monkeypatch.delenv(name, raising=False)
    request = module("s3_get").signed("eu-central-1", "artifacts", "a bundle.tar")
    assert request.full_url == "https://artifacts.s3.eu-central-1.amazonaws.com/a%20bundle.tar"
    signature = request.get_header("Authorization")
    assert re.fullmatch(r"AWS4-HMAC-SHA256 Credential=KEY/\d{8}/eu-central-1/s3/aws4_request, "
                        r"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=[0-9a-f]{64}", signature)


def test_user_data_is_a_script_that_bash_can_parse():
    text = rendered({"DATABASE": "market", "BUNDLE": "s3://artifacts/bundle.tar"})
    assert "DATABASE='market'" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_a_t3_medium_gets_a_quarter_of_its_memory_and_slots_for_all_workers():
    printed = bash(". lib/tuning.sh; tuned_settings 4096 2").stdout
    settings = dict(line.split(" = ") for line in printed.splitlines())
    assert settings["shared_buffers"] == "1024MB" and settings["effective_cache_size"] == "3072MB"
    assert settings["maintenance_work_mem"] == "256MB" and settings["work_mem"] == "26214kB"
    assert settings["huge_pages"] == "try" and settings["wal_buffers"] == "32MB"
    assert settings["wal_compression"] == settings["default_toast_compression"] == "lz4"
    # Three of PostgreSQL's, TimescaleDB's, the parallel ones; launcher, scheduler, loaders and backfill workers.
    assert int(settings["max_worker_processes"]) == 3 + 16 + 2 + 2 + 2 + 4


@pytest.mark.parametrize("memory, wal_buffers", [(900, "16MB"), (8192, "64MB"), (65536, "128MB")])
def test_the_buffers_of_the_log_grow_with_the_memory_up_to_what_was_measured(memory, wal_buffers):
    assert f"wal_buffers = {wal_buffers}\n" in bash(f". lib/tuning.sh; tuned_settings {memory} 2").stdout


def serve(answer):
    """Takes one connection and gives it these bytes, or nothing and stays silent. Returns the URL."""
    server = socket.create_server(("127.0.0.1", 0))

    def one():
        connection, _ = server.accept()
        if answer is None:
            time.sleep(30)
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + answer)
        connection.close()

    threading.Thread(target=one, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def fetch_key(url, file):
    begin = time.monotonic()
    result = bash(f"set -euo pipefail; . lib/vendor.sh; VENDOR_URL={url}; fetch_vendor_key {file}")
    return result.returncode, result.stdout, time.monotonic() - begin


def test_the_key_of_the_vendor_is_fetched_as_it_is(tmp_path):
    key = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n"
    assert fetch_key(serve(key), tmp_path / "key")[:2] == (0, "")
    assert (tmp_path / "key").read_bytes() == key


@pytest.mark.parametrize("answer, reason", [
    (None, "timed out|no answer within 6 seconds"),
    (b"<html>Log in to this network</html>", "is no key of a package repository"),
    (b"", "is no key of a package repository"),
])
def test_a_key_that_does_not_come_is_given_up_in_one_line_and_leaves_no_file(tmp_path, answer, reason):
    code, printed, seconds = fetch_key(serve(answer), tmp_path / "key")
    assert code != 0 and printed.count("\n") == 1 and re.search(reason, printed) and seconds < 20
    assert not (tmp_path / "key").exists()


def test_the_vendor_is_asked_by_the_name_of_the_release():
    line = bash(". lib/vendor.sh; TIMESCALEDB_REPOSITORY=; wanted_line").stdout
    assert re.fullmatch(r"deb \[signed-by=/etc/apt/keyrings/btc_ingest-timescaledb.asc\] "
                        r"https://packagecloud.io/timescale/timescaledb/\w+/ \w+ main\n", line)
    assert bash(". lib/vendor.sh; TIMESCALEDB_REPOSITORY=none; wanted_line").stdout == ""


def test_the_password_comes_from_an_argument_a_file_or_the_environment(tmp_path):
    file = tmp_path / "password"
    file.write_text("0123456789\n")
    assert "password is 3 long" in setup("market", "mlops", "abc").stdout
    assert "password is 10 long" in setup("--password-file", str(file), "market", "mlops").stdout
    assert "password is 5 long" in setup("market", "mlops", BTC_INGEST_PASSWORD="abcde").stdout
    assert "password is 0 long" in setup("--no-password", "market", "mlops").stdout


def test_the_password_is_never_printed():
    result = setup("market", "mlops", "do-not-print-me", "--allow", "nonsense")
    assert result.returncode != 0 and "do-not-print-me" not in result.stdout + result.stderr


def test_several_prefixes_are_one_list():
    assert "allow=s3://a/b,s3://c" in setup("--allow", "s3://a/b", "--allow", "s3://c", "market", "mlops", "x").stdout


def run_twice(tmp_path, first, second):
    """Reads options and keeps them, twice; returns what the second run knows, and the file."""
    file = tmp_path / "setup.env"
    script = ("set -euo pipefail; usage() { :; }; . lib/say.sh; . lib/options.sh; chown() { :; }; BUNDLE_DIR=; "
              f"SETUP_ENV={file}; read_settings; read_options \"$@\"; keep_settings >/dev/null; "
              "echo \"$BACKUP|$CLIENT_NETWORK|$ALLOW|$LOGICAL_REPLICATION|$CORES|$TIMESCALEDB_REPOSITORY\"")
    results = [bash(script, *arguments, "market", "mlops", "do-not-keep-me") for arguments in (first, second)]
    assert [result.returncode for result in results] == [0, 0], [result.stderr for result in results]
    return results[1].stdout.splitlines()[-1], file.read_text()


def test_what_a_run_was_told_is_kept_for_the_next_one_but_the_password(tmp_path):
    (tmp_path / "setup.env").write_text("# of the administrator\nEXTRA_PACKAGES='a b'\nALLOW='s3://before'\n")
    known, kept = run_twice(tmp_path, ["--backup", "s3://backups/x", "--client-network", "10.20.0.0/16",
                                       "--logical-replication", "--allow", "s3://a/b", "--cores", "77",
                                       "--timescaledb-repository", "deb [trusted=yes] http://a b"], [])
    assert known == "s3://backups/x|10.20.0.0/16|s3://a/b|yes|77|deb [trusted=yes] http://a b"
    assert "# of the administrator" in kept and "EXTRA_PACKAGES='a b'" in kept and kept.count("ALLOW=") == 1
    assert "do-not-keep-me" not in kept


def test_the_size_of_the_host_is_not_kept_and_an_option_wins_over_what_was_kept(tmp_path):
    known, kept = run_twice(tmp_path, ["--allow", "s3://a"], ["--allow", "s3://b"])
    assert known.split("|")[2] == "s3://b" and known.split("|")[4] == str(len(os.sched_getaffinity(0)))
    assert "MEMORY_MB" not in kept and "CORES" not in kept


@pytest.mark.parametrize("arguments, reason", [
    (["market", "mlops"], "there is no password"),
    (["Market", "mlops", "x"], "no plain name"),
    (["market", "ml'ops", "x"], "no plain name"),
    (["market", "postgres", "x"], "not the superuser"),
    (["--client-network", "0.0.0.0/0", "market", "mlops", "x"], "the whole world"),
    (["--client-network", "all'", "market", "mlops", "x"], "no address range"),
    (["--allow", "landing", "market", "mlops", "x"], "no s3://BUCKET/PREFIX"),
    (["--allow", "s3://a'; x", "market", "mlops", "x"], "no s3://BUCKET/PREFIX"),
    (["--memory", "100", "market", "mlops", "x"], "too little"),
    (["--backup", "backups", "market", "mlops", "x"], "no s3://BUCKET/PREFIX"),
    (["--backup", "s3://a'b", "market", "mlops", "x"], "no s3://BUCKET/PREFIX"),
    (["--backup-endpoint", "https://s3", "market", "mlops", "x"], "no HOST:PORT"),
    (["--backup-passphrase-file", "/nowhere", "market", "mlops", "x"], "there is no file"),
    (["--timescaledb-repository", "https://packages", "market", "mlops", "x"], "no line of sources.list"),
    (["--timescaledb-repository", "deb https://a\nb", "market", "mlops", "x"], "no line of sources.list"),
    (["--unknown", "market", "mlops", "x"], "there is no option --unknown"),
    (["--bundle"], "needs a value"),
])
def test_a_wrong_option_is_refused_with_its_reason(arguments, reason):
    result = setup(*arguments)
    assert result.returncode != 0 and reason in result.stderr


def test_a_file_is_replaced_only_if_it_changes(tmp_path):
    file = tmp_path / "settings"
    script = f". lib/say.sh; echo a | replace_file {file} 600 $(id -un):$(id -gn)"
    assert "wrote" in bash(script).stdout
    before = file.stat()
    assert "as it should be" in bash(script).stdout
    assert file.stat().st_ino == before.st_ino and before.st_mode & 0o777 == 0o600


@pytest.mark.parametrize("backup, bucket, path", [
    ("s3://backups/pgbackrest", "backups", "/pgbackrest"),
    ("s3://backups/a/b/", "backups", "/a/b"),
    ("s3://backups", "backups", "/pgbackrest"),
    ("s3://backups/", "backups", "/pgbackrest"),
])
def test_backups_have_a_bucket_and_a_prefix(backup, bucket, path):
    assert bash(". lib/backup.sh; backup_bucket; backup_prefix", BACKUP=backup).stdout.split() == [bucket, path]


def test_without_a_bucket_nothing_is_archived():
    assert bash(". lib/backup.sh; archive_settings", BACKUP="").stdout == ""
    assert "archive_mode = on" in bash(". lib/backup.sh; archive_settings", BACKUP="s3://backups").stdout


def backup_settings(tmp_path, **environment):
    """Writes the configuration of pgBackRest into a file of its own."""
    (tmp_path / "passphrase").write_text("a passphrase of more than twenty characters\n")
    script = (". lib/say.sh; . lib/backup.sh; chown() { :; }; DATA=/data CORES=2 "
              f"PASSPHRASE_FILE={tmp_path}/passphrase BACKUP_CONFIG={tmp_path}/conf; write_backup_settings")
    result = bash(script, **{"BACKUP": "s3://backups/x", "S3_REGION": "eu-central-1", "BACKUP_ENDPOINT": "",
                             "BACKUP_CA_FILE": "", **environment})
    text = (tmp_path / "conf").read_text()
    return result, dict(line.split("=", 1) for line in text.splitlines() if "=" in line), (tmp_path / "conf").stat()


def test_backups_are_encrypted_and_their_passphrase_is_printed_nowhere(tmp_path):
    result, settings, file = backup_settings(tmp_path)
    assert settings["repo1-cipher-type"] == "aes-256-cbc" and settings["repo1-cipher-pass"].startswith("a passphrase")
    assert "a passphrase" not in result.stdout + result.stderr and file.st_mode & 0o777 == 0o640


def test_backups_go_to_the_region_with_the_role_of_the_instance_and_drop_no_segment(tmp_path):
    _, settings, _ = backup_settings(tmp_path)
    assert settings["repo1-s3-endpoint"] == "s3.eu-central-1.amazonaws.com" and settings["repo1-s3-key-type"] == "auto"
    assert not [name for name in settings if "key-secret" in name or name == "archive-push-queue-max"]
    _, settings, _ = backup_settings(tmp_path, S3_REGION="cn-north-1")
    assert settings["repo1-s3-endpoint"] == "s3.cn-north-1.amazonaws.com.cn"


def test_a_restore_needs_a_time_with_its_zone_or_latest():
    script = "./restore_pitr.sh"
    for arguments in [[], ["--latest", "--time", "2024-08-08 12:00:00+00"], ["--nonsense"]]:
        assert bash(f'{script} "$@"', *arguments).returncode != 0
