//! What has happened, by the tables, by the proxy and by the soak itself, and whether these three agree.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;

use postgres::Client;

use super::actors::Stage;
use super::killer::Kills;
use super::objects::Objects;
use super::soak_fixture::{ASSETS, SoakFixture, WORKERS};

/// How many processes load: the workers, a sweep, and the backfill's worker.
const LOADING: usize = WORKERS + 2;
/// Objects that a process may have prefetched when it ends, or when a failure makes it begin again.
const PREFETCHED: usize = 8;
/// The SQLSTATE of an attempt that ended with its process.
const LOST: &str = "57P02";

/// One run.
pub struct Account {
    good: usize,
    poisoned: usize,
    twice: usize,
    grown: usize,
    ticks: u64,
    sweeps: usize,
    backfills: usize,
    kills: Kills,
    /// Rows of the history by outcome and SQLSTATE.
    history: BTreeMap<(String, String), i64>,
    inserted: i64,
    /// Of the good objects: the attempts; those without a row in the history; the plain objects whose attempts differ
    /// from it.
    attempts: i64,
    unexplained: i64,
    inexact: i64,
    /// Good objects without a load in the history.
    silent: i64,
    requests: BTreeMap<String, usize>,
    struck: BTreeMap<&'static str, usize>,
    dropped: usize,
    refused: usize,
    retried: usize,
    /// Reads of objects that were no retry of the SDK's.
    reads: usize,
}

impl Account {
    /// Reads the tables, the proxy and the counts of the soak.
    pub fn take(fixture: &SoakFixture, objects: &Objects, stage: &Stage, kills: &Kills) -> Account {
        let mut client = fixture.client();
        let history = history(&mut client);
        let [attempts, unexplained, inexact, silent] = attempts(&mut client, objects);
        let inserted = "SELECT coalesce(sum(rows_inserted), 0)::bigint FROM ingestion.load_history";
        let inserted = client.query_one(inserted, &[]).expect("the history").get(0);
        let seen = fixture.proxy.requests();
        let mut requests = BTreeMap::new();
        let mut struck = BTreeMap::new();
        let first = |attempt: Option<u32>| attempt.is_none_or(|attempt| attempt == 1);
        for request in &seen {
            let listing = request.path.contains("list-type=2");
            let kind = if listing { "LIST".to_owned() } else { request.method.clone() };
            *requests.entry(kind).or_default() += 1;
            if let Some(fault) = request.struck {
                *struck.entry(fault).or_default() += 1;
            }
        }
        let reads = seen.iter().filter(|seen| seen.method == "GET" && !seen.path.contains("list-type=2"));
        Account {
            good: objects.good,
            poisoned: objects.poisoned.len(),
            twice: objects.twice,
            grown: objects.grown,
            ticks: objects.sums.values().map(|sums| sums.rows).sum(),
            sweeps: stage.sweeps.load(Ordering::SeqCst),
            backfills: stage.backfills.load(Ordering::SeqCst),
            kills: kills.clone(),
            history,
            inserted,
            attempts,
            unexplained,
            inexact,
            silent,
            requests,
            struck,
            dropped: fixture.dropped(),
            refused: fixture.proxy.refused() as usize,
            retried: seen.iter().filter(|seen| !first(seen.attempt)).count(),
            reads: reads.filter(|seen| first(seen.attempt)).count(),
        }
    }

    /// Returns what these three sources contradict each other in.
    pub fn contradictions(&self) -> Vec<String> {
        let kills: usize = self.kills.values().sum();
        let lost = self.rows(|outcome, sqlstate| outcome != "loaded" && sqlstate == LOST);
        let at_most = (kills * LOADING) as i64;
        let asked = self.struck_by(&["503", "reset"]) + self.dropped + self.refused;
        let (least, most) = self.reads_explained();
        let questions = [
            (
                self.inserted != self.ticks as i64,
                format!("{} rows were inserted by the history, {} generated", self.inserted, self.ticks),
            ),
            (self.silent != 0, format!("{} loaded objects have no load in the history", self.silent)),
            (self.unexplained != 0, format!("{} attempts are in no row of the history", self.unexplained)),
            (self.inexact != 0, format!("the attempts of {} objects are not what their history says", self.inexact)),
            (
                lost > at_most,
                format!("{lost} attempts ended with their process; {kills} kills can have ended {at_most}"),
            ),
            (
                self.retried > asked,
                format!("{} requests are retries, but only {asked} were refused or broken", self.retried),
            ),
            (self.reads < least, format!("{} reads of objects, but {least} loads have read one each", self.reads)),
            (self.reads > most, format!("{} reads of objects; loads, faults and kills explain {most}", self.reads)),
        ];
        questions.into_iter().filter_map(|(wrong, text)| wrong.then_some(text)).collect()
    }

