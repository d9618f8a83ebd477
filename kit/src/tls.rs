//! A certificate authority of our own, good for loopback and for as long as a test runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::janitor::ScratchDir;

/// The authority, with a server certificate that it has signed.
pub struct Authority {
    pem: String,
    file: PathBuf,
    acceptor: TlsAcceptor,
    _scratch: ScratchDir,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority and a certificate for `127.0.0.1` and `localhost`.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(rcgen::DnType::CommonName, "btc_ingest test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let server = CertificateParams::new(names).expect("good names").signed_by(&key, &issuer).expect("a signature");

        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![server.der().clone()], private.into())
            .expect("a certificate that fits its key");

        let scratch = ScratchDir::new("btc_ingest-ca-").expect("a temporary directory");
        // The server under test may run as another user.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).expect("our own directory");
        let file = scratch.path().join("ca.pem");
        std::fs::write(&file, issuer.pem()).expect("a file in our own directory");
        Self { pem: issuer.pem(), file, acceptor: TlsAcceptor::from(Arc::new(config)), _scratch: scratch }
    }

    /// Returns the authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the authority's certificate as a file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns what turns connections into TLS ones, with the server certificate.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
