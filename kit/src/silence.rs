//! An endpoint that no request may reach.

use std::io::ErrorKind;
use std::net::TcpListener;

/// A listener on loopback that accepts nothing.
#[derive(Debug)]
pub struct SilentEndpoint(TcpListener);

impl SilentEndpoint {
    /// Listens on any free port.
    #[expect(clippy::new_without_default, reason = "a listener is made, not assumed")]
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    /// Returns what `btc_ingest.s3_endpoint` wants.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// Checks that no client has connected.
    #[track_caller]
    pub fn must_be_unused(&self) {
        let client = self.0.accept().map(|(_, address)| address);
        assert_eq!(client.map_err(|e| e.kind()), Err(ErrorKind::WouldBlock), "a client has connected");
    }
}
