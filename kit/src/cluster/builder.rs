//! How a cluster is made.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use super::hostile_settings;
use super::running::{Cluster, give_to_server_user, janitor};
use crate::command::{run, server_program};
use crate::janitor::{Janitor, fresh_dir};
use crate::switches;

/// The builder of a cluster; [`ClusterBuilder::start`] makes it.
#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    preload: Vec<String>,
    settings: Vec<(String, String)>,
    environment: BTreeMap<String, String>,
    durable: bool,
    port: Option<u16>,
    hostile: bool,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        // Without credentials the SDK would ask the metadata service, which takes seconds.
        let environment = BTreeMap::from([("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned())]);
        Self {
            preload: vec!["timescaledb".to_owned()],
            settings: vec![],
            environment,
            durable: false,
            port: None,
            hostile: hostile_settings::wanted(),
        }
    }
}

impl ClusterBuilder {
    /// Adds a library to `shared_preload_libraries`, after timescaledb.
    pub fn preload(mut self, library: &str) -> Self {
        self.preload.push(library.to_owned());
        self
    }

    /// Adds a line to postgresql.conf and quotes the value.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a variable of the server's environment. The caller's own `AWS_*`, `PG*` and proxy variables never reach it.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets both keys of an AWS user in the server's environment.
    pub fn aws_keys(self, access: &str, secret: &str) -> Self {
        self.env("AWS_ACCESS_KEY_ID", access).env("AWS_SECRET_ACCESS_KEY", secret)
    }

    /// Lets btc_ingest read one bucket of the S3 server at this endpoint.
    pub fn reading_s3(self, bucket: &str, endpoint: &str) -> Self {
        self.setting("btc_ingest.allowed_prefixes", &format!("s3://{bucket}"))
            .setting("btc_ingest.s3_endpoint", endpoint)
            .setting("btc_ingest.s3_region", "us-east-1")
            .setting("btc_ingest.s3_force_path_style", "on")
    }

    /// Leaves fsync and full_page_writes on: for measuring.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Sets the port to listen on. If it is in use, or if this is not called, the cluster takes any free port.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Gives the databases and the superuser settings that change how values read as texts, and what a statement means.
    pub fn hostile_settings(mut self) -> Self {
        self.hostile = true;
        self
    }

    /// Makes the cluster and waits until it answers. It goes when the returned value or this process goes.
    pub fn start(self) -> Cluster {
        let base = fresh_dir("btc_ingest-pg-").expect("a temporary directory");
        let janitor = janitor(&base);
        self.make(base, Some(janitor))
    }

    /// Makes a cluster in the fresh directory `base` that outlives this process; the caller stops it.
    pub fn start_to_stay(self, base: &Path) -> Cluster {
        std::fs::create_dir_all(base).expect("the cluster's directory");
        self.make(base.to_owned(), None)
    }

    fn make(self, base: PathBuf, janitor: Option<Janitor>) -> Cluster {
        give_to_server_user(&base);
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
            hostile: self.hostile,
        };
        cluster.start();
        if self.hostile {
            hostile_settings::of_role(&mut cluster.client("postgres"));
            hostile_settings::of_database(&mut cluster.client("postgres"), "postgres");
        }
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
            // Commits still reach the system's cache before the answer, so a killed server loses none.
            text.push_str("fsync = off\nfull_page_writes = off\n");
        }
        for (name, value) in switches::settings().iter().chain(&self.settings) {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        text
    }
}

impl Cluster {
    /// Returns the builder of a cluster with TimescaleDB preloaded.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }
}
