//! A running cluster: its processes, its connections, and its standby.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postgres::{Client, NoTls};

use super::hostile_settings;
use crate::command::{OS_USER, client_program, is_root, outcome, run, server_program, unprivileged};
use crate::janitor::{Janitor, fresh_dir};
use crate::process::{children, is_running, is_stopped};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{amcheck, switches};

/// How long the server may take to start or stop, in seconds, as pg_ctl's `-t` wants it.
const DEADLINE: &str = "60";

/// How much of the server's log a failed test shows.
pub(super) const LOG_LINES: usize = 60;

/// Stops the server in `$1` by the pg_ctl command that follows, then removes the directory.
const STOP_AND_REMOVE: &str = r#"
dir=$1; shift
"$@" -D "$dir/data" -m immediate -w -t 15 stop || { pid=$(head -n 1 "$dir/data/postmaster.pid") && kill -9 "$pid"; }
rm -rf -- "$dir""#;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    pub(super) base: PathBuf,
    /// Atomic, because a restart may have to move to another port.
    pub(super) port: AtomicU32,
    pub(super) wanted_port: Option<u16>,
    pub(super) environment: Mutex<BTreeMap<String, String>>,
    pub(super) janitor: Option<Janitor>,
    /// Whether its databases get hostile settings.
    pub(super) hostile: bool,
}

impl Cluster {
    /// Returns the directory of the cluster: `data`, `server.log`, and the socket; also the server's `HOME`.
    pub fn dir(&self) -> &Path {
        &self.base
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.base.join("data")
    }

