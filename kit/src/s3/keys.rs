//! Who may use a server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

/// The keys by which the kit itself writes, so that a test may revoke every other.
pub(super) const KIT_ACCESS: &str = "TESTKITACCESSKEY";
pub(super) const KIT_SECRET: &str = "test-kit-secret-key";

/// Who may use a server, shared between the server and the test that changes it.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<Mutex<HashMap<String, Key>>>);

#[derive(Debug, Clone)]
pub(super) struct Key {
    secret: String,
    pub(super) token: Option<String>,
}

impl Keys {
    /// Lets this user in; a secret given before is replaced.
    pub fn allow(&self, access: &str, secret: &str) {
        self.set(access, secret, None);
    }

    /// Lets this user in when the request also carries this session token, as keys of an instance role do.
    pub fn allow_with_token(&self, access: &str, secret: &str, token: &str) {
        self.set(access, secret, Some(token));
    }

    /// Denies this user from now on.
    pub fn revoke(&self, access: &str) {
        self.0.lock().unwrap().remove(access);
    }

    fn set(&self, access: &str, secret: &str, token: Option<&str>) {
        let key = Key { secret: secret.to_owned(), token: token.map(str::to_owned) };
        self.0.lock().unwrap().insert(access.to_owned(), key);
    }

    pub(super) fn get(&self, access: &str) -> Option<Key> {
        self.0.lock().unwrap().get(access).cloned()
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.get(access_key) {
            Some(key) => Ok(SecretKey::from(key.secret)),
            None => Err(s3_error!(InvalidAccessKeyId, "The AWS access key id does not exist in our records.")),
        }
    }
}
