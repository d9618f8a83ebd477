//! What a process holds, read from /proc: memory, threads, descriptors.
//!
//! Memory is private memory plus memfds. Plain RSS would count shared_buffers and miss memfds.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::command::run;

/// Memory that a process does not share, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident anonymous memory.
    pub rss_anon: u64,
    /// The sizes of its memory files, each once however many descriptors it has.
    pub memfd: u64,
}

impl Memory {
    /// Returns the sum of both.
    pub fn total(self) -> u64 {
        self.rss_anon + self.memfd
    }
}

/// Returns what process `pid` holds now, or `None` if it has ended.
pub fn memory(pid: u32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss_anon = field(&status, "RssAnon:")? * 1024;
    let mut seen = HashSet::new();
    let memfd = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:")))
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .filter(|file| seen.insert(file.ino()))
        // Blocks, not length: a file may get its size before its content.
        .map(|file| file.blocks() * 512)
        .sum();
    Some(Memory { rss_anon, memfd })
}

/// Counts the threads of process `pid`; 0 if it has ended.
pub fn threads(pid: u32) -> usize {
    count(&format!("/proc/{pid}/task"))
}

/// Counts the open descriptors of process `pid` by kind (`socket:`, `anon_inode:`, a path); none if it has ended. Files
/// of a cluster's data are left out, because PostgreSQL keeps them open at will.
pub fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let mut open = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let kind = target.to_string_lossy().split('[').next().unwrap_or_default().to_owned();
        if !["/data/base/", "/data/pg_", "/data/global/"].iter().any(|data| kind.contains(data)) {
            *open.entry(kind).or_default() += 1;
        }
    }
    open
}

/// Whether process `pid` runs; one that has ended and was not waited for does not.
pub fn is_running(pid: u32) -> bool {
    state(pid).is_some_and(|state| !['Z', 'X'].contains(&state))
}

/// Whether process `pid` was stopped by a signal.
pub fn is_stopped(pid: u32) -> bool {
    state(pid) == Some('T')
}

fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The state follows the name, which is in parentheses and may hold anything.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Returns the running children of process `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let parent = |child: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&child| parent(child) == Some(pid) && is_running(child))
        .collect()
}

/// Sends SIGKILL to process `pid`, which must exist.
pub fn kill(pid: u32) {
    run(Command::new("kill").args(["-9", &pid.to_string()])).expect("a process that runs");
}

/// Returns the command line of process `pid`, words separated by spaces; an empty text if it has ended.
pub fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

fn count(path: &str) -> usize {
    std::fs::read_dir(path).map_or(0, |entries| entries.count())
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Watches the memory of one process from a thread of its own and keeps the peak.
#[derive(Debug)]
pub struct MemoryWatch {
    stop: Arc<AtomicBool>,
    peak: Arc<Mutex<Memory>>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    /// Starts with a first sample, so that the peak is never below what the process held at this moment.
    pub fn start(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peak = Arc::new(Mutex::new(memory(pid).unwrap_or_default()));
        let (stop_too, peak_too) = (stop.clone(), peak.clone());
        let thread = std::thread::spawn(move || {
            while !stop_too.load(Ordering::Relaxed) {
                let Some(now) = memory(pid) else { return };
                let mut peak = peak_too.lock().unwrap();
                // One sample as a whole: parts of different moments would add up to a wrong sum.
                if now.total() > peak.total() {
                    *peak = now;
                }
                drop(peak);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, peak, thread: Some(thread) }
    }

    /// Returns the largest sample so far.
    pub fn peak(&self) -> Memory {
        *self.peak.lock().unwrap()
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
