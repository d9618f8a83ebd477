//! A database of its own for one test.

use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Client, NoTls};

use super::running::{Cluster, LOG_LINES, quoted, tail};
use crate::{amcheck, switches};

/// A database of its own for one test, dropped at its end.
#[derive(Debug)]
pub struct TestDb<'a> {
    cluster: &'a Cluster,
    name: String,
    log_start: usize,
}

impl<'a> TestDb<'a> {
    /// Makes an empty database.
    pub fn new(cluster: &'a Cluster) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let log_start = cluster.log().len();
        cluster.create_database(&name);
        Self { cluster, name, log_start }
    }

    /// Makes a database with btc_ingest installed.
    pub fn with_extension(cluster: &'a Cluster) -> Self {
        let db = Self::new(cluster);
        cluster.install_extension(&db.name);
        db
    }

    /// Returns the name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the cluster of the database.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Opens a connection as the superuser.
    pub fn client(&self) -> Client {
        self.cluster.client(&self.name)
    }

    /// Opens a connection as `user`.
    pub fn client_as(&self, user: &str) -> Client {
        self.cluster.client_as(&self.name, user)
    }

    /// Returns the superuser's connection string, for libpq and the postgres crate alike.
    pub fn connection_string(&self) -> String {
        self.cluster.connection_string(&self.name)
    }

    /// Runs a script through the real psql, see [`Cluster::psql`].
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        self.cluster.psql(&self.name, sql)
    }

    /// Returns what the server has logged since this database was made, lines of other tests included.
    pub fn log(&self) -> String {
        self.cluster.log().split_off(self.log_start)
    }
}

impl Drop for TestDb<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's last words since {} was made:\n{}", self.name, tail(&self.log(), LOG_LINES));
        }
        let check = switches::amcheck() && !std::thread::panicking();
        let wrong = if check { amcheck::at_the_end(&self.connection_string()) } else { Vec::new() };
        // An error is ignored, because the cluster is removed soon.
        if let Ok(mut client) = Client::connect(&self.cluster.connection_string("postgres"), NoTls) {
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&self.name)));
        }
        assert!(wrong.is_empty(), "amcheck has found in {}:\n{}", self.name, wrong.join("\n"));
    }
}