    /// Returns the port on 127.0.0.1, which is also the number of the socket.
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::SeqCst) as u16
    }

    /// Returns the process id of the postmaster.
    pub fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.data_dir().join("postmaster.pid")).expect("a running server");
        text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process id in postmaster.pid")
    }

    /// Returns the server's log so far.
    pub fn log(&self) -> String {
        std::fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.base.join("server.log")
    }

    /// Sets a variable of the server's environment from the next start on.
    pub fn set_env(&self, name: &str, value: &str) {
        self.environment.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    /// Starts a stopped server and waits until it answers.
    pub fn start(&self) {
        let mut last = String::new();
        // Between finding a free port and listening on it another process may take it.
        for _ in 0..5 {
            let port = match (self.port(), self.wanted_port) {
                (0, Some(wanted)) => free_port_from(wanted),
                (0, None) => free_port(),
                (port, _) => port,
            };
            let mut command = server_program("pg_ctl");
            command.envs(&*self.environment.lock().unwrap()).env("HOME", &self.base);
            command.arg("-D").arg(self.data_dir()).arg("-l").arg(self.log_file());
            command.args(["-s", "-w", "-t", DEADLINE, "-o", &format!("-p {port}"), "start"]);
            match run(&mut command) {
                Ok(_) => return self.port.store(u32::from(port), Ordering::SeqCst),
                Err(message) => last = message,
            }
            if !self.log().contains("could not bind") {
                break;
            }
            self.port.store(0, Ordering::SeqCst);
        }
        panic!("cannot start the server: {last}\n{}", tail(&self.log(), LOG_LINES));
    }

    /// Stops the server as an administrator would (`fast`) and waits until it is gone.
    pub fn stop(&self) {
        self.stop_by("fast").unwrap_or_else(|e| panic!("cannot stop the server: {e}"));
    }

    /// Stops the server and starts it again, with the environment as it is now.
    pub fn restart(&self) {
        self.stop();
        self.start();
    }

    /// Stops the server without a checkpoint and starts it again, so that it recovers as after a crash.
    pub fn crash(&self) {
        self.stop_by("immediate").unwrap_or_else(|e| panic!("cannot stop the server: {e}"));
        self.start();
    }

    /// Kills all processes of the server at once, as a machine that is lost, and waits until they are gone.
    pub fn kill(&self) {
        let postmaster = self.pid();
        let pids = [vec![postmaster], children(postmaster)].concat();
        // Some processes may end before the signal.
        let _ = run(std::process::Command::new("kill").arg("-9").args(pids.iter().map(u32::to_string)));
        // A process that was started meanwhile finds its postmaster dead.
        wait_until("the killed server", Duration::from_secs(30), || !pids.iter().any(|&pid| is_running(pid)));
        self.remove_locks();
    }

    /// Kills the postmaster alone; its processes have to notice, and this waits until they have.
    pub fn kill_postmaster(&self) {
        let postmaster = self.pid();
        let kill = |signal: &str| {
            run(std::process::Command::new("kill").args([signal, &postmaster.to_string()])).expect("a postmaster");
        };
        // A child that it makes after they were counted would still be there when the server starts again.
        kill("-STOP");
        wait_until("the postmaster to stand still", Duration::from_secs(30), || is_stopped(postmaster));
        let pids = [vec![postmaster], children(postmaster)].concat();
        kill("-9");
        wait_until("the orphans of a killed postmaster", Duration::from_secs(30), || {
            !pids.iter().any(|&pid| is_running(pid))
        });
        self.remove_locks();
    }

    /// Removes the lock files of a killed server. A next start would believe them: the dead process may still be a
    /// zombie, or another process has its id.
    fn remove_locks(&self) {
        for file in [self.data_dir().join("postmaster.pid"), self.base.join(format!(".s.PGSQL.{}.lock", self.port()))] {
            std::fs::remove_file(file).expect("a lock file of a killed server");
        }
    }

    fn stop_by(&self, mode: &str) -> Result<String, String> {
        let mut command = server_program("pg_ctl");
        run(command.arg("-D").arg(self.data_dir()).args(["-s", "-m", mode, "-w", "-t", DEADLINE, "stop"]))
    }

    /// Makes a streaming standby of this cluster, with the same settings and environment, that answers queries.
    pub fn standby(&self) -> Cluster {
        let base = fresh_dir("btc_ingest-pg-").expect("a temporary directory");
        let janitor = janitor(&base);
        give_to_server_user(&base);
        let mut command = server_program("pg_basebackup");
        command.args([
            "-d",
            &self.connection_string("postgres"),
            "-R",
            "-c",
            "fast",
            "-X",
            "stream",
            "--no-sync",
            "-D",
        ]);
        run(command.arg(base.join("data"))).unwrap_or_else(|e| panic!("cannot copy the cluster: {e}"));
        let mut file = std::fs::OpenOptions::new().append(true).open(base.join("data/postgresql.conf")).unwrap();
        writeln!(file, "unix_socket_directories = '{}'", base.display()).unwrap();
        let environment = Mutex::new(self.environment.lock().unwrap().clone());
        let standby = Cluster {
            base,
            port: AtomicU32::new(0),
            wanted_port: None,
            environment,
            janitor: Some(janitor),
            hostile: self.hostile,
        };
        standby.start();
        standby
    }

    /// Makes a standby a primary and waits until it is one.
    pub fn promote(&self) {
        let mut command = server_program("pg_ctl");
        command.arg("-D").arg(self.data_dir()).args(["-s", "-w", "-t", DEADLINE, "promote"]);
        run(&mut command).unwrap_or_else(|e| panic!("cannot promote: {e}"));
    }

    /// Returns the superuser's connection string, for libpq and the postgres crate alike.
    pub fn connection_string(&self, db: &str) -> String {
        self.connection_string_as(db, "postgres")
    }

    /// Returns a connection string for libpq and the postgres crate alike.
    pub fn connection_string_as(&self, db: &str, user: &str) -> String {
        format!("host=127.0.0.1 port={} user={user} dbname={db}", self.port())
    }

    /// Opens a connection as the superuser.
    pub fn client(&self, db: &str) -> Client {
        self.client_as(db, "postgres")
    }

    /// Opens a connection as `user`; the cluster trusts all roles.
    pub fn client_as(&self, db: &str, user: &str) -> Client {
        Client::connect(&self.connection_string_as(db, user), NoTls)
            .unwrap_or_else(|e| panic!("cannot connect to {db} as {user}: {e}\n{}", tail(&self.log(), LOG_LINES)))
    }

    /// Runs a script through the real psql: bare values, one row per line; the error is what psql said.
    ///
    /// The script arrives on standard input, so its statements are transactions of their own and procedures may commit.
    pub fn psql(&self, db: &str, sql: &str) -> Result<String, String> {
        self.psql_with(db, &["-A", "-t"], sql)
    }

    /// Runs a script with psql's own options, for example `-x`, or none for its usual tables.
    pub fn psql_with(&self, db: &str, options: &[&str], sql: &str) -> Result<String, String> {
        let mut command = client_program("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.connection_string(db)]).args(options);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("psql: {e}"))?;
        // A script is smaller than a pipe or read as it is written: psql reads line by line. It may end early on an
        // error.
        let mut stdin = child.stdin.take().expect("a pipe");
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let output = child.wait_with_output();
        let _ = writer.join();
        outcome(command.get_program(), output)
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) {
        let mut client = self.client("postgres");
        client
            .batch_execute(&format!("CREATE DATABASE {}", quoted(name)))
            .unwrap_or_else(|e| panic!("cannot create database {name}: {e:?}"));
        if self.hostile {
            hostile_settings::of_database(&mut client, &quoted(name));
        }
    }

    /// Runs `CREATE EXTENSION btc_ingest CASCADE`.
    pub fn install_extension(&self, db: &str) {
        self.client(db)
            .batch_execute(
                // A policy would compress the old ticks of a test while it runs.
                "SET client_min_messages = warning; CREATE EXTENSION btc_ingest CASCADE;
                 UPDATE ops.retention_jobs SET enabled = false WHERE enabled",
            )
            .unwrap_or_else(|e| panic!("cannot install btc_ingest in {db}: {e:?}"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && self.janitor.is_some() {
            eprintln!("the server's last words:\n{}", tail(&self.log(), LOG_LINES));
        }
        let check = switches::amcheck() && !std::thread::panicking() && self.janitor.is_some();
        let wrong = if check { amcheck::of_cluster(|name| self.connection_string(name)) } else { Vec::new() };
        // The janitor stops the server and removes the directory; without one the cluster was meant to stay.
        drop(self.janitor.take());
        assert!(wrong.is_empty(), "amcheck has found\n{}", wrong.join("\n"));
    }
}

/// Returns a name as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Opens a session, or returns `None` if the server does not answer.
pub fn try_client(connection: &str) -> Option<Client> {
    Client::connect(connection, NoTls).ok()
}

/// Opens a session as soon as the server answers.
#[track_caller]
pub fn client_again(connection: &str) -> Client {
    wait_for("the server", SOON, || try_client(connection))
}

/// Returns the process id of the backend behind `client`.
pub fn backend_pid(client: &mut Client) -> u32 {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a live connection").get(0);
    pid.unsigned_abs()
}

pub(super) fn janitor(base: &Path) -> Janitor {
    let pg_ctl = crate::command::bindir().join("pg_ctl");
    let mut args: Vec<&std::ffi::OsStr> = vec![base.as_os_str()];
    args.extend(unprivileged().iter().map(std::ffi::OsStr::new));
    args.push(pg_ctl.as_os_str());
    Janitor::new(STOP_AND_REMOVE, args).expect("a shell to clean up with")
}

/// Gives the directory to the user the server runs as, and lets all users read the way through it to the log.
pub(super) fn give_to_server_user(base: &Path) {
    std::fs::set_permissions(base, std::fs::Permissions::from_mode(0o755)).expect("our own directory");
    if is_root() {
        run(std::process::Command::new("chown").arg(format!("{OS_USER}:{OS_USER}")).arg(base))
            .unwrap_or_else(|e| panic!("cannot give the directory to {OS_USER}: {e}"));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Returns `wanted`, or the first free port after it.
fn free_port_from(wanted: u16) -> u16 {
    (wanted..wanted.saturating_add(100))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .unwrap_or_else(free_port)
}

/// Returns the last `count` lines of `text`.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
