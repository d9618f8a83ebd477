//! A backfill on a cluster that is to die in its middle.

use std::thread::JoinHandle;
use std::time::Duration;

use btc_ingest_tests::stand::{ACCESS, BUCKET, SECRET};
use btc_ingest_tests::wait::{wait_for, wait_until};
use btc_ingest_tests::{Cluster, Fault, FaultProxy, Tick, When};
use postgres::Client;

use super::{
    Called, SOON, STATUSES, call, must_be_quiet, must_hold, number, patient_no_more, put_small, stand, text, try_client,
};

/// A cluster of its own, a slow S3 before it, and forty objects.
pub struct Doomed {
    pub cluster: Cluster,
    pub proxy: FaultProxy,
    pub all: Vec<Tick>,
    pub prefixes: Vec<String>,
}

impl Doomed {
    pub fn new(folder: &str, preloaded: bool) -> Doomed {
        let proxy = FaultProxy::before(&stand().s3);
        let mut builder = Cluster::builder()
            .aws_keys(ACCESS, SECRET)
            .setting("btc_ingest.allowed_prefixes", &format!("s3://{BUCKET}"))
            .setting("btc_ingest.s3_endpoint", &proxy.endpoint())
            .setting("btc_ingest.s3_region", "us-east-1")
            .setting("btc_ingest.s3_force_path_style", "on")
            .setting("btc_ingest.database", "doomed");
        if preloaded {
            builder = builder.preload("btc_ingest");
        }
        let cluster = builder.start();
        patient_no_more(&cluster);
        cluster.create_database("doomed");
        cluster.install_extension("doomed");
        let all = put_small(stand(), folder, 40);
        let prefixes = vec![format!("s3://{BUCKET}/{folder}/Binance/")];
        proxy.on(When::get().key("Binance/BTC"), Fault::Latency(Duration::from_millis(60)));
        Doomed { cluster, proxy, all, prefixes }
    }

    /// Calls from a thread.
    pub fn call(&self, args: &str) -> JoinHandle<Called> {
        let (connection, prefixes, args) = (self.connection_string(), self.prefixes.clone(), args.to_owned());
        std::thread::spawn(move || call(&connection, &prefixes, &args))
    }

    /// The same, and returns when the work is in its middle.
    pub fn begin(&self) -> JoinHandle<Called> {
        let call = self.call("parallel => 2");
        let mut client = self.client();
        wait_until("the middle", SOON, || loaded(&mut client) >= 8);
        assert!(loaded(&mut client) < 30, "the middle is over");
        call
    }

    pub fn connection_string(&self) -> String {
        self.cluster.connection_string("doomed")
    }

    /// A session, as soon as the server answers.
    pub fn client(&self) -> Client {
        wait_for("the server", SOON, || try_client(&self.connection_string()))
    }

    /// Waits for the end of the work, which nobody watches.
    pub fn wait_for_the_end(&self) {
        let mut client = self.client();
        wait_until("the end", SOON, || text(&mut client, "SELECT status FROM ingestion.backfills") == "done");
    }

    /// Everything is stored once, no attempt is lost, and nothing is left.
    #[track_caller]
    pub fn must_be_whole(&self, killed: i64) {
        let mut client = self.client();
        must_hold(&mut client, &self.all);
        assert_eq!(text(&mut client, STATUSES), "loaded");
        must_be_quiet(&mut client);
        let report = "SELECT concat_ws(' ', status, objects_total, objects_done, objects_failed, rows_inserted) FROM btc_ingest.backfill_status(1)";
        assert_eq!(text(&mut client, report), format!("done 40 40 0 {}", self.all.len()));
        assert_eq!(number(&mut client, "SELECT count(*) FROM ingestion.backfills"), 1);
        // A killed worker has burnt the attempt that it was at, and no other.
        let attempts = number(&mut client, "SELECT sum(attempts) FROM ingestion.objects");
        assert!((40..=40 + killed).contains(&attempts), "{attempts} attempts");
        assert_eq!(number(&mut client, "SELECT count(*) FROM ingestion.load_history WHERE outcome = 'loaded'"), 40);
    }
}

/// How many objects are loaded.
pub fn loaded(client: &mut Client) -> i64 {
    number(client, "SELECT count(*) FROM ingestion.objects WHERE status = 'loaded'")
}
