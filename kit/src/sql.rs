//! Statements of a test. Each panics if the statement fails, and names the statement.

use std::time::Duration;

use postgres::Client;

use crate::wait::{SOON, wait_until};

/// Runs statements that return nothing of interest.
#[track_caller]
pub fn execute(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Returns the one value of a statement, or "null".
#[track_caller]
pub fn text(client: &mut Client, sql: &str) -> String {
    let row = client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())
}

/// Returns the first column of every row, with "null" for a null.
#[track_caller]
pub fn texts(client: &mut Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())).collect()
}

/// Returns the one number of a statement.
#[track_caller]
pub fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// Waits until a boolean expression is true; panics and names `what` after [`SOON`].
#[track_caller]
pub fn wait_until_true(client: &mut Client, what: &str, expression: &str) {
    wait_until_true_within(client, what, SOON, expression);
}

/// Waits until a boolean expression is true; panics and names `what` after `limit`.
#[track_caller]
pub fn wait_until_true_within(client: &mut Client, what: &str, limit: Duration, expression: &str) {
    wait_until(what, limit, || text(client, &format!("SELECT ({expression})::text")) == "true");
}

/// A fixture with a session of its own, in which it runs the statements of a test.
pub trait Session {
    /// Returns the session.
    fn client(&mut self) -> &mut Client;

    /// See [`text`].
    #[track_caller]
    fn text(&mut self, sql: &str) -> String {
        text(self.client(), sql)
    }

    /// See [`texts`].
    #[track_caller]
    fn texts(&mut self, sql: &str) -> Vec<String> {
        texts(self.client(), sql)
    }

    /// See [`number`].
    #[track_caller]
    fn number(&mut self, sql: &str) -> i64 {
        number(self.client(), sql)
    }

    /// See [`execute`].
    #[track_caller]
    fn run(&mut self, sql: &str) {
        execute(self.client(), sql);
    }

    /// See [`wait_until_true`].
    #[track_caller]
    fn wait_for(&mut self, what: &str, expression: &str) {
        wait_until_true(self.client(), what, expression);
    }
}