    fn rows(&self, which: impl Fn(&str, &str) -> bool) -> i64 {
        self.history.iter().filter(|((outcome, sqlstate), _)| which(outcome, sqlstate)).map(|(_, rows)| rows).sum()
    }

    fn struck_by(&self, faults: &[&str]) -> usize {
        faults.iter().filter_map(|fault| self.struck.get(fault)).sum()
    }

    /// Reads that the loads alone need, and those that faults, failures and kills can have come to besides.
    fn reads_explained(&self) -> (usize, usize) {
        let loads = self.rows(|outcome, _| outcome == "loaded") as usize;
        let failed = self.rows(|outcome, _| outcome == "failed" || outcome == "quarantined") as usize;
        let kills: usize = self.kills.values().sum();
        let for_nothing = (kills * LOADING + failed) * PREFETCHED;
        (loads, loads + self.struck_by(&["cut"]) + failed + for_nothing)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { good, poisoned, twice, grown, ticks, .. } = self;
        writeln!(
            f,
            "registered   {good} good slices of {} ({twice} of them twice, \
             {grown} with more ticks the second time), {poisoned} poisoned; {ticks} ticks",
            ASSETS.join(", ")
        )?;
        writeln!(
            f,
            "beside       {WORKERS} workers, {} sweeps, {} backfills of {}",
            self.sweeps, self.backfills, ASSETS[1]
        )?;
        writeln!(f, "killed       {} ({})", self.kills.values().sum::<usize>(), list(&self.kills))?;
        let names = self
            .history
            .iter()
            .map(|((outcome, sqlstate), rows)| (format!("{outcome} {sqlstate}").trim().to_owned(), *rows));
        writeln!(f, "history      {}; {} rows inserted", list(&names.collect()), self.inserted)?;
        writeln!(
            f,
            "attempts     {} of {good} good objects, {} of them not in the history",
            self.attempts, self.unexplained
        )?;
        let all: usize = self.requests.values().sum();
        writeln!(f, "requests     {all} ({})", list(&self.requests))?;
        let struck: usize = self.struck.values().sum();
        writeln!(
            f,
            "faults       {struck}, {:.1} % of the requests ({}); outage: {} requests broken, {} connections refused",
            100.0 * struck as f64 / all.max(1) as f64,
            list(&self.struck),
            self.dropped,
            self.refused
        )?;
        let (least, most) = self.reads_explained();
        write!(
            f,
            "S3           {} requests tried again by the SDK; {} first reads of objects: {least} by loads, \
             {} again after faults, or prefetched in vain (kills and failures explain {})",
            self.retried,
            self.reads,
            self.reads.saturating_sub(least),
            most - least
        )
    }
}

fn list<K: fmt::Display, V: fmt::Display>(of: &BTreeMap<K, V>) -> String {
    of.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

fn history(client: &mut Client) -> BTreeMap<(String, String), i64> {
    let sql = "SELECT outcome, coalesce(sqlstate, ''), count(*) FROM ingestion.load_history GROUP BY 1, 2";
    client.query(sql, &[]).expect("the history").iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

/// Counts the attempts of the good objects: all; those without a row in the history; the plain objects with another
/// number of attempts than rows; the objects without a load. A registration restarts the count, and an attempt that
/// failed for other reasons than the object does not count.
fn attempts(client: &mut Client, objects: &Objects) -> [i64; 4] {
    let sql = "
        WITH told AS (
            SELECT o.s3_uri, o.attempts, count(h.id) AS rows,
                count(h.id) FILTER (WHERE h.outcome LIKE '%loaded') AS loads,
                   count(h.id) FILTER (WHERE h.sqlstate LIKE '53%' OR h.sqlstate = '55P03') AS excused
              FROM ingestion.objects o LEFT JOIN ingestion.load_history h ON h.s3_uri = o.s3_uri
             WHERE o.status = 'loaded' GROUP BY o.s3_uri)
        SELECT coalesce(sum(attempts), 0)::bigint, coalesce(sum(greatest(attempts - rows, 0)), 0)::bigint,
               count(*) FILTER (WHERE s3_uri = ANY ($1) AND attempts <> rows - excused),
               count(*) FILTER (WHERE loads = 0)
          FROM told";
    let plain: Vec<&str> = objects.plain.iter().map(String::as_str).collect();
    let row = client.query_one(sql, &[&plain]).expect("the attempts");
    std::array::from_fn(|column| row.get(column))
}
