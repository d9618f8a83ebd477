//! Installing the library while a server runs.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::command::{library_dir, run};
use btc_ingest_kit::fixture::{loaded, session};
use btc_ingest_kit::rows::ticks_of;
use btc_ingest_kit::wait::SOON;
use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, ServerFixture, When};

const PLACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/place.sh");

#[test]
fn the_library_is_replaced_under_a_running_load_and_the_load_ends_well() {
    let server = ServerFixture::start();
    let proxy = FaultProxy::before(&server.s3);
    let db = server.db();
    let ticks = ticks_of("BTCUSDT", 1, 500);
    let uri = server.put("installing/slice.parquet", ParquetFile::new().bytes(&ticks));
    let mut client = session(&db, &proxy.endpoint(), &[("btc_ingest.s3_read_timeout", "60s")]);
    let backend = backend_pid(&mut client);
    proxy.on(When::get().key("slice.parquet"), Fault::Hang);
    let load = std::thread::spawn(move || (loaded(&mut client, &uri, ""), client));
    proxy.wait_until_stalled(SOON);

    let library = library_dir().join("btc_ingest.so");
    let before = inode(&library);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(&library, copy.path().join("btc_ingest.so")).unwrap();
    run(Command::new(PLACE).arg(copy.path()).arg(library_dir())).unwrap();
    assert_ne!(inode(&library), before, "the library was not replaced");

    proxy.release();
    let (report, mut client) = load.join().unwrap();
    assert_eq!(report.inserted, 500);
    assert_eq!(backend_pid(&mut client), backend, "the session goes on");
    let crashed = ["terminated by signal", "crash of another server process"];
    assert!(!crashed.iter().any(|text| server.cluster.log().contains(text)), "{}", server.cluster.log());
    // A session that begins now maps the new file.
    db.psql("SELECT * FROM btc_ingest.doctor()").unwrap();
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}
