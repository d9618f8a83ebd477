//! A throw-away PostgreSQL cluster on loopback, and a fresh database in it per test.
//!
//! A test binary is expected to start one [`Cluster`], keep it in a `OnceLock`, and to give every test a [`TestDb`]. The
//! cluster is stopped and removed when its value or the process goes away: see [`crate::janitor`].

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

use crate::command::{OS_USER, client_program, is_root, outcome, run, server_program, unprivileged};
use crate::janitor::{Janitor, fresh_dir};
use crate::process::{children, is_running};
use crate::wait::wait_until;

/// How long the server may take to start or stop, in seconds, as pg_ctl's `-t` wants it.
const DEADLINE: &str = "60";
/// How much of the server's log a failed test shows.
const LOG_LINES: usize = 60;
/// Stops the server in `$1` by the pg_ctl command that follows, then removes the directory.
const STOP_AND_REMOVE: &str = r#"
dir=$1; shift
"$@" -D "$dir/data" -m immediate -w -t 15 stop || { pid=$(head -n 1 "$dir/data/postmaster.pid") && kill -9 "$pid"; }
rm -rf -- "$dir""#;

/// How a cluster is to be made; every method returns it, [`ClusterBuilder::start`] makes it.
#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    preload: Vec<String>,
    settings: Vec<(String, String)>,
    environment: BTreeMap<String, String>,
    durable: bool,
    port: Option<u16>,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        // The metadata service would be asked for credentials where a test gives none, and asking takes seconds.
        let environment = BTreeMap::from([("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned())]);
        Self { preload: vec!["timescaledb".to_owned()], settings: vec![], environment, durable: false, port: None }
    }
}

impl ClusterBuilder {
    /// Adds a library to `shared_preload_libraries`, after timescaledb.
    pub fn preload(mut self, library: &str) -> Self {
        self.preload.push(library.to_owned());
        self
    }

    /// A line of postgresql.conf; the value is quoted here.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable of the server's environment. The caller's own `AWS_*`, `PG*` and proxy variables never reach it.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Both keys of an AWS user, as the server's environment.
    pub fn aws_keys(self, access: &str, secret: &str) -> Self {
        self.env("AWS_ACCESS_KEY_ID", access).env("AWS_SECRET_ACCESS_KEY", secret)
    }

    /// Leaves fsync and full_page_writes on: for measuring.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// The port to listen on when it is free; any free port otherwise, and when this is not called.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Makes the cluster and waits until it answers. It goes when the returned value or this process goes.
    pub fn start(self) -> Cluster {
        let base = fresh_dir("btc_ingest-pg-").expect("a temporary directory");
        let janitor = janitor(&base);
        self.make(base, Some(janitor))
    }

    /// Makes a cluster in the fresh directory `base` that outlives this process; whoever calls this stops it, too.
    pub fn start_to_stay(self, base: &Path) -> Cluster {
        std::fs::create_dir_all(base).expect("the cluster's directory");
        self.make(base.to_owned(), None)
    }

    fn make(self, base: PathBuf, janitor: Option<Janitor>) -> Cluster {
        give_away(&base);
        let data = base.join("data");
        run(server_program("initdb").arg("-D").arg(&data).args([
            "--no-sync",
            "--no-instructions",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
        ]))
        .unwrap_or_else(|e| panic!("cannot make a cluster: {e}"));
        let mut file = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        file.write_all(self.configuration(&base).as_bytes()).unwrap();
        let cluster = Cluster {
            port: AtomicU32::new(0),
            wanted_port: self.port,
            environment: Mutex::new(self.environment),
            base,
            janitor,
        };
        cluster.start();
        cluster
    }

    fn configuration(&self, base: &Path) -> String {
        let mut text = format!(
            "\n# Written by the test kit.\n\
             listen_addresses = '127.0.0.1'\n\
             unix_socket_directories = '{}'\n\
             shared_preload_libraries = '{}'\n\
             shared_buffers = '128MB'\n\
             max_connections = 60\n\
             max_worker_processes = 32\n\
             max_wal_size = '4GB'\n\
             log_line_prefix = '%m [%p] %q%u@%d '\n\
             log_checkpoints = off\n\
             timezone = 'UTC'\n",
            base.display(),
            self.preload.join(","),
        );
        if self.preload.iter().any(|library| library == "timescaledb") {
            text.push_str("timescaledb.telemetry_level = off\n");
        }
        if !self.durable {
            // Commits still reach the system's cache before they are answered, so a killed server loses none.
            text.push_str("fsync = off\nfull_page_writes = off\n");
        }
        for (name, value) in &self.settings {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        text
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    base: PathBuf,
    /// An atomic only because a restart may have to move to another port.
    port: AtomicU32,
    wanted_port: Option<u16>,
    environment: Mutex<BTreeMap<String, String>>,
    janitor: Option<Janitor>,
}

impl Cluster {
    /// A cluster to be, with TimescaleDB preloaded.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The directory of the cluster: `data`, `server.log`, and the socket; also the server's `HOME`.
    pub fn dir(&self) -> &Path {
        &self.base
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.base.join("data")
    }

    /// The port on 127.0.0.1, also the number of the socket.
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::SeqCst) as u16
    }

    /// The process id of the postmaster.
    pub fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.data_dir().join("postmaster.pid")).expect("a running server");
        text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process id in postmaster.pid")
    }

    /// The server's log so far.
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
        // Between finding a free port and listening on it somebody else may take it.
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
        // One of them may end by itself before its turn.
        let _ = run(std::process::Command::new("kill").arg("-9").args(pids.iter().map(u32::to_string)));
        // One that was started meanwhile finds its postmaster dead.
        wait_until("the killed server", Duration::from_secs(30), || !pids.iter().any(|&pid| is_running(pid)));
        self.remove_locks();
    }

    /// Kills the postmaster alone; its processes have to notice, and this waits until they have.
    pub fn kill_postmaster(&self) {
        let postmaster = self.pid();
        let pids = [vec![postmaster], children(postmaster)].concat();
        run(std::process::Command::new("kill").args(["-9", &postmaster.to_string()])).expect("a running postmaster");
        wait_until("the orphans of a killed postmaster", Duration::from_secs(30), || {
            !pids.iter().any(|&pid| is_running(pid))
        });
        self.remove_locks();
    }

    /// A next start would believe what a killed server has left: nobody may have waited for the dead process yet, or
    /// another one has its id.
    fn remove_locks(&self) {
        for file in [self.data_dir().join("postmaster.pid"), self.base.join(format!(".s.PGSQL.{}.lock", self.port()))] {
            std::fs::remove_file(file).expect("a lock file of a killed server");
        }
    }

    fn stop_by(&self, mode: &str) -> Result<String, String> {
        let mut command = server_program("pg_ctl");
        run(command.arg("-D").arg(self.data_dir()).args(["-s", "-m", mode, "-w", "-t", DEADLINE, "stop"]))
    }

    /// A streaming standby of this cluster, with the same settings and environment, that answers queries.
    pub fn standby(&self) -> Cluster {
        let base = fresh_dir("btc_ingest-pg-").expect("a temporary directory");
        let janitor = janitor(&base);
        give_away(&base);
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
        let standby = Cluster { base, port: AtomicU32::new(0), wanted_port: None, environment, janitor: Some(janitor) };
        standby.start();
        standby
    }

    /// Makes a standby a primary and waits until it is one.
    pub fn promote(&self) {
        let mut command = server_program("pg_ctl");
        command.arg("-D").arg(self.data_dir()).args(["-s", "-w", "-t", DEADLINE, "promote"]);
        run(&mut command).unwrap_or_else(|e| panic!("cannot promote: {e}"));
    }

    /// For libpq and the postgres crate alike, as the superuser.
    pub fn connection_string(&self, db: &str) -> String {
        self.connection_string_as(db, "postgres")
    }

    /// For libpq and the postgres crate alike.
    pub fn connection_string_as(&self, db: &str, user: &str) -> String {
        format!("host=127.0.0.1 port={} user={user} dbname={db}", self.port())
    }

    /// A connection as the superuser.
    pub fn client(&self, db: &str) -> Client {
        self.client_as(db, "postgres")
    }

    /// A connection as `user`; the cluster trusts everybody.
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

    /// The same with psql's own options, for example `-x`, or none for its usual tables.
    pub fn psql_with(&self, db: &str, options: &[&str], sql: &str) -> Result<String, String> {
        let mut command = client_program("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.connection_string(db)]).args(options);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("psql: {e}"))?;
        // A script is smaller than a pipe or read as it is written: psql reads line by line. It may end early on an error.
        let mut stdin = child.stdin.take().expect("a pipe");
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let output = child.wait_with_output();
        let _ = writer.join();
        outcome(command.get_program(), output)
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) {
        self.client("postgres")
            .batch_execute(&format!("CREATE DATABASE {}", quoted(name)))
            .unwrap_or_else(|e| panic!("cannot create database {name}: {e:?}"));
    }

    /// `CREATE EXTENSION btc_ingest CASCADE`, with what it requires.
    pub fn install_extension(&self, db: &str) {
        self.client(db)
            .batch_execute("SET client_min_messages = warning; CREATE EXTENSION btc_ingest CASCADE")
            .unwrap_or_else(|e| panic!("cannot install btc_ingest in {db}: {e:?}"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && self.janitor.is_some() {
            eprintln!("the server's last words:\n{}", tail(&self.log(), LOG_LINES));
        }
        // The janitor stops the server and removes the directory; without one the cluster was meant to stay.
        drop(self.janitor.take());
    }
}

/// A database of its own for one test, dropped at its end.
#[derive(Debug)]
pub struct TestDb<'a> {
    cluster: &'a Cluster,
    name: String,
    log_start: usize,
}

impl<'a> TestDb<'a> {
    /// An empty database.
    pub fn new(cluster: &'a Cluster) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let log_start = cluster.log().len();
        cluster.create_database(&name);
        Self { cluster, name, log_start }
    }

    /// A database with btc_ingest installed.
    pub fn with_extension(cluster: &'a Cluster) -> Self {
        let db = Self::new(cluster);
        cluster.install_extension(&db.name);
        db
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// A connection as the superuser.
    pub fn client(&self) -> Client {
        self.cluster.client(&self.name)
    }

    /// A connection as `user`.
    pub fn client_as(&self, user: &str) -> Client {
        self.cluster.client_as(&self.name, user)
    }

    /// For libpq and the postgres crate alike, as the superuser.
    pub fn connection_string(&self) -> String {
        self.cluster.connection_string(&self.name)
    }

    /// Runs a script through the real psql, see [`Cluster::psql`].
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        self.cluster.psql(&self.name, sql)
    }

    /// What the server has logged since this database was made; other tests' lines may be among it.
    pub fn log(&self) -> String {
        self.cluster.log().split_off(self.log_start)
    }
}

impl Drop for TestDb<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's last words since {} was made:\n{}", self.name, tail(&self.log(), LOG_LINES));
        }
        // Not worth failing a test for: the cluster goes soon anyway.
        if let Ok(mut client) = Client::connect(&self.cluster.connection_string("postgres"), NoTls) {
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&self.name)));
        }
    }
}

