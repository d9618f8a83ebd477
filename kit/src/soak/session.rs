//! A session that survives the death of its server: it connects again and repeats its work from the beginning.

use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

/// A server that does not answer by then counts as lost.
const LIMIT: Duration = Duration::from_secs(60);
/// The pause between two attempts.
const STEP: Duration = Duration::from_millis(50);
/// SQLSTATEs of a server that stops or starts.
const GONE: [&str; 5] = ["57P01", "57P02", "57P03", "08006", "53300"];

/// A session that connects again.
pub struct Session {
    connection: String,
    client: Option<Client>,
    /// How often it has lost its connection.
    pub lost: usize,
}

impl Session {
    /// Makes a session that connects when it is used.
    pub fn new(connection: String) -> Self {
        Self { connection, client: None, lost: 0 }
    }

    /// Does some work, and repeats it each time that the server is lost meanwhile. Returns any other error.
    pub fn run<T>(&mut self, mut work: impl FnMut(&mut Client) -> Result<T, postgres::Error>) -> Result<T, String> {
        let mut alone = Instant::now();
        loop {
            let done = match self.client.as_mut() {
                Some(client) => {
                    let done = work(client);
                    alone = Instant::now();
                    done
                }
                None => match Client::connect(&self.connection, NoTls) {
                    Ok(client) => {
                        self.client = Some(client);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match done {
                Err(error) if is_gone(&error) => {
                    self.lost += usize::from(self.client.take().is_some());
                    if alone.elapsed() > LIMIT {
                        return Err(format!("the server did not come back: {error}"));
                    }
                    std::thread::sleep(STEP);
                }
                Err(error) => return Err(said(&error)),
                Ok(done) => return Ok(done),
            }
        }
    }

    /// Returns the one number of a statement.
    pub fn number(&mut self, sql: &str) -> Result<i64, String> {
        self.run(|client| Ok(client.query_one(sql, &[])?.get(0)))
    }
}

fn is_gone(error: &postgres::Error) -> bool {
    error.as_db_error().is_none_or(|error| GONE.contains(&error.code().code()))
}

fn said(error: &postgres::Error) -> String {
    error.as_db_error().map_or(error.to_string(), |error| format!("{} ({})", error.message(), error.code().code()))
}
