//! Describes the machine, without its name or the names of its directories.

use std::path::PathBuf;
use std::process::Command;

use btc_ingest_kit::command::{library_dir, run};

use crate::servers::{SETTINGS, Servers};

/// The message of the standard library's own checks, which are compiled into code with debug assertions only.
const DEBUG_ASSERTIONS: &[u8] = b"unsafe precondition(s) violated";

/// Returns processors, memory, versions and settings, a line each.
pub fn describe(servers: &Servers) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut client = servers.session();
    let mut ask = |sql: &str| client.query_one(sql, &[]).expect("an answer").get::<_, String>(0);
    let version = |name: &str| format!("SELECT extversion FROM pg_extension WHERE extname = '{name}'");
    let build = if is_release() { "a release build" } else { "NOT a release build: its times mean nothing" };
    let shown: Vec<String> =
        SETTINGS.iter().map(|(name, _)| format!("{name}={}", ask(&format!("SHOW {name}")))).collect();
    vec![
        format!("{cores} cores of {}, {} of memory", processor(), memory()),
        format!(
            "PostgreSQL {}, TimescaleDB {} (license {}), btc_ingest {} of {}, {build}",
            ask("SHOW server_version"),
            ask(&version("timescaledb")),
            ask("SHOW timescaledb.license"),
            ask(&version("btc_ingest")),
            commit(),
        ),
        format!("Settings: {}", shown.join(", ")),
        format!("Measured on {}", ask("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')")),
    ]
}

/// Returns whether the installed library is a release build: one without debug assertions.
pub fn is_release() -> bool {
    let library = std::fs::read(installed()).unwrap_or_else(|e| panic!("btc_ingest is not installed: {e}"));
    !library.windows(DEBUG_ASSERTIONS.len()).any(|bytes| bytes == DEBUG_ASSERTIONS)
}

/// Returns the commit of the sources.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
    run(&mut git).map_or("sources without history".to_owned(), |name| format!("commit {}", name.trim()))
}

/// Ticks of the kernel's clock since the machine was started: those in which a processor was busy, and all of them,
/// summed over the processors. The difference of two values says how busy the machine was.
#[derive(Debug, Clone, Copy)]
pub struct Busy {
    busy: u64,
    all: u64,
}

impl Busy {
    /// Reads the values up to now.
    pub fn now() -> Self {
        let line = line_of("/proc/stat", "cpu ");
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).flat_map(str::parse).collect();
        let all = ticks.iter().sum();
        // The fourth and the fifth: idle, and idle with a disk at work.
        Self { busy: all - ticks.iter().skip(3).take(2).sum::<u64>(), all }
    }

    /// Returns how many processors were busy since then, on average.
    pub fn cores_since(&self) -> f64 {
        let now = Self::now();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        (now.busy - self.busy) as f64 / (now.all - self.all).max(1) as f64 * cores as f64
    }
}

fn installed() -> PathBuf {
    library_dir().join("btc_ingest.so")
}

fn processor() -> String {
    value_of("/proc/cpuinfo", "model name")
}

fn memory() -> String {
    let text = value_of("/proc/meminfo", "MemTotal");
    let kb: u64 = text.trim_end_matches(" kB").parse().unwrap_or_default();
    format!("{:.0} GB", kb as f64 / (1 << 20) as f64)
}

/// Returns what follows a name and a colon in a file of the kernel.
fn value_of(file: &str, name: &str) -> String {
    let line = line_of(file, name);
    line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
}

/// Returns the first line of a file of the kernel that begins with `start`.
fn line_of(file: &str, start: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned()
}
