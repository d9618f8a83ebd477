//! Running other programs: as the right user, in a clean environment, with their output kept for the error.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The user PostgreSQL runs as when the tests run as root: it refuses to run as root itself.
pub const OS_USER: &str = "postgres";

/// Whether this process is root.
pub fn is_root() -> bool {
    // The owner of our own /proc entry is the effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// Returns the directory of PostgreSQL's programs, as `pg_config --bindir` prints it. The variable `PG_CONFIG` names
/// another pg_config.
pub fn bindir() -> PathBuf {
    static BINDIR: OnceLock<PathBuf> = OnceLock::new();
    BINDIR.get_or_init(|| pg_config("--bindir")).clone()
}

/// Returns the directory of the server's loadable libraries, from the same pg_config.
pub fn library_dir() -> PathBuf {
    pg_config("--pkglibdir")
}

/// Returns the directory of the server's shared files; `extension` is in it.
pub fn share_dir() -> PathBuf {
    pg_config("--sharedir")
}

fn pg_config(what: &str) -> PathBuf {
    let program = std::env::var_os("PG_CONFIG").filter(|name| !name.is_empty()).unwrap_or_else(|| "pg_config".into());
    let text = run(Command::new(program).arg(what)).unwrap_or_else(|e| panic!("cannot find PostgreSQL 15: {e}"));
    PathBuf::from(text.trim())
}

/// Returns the command of a client program of PostgreSQL, without the variables by which the caller's environment
/// configures libpq.
pub fn client_program(name: &str) -> Command {
    let mut command = Command::new(bindir().join(name));
    clean_environment(&mut command);
    command
}

/// Returns the prefix of a command line that must not run as root.
pub fn unprivileged() -> &'static [&'static str] {
    if is_root() { &["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] } else { &[] }
}

/// Returns the command of a server program of PostgreSQL, which runs as [`OS_USER`] if this process is root.
pub fn server_program(name: &str) -> Command {
    let program = bindir().join(name);
    let mut command = match unprivileged() {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    clean_environment(&mut command);
    // The caller's working directory may be closed to that user.
    command.current_dir("/");
    command
}

/// Takes away what the caller's environment would tell libpq, the server or the AWS SDK: tests say it all themselves.
fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PG") && text != "PG_CONFIG" || text.starts_with("AWS_") {
            command.env_remove(&name);
        }
    }
    // A server under test connects to loopback only, without a proxy.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    // A cancelled call is a panic in Rust; the search for its symbols would dominate the measured time.
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
}

/// Runs to the end and returns what was written to standard output; the error holds the command and its own words.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    outcome(command.get_program(), output)
}

/// Returns the output of a finished program as text.
pub fn outcome(program: &OsStr, output: std::io::Result<Output>) -> Result<String, String> {
    let program = program.to_string_lossy();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} ended with {}:\n{}", output.status, if stderr.is_empty() { &stdout } else { &*stderr }))
}