/// A name as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The process id of the backend behind `client`.
pub fn backend_pid(client: &mut Client) -> u32 {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a live connection").get(0);
    pid.unsigned_abs()
}

fn janitor(base: &Path) -> Janitor {
    let pg_ctl = crate::command::bindir().join("pg_ctl");
    let mut args: Vec<&std::ffi::OsStr> = vec![base.as_os_str()];
    args.extend(unprivileged().iter().map(std::ffi::OsStr::new));
    args.push(pg_ctl.as_os_str());
    Janitor::new(STOP_AND_REMOVE, args).expect("a shell to clean up with")
}

/// Gives the directory to the user the server runs as, and lets everybody see the way through it to the log.
fn give_away(base: &Path) {
    std::fs::set_permissions(base, std::fs::Permissions::from_mode(0o755)).expect("our own directory");
    if is_root() {
        run(std::process::Command::new("chown").arg(format!("{OS_USER}:{OS_USER}")).arg(base))
            .unwrap_or_else(|e| panic!("cannot give the directory to {OS_USER}: {e}"));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// `wanted`, or the first free port after it.
fn free_port_from(wanted: u16) -> u16 {
    (wanted..wanted.saturating_add(100))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .unwrap_or_else(free_port)
}

/// The last `count` lines of `text`.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
