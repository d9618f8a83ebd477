//! Runs what the documents show, block after block, on a fresh database per page with the objects of the demo in S3.

use std::process::Command;

use btc_ingest_kit::command::{client_program, run};
use btc_ingest_kit::fixture::{ACCESS, BUCKET, SECRET, server};
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{Cluster, ParquetFile, S3Server, demo};

use super::blocks::{Block, blocks, pages};

const DATABASE: &str = "market";
/// These pages create the extension themselves.
const INSTALLING: [&str; 2] = ["README.md", "docs/use/install.md"];
/// Blocks that are no statements and no commands of a shell. The test of the digests runs the one in Python.
const OTHER: [&str; 3] = ["text", "conf", "python"];

struct DocumentsFixture {
    cluster: Cluster,
    /// Kept for as long as the cluster reads from it.
    _s3: S3Server,
}

impl DocumentsFixture {
    fn start() -> Self {
        let s3 = server();
        for object in demo::objects() {
            s3.put(BUCKET, &object.key, ParquetFile::new().bytes(&object.ticks));
        }
        let cluster = Cluster::builder()
            .preload("btc_ingest")
            .aws_keys(ACCESS, SECRET)
            .setting("btc_ingest.database", DATABASE)
            .setting("btc_ingest.s3_endpoint", &s3.endpoint())
            .setting("btc_ingest.s3_force_path_style", "on")
            .start();
        Self { cluster, _s3: s3 }
    }

    /// Makes the database anew, without what an earlier page has left in the cluster.
    fn prepare(&self, page: &str) {
        let fresh = format!(
            "DROP DATABASE IF EXISTS {DATABASE}_restored; DROP DATABASE IF EXISTS {DATABASE};
             DROP ROLE IF EXISTS quant, collector, uploads; ALTER SYSTEM RESET ALL; CREATE DATABASE {DATABASE};"
        );
        self.cluster.psql("postgres", &fresh).unwrap();
        if !INSTALLING.contains(&page) {
            let install = format!(
                "SET client_min_messages = warning; CREATE EXTENSION btc_ingest CASCADE;
                 ALTER SYSTEM SET btc_ingest.allowed_prefixes = 's3://{BUCKET}';"
            );
            self.cluster.psql(DATABASE, &install).unwrap();
        }
        self.reload();
    }

    /// Reloads the configuration, and waits until sessions that begin now see it.
    fn reload(&self) {
        let loaded = || self.cluster.psql("postgres", "SELECT pg_conf_load_time()").unwrap();
        let before = loaded();
        self.cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
        wait_until("the reload", SOON, || loaded() != before);
    }

    fn run(&self, block: &Block) -> Result<String, String> {
        let answer = match block.info.as_str() {
            "sql" => self.cluster.psql_with(DATABASE, &[], &block.text),
            _ => self.shell(&block.text),
        };
        if block.text.contains("pg_reload_conf") {
            self.reload();
        }
        answer
    }

    /// Runs commands in a scratch directory, with the server's programs on the path.
    fn shell(&self, text: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let programs = client_program("psql").get_program().to_owned();
        let programs = std::path::Path::new(&programs).parent().unwrap().to_owned();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let port = self.cluster.port().to_string();
        let mut command = Command::new("bash");
        command.args(["-e", "-c", text]).current_dir(directory.path()).env("PATH", path);
        run(command.env("PGHOST", "127.0.0.1").env("PGPORT", port).env("PGUSER", "postgres"))
    }
}

#[test]
fn every_statement_and_command_of_the_documents_runs() {
    let documents = DocumentsFixture::start();
    let mut failed = Vec::new();
    let mut count = 0;
    for page in pages() {
        let runnable: Vec<Block> =
            blocks(&page).into_iter().filter(|block| ["sql", "sh"].contains(&block.info.as_str())).collect();
        if runnable.is_empty() {
            continue;
        }
        documents.prepare(&page);
        for block in &runnable {
            count += 1;
            if let Err(error) = documents.run(block) {
                failed.push(format!("{page}:{}\n{}{error}", block.line, block.text));
            }
        }
    }
    assert!(count > 60, "only {count} blocks were found");
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn a_block_that_is_not_run_says_why_in_the_line_before() {
    let unexplained = |block: &Block| {
        let runs = ["sql", "sh"].contains(&block.info.as_str()) || OTHER.contains(&block.info.as_str());
        let explained =
            ["sql example", "sh example"].contains(&block.info.as_str()) && block.before.starts_with("<!-- not run: ");
        !runs && !explained
    };
    let mut found = Vec::new();
    for page in pages() {
        found.extend(
            blocks(&page)
                .iter()
                .filter(|block| unexplained(block))
                .map(|block| format!("{page}:{} ```{} after \"{}\"", block.line, block.info, block.before)),
        );
    }
    assert_eq!(found, Vec::<String>::new());
}
