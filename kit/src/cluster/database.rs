//! A database of its own for one test.

use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Client, NoTls};

use super::{Cluster, LOG_LINES, quoted, tail};

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
