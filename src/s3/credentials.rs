//! Credentials that may be replaced while a connection lives: those of an instance role expire, and a profile's file
//! may be written anew.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_s3::config::{Region, SharedHttpClient};
use tokio::sync::Mutex;

use super::config::{S3Settings, config_loader};
use crate::error::{Error, Result};

/// Credentials are renewed this long before they expire. The SDK's own margin is ten seconds.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// The least time between two fetches that were made because S3 refused a request. An object that may not be read
/// would otherwise cost a request to the metadata service in each attempt.
const RENEW_AGAIN: Duration = Duration::from_secs(1);
/// The provider whose credentials stay the same for the life of the process.
const ENVIRONMENT: &str = "EnvironmentVariable";

/// The current credentials of a connection. Clones share them.
#[derive(Debug, Clone)]
pub struct CurrentCredentials {
    source: Arc<Source>,
    state: Arc<Mutex<State>>,
}

/// Where credentials are fetched: the AWS default chain, made anew for each fetch, because a chain remembers the files
/// that it has read.
#[derive(Debug)]
struct Source {
    settings: S3Settings,
    http: SharedHttpClient,
    region: Region,
}

#[derive(Debug)]
struct State {
    current: Credentials,
    /// When they were last fetched because S3 had refused them.
    renewed: Option<Instant>,
}

impl CurrentCredentials {
    /// Makes the credentials of a new connection from those that were fetched for it.
    pub fn new(first: Credentials, settings: &S3Settings, http: SharedHttpClient, region: Region) -> Self {
        let source = Source { settings: settings.clone(), http, region };
        let state = State { current: first, renewed: None };
        CurrentCredentials { source: Arc::new(source), state: Arc::new(Mutex::new(state)) }
    }

    /// Returns the credentials that the next request uses.
    pub async fn get(&self) -> std::result::Result<Credentials, CredentialsError> {
        let mut state = self.state.lock().await;
        let left = |credentials: &Credentials| match credentials.expiry() {
            Some(end) => end.duration_since(SystemTime::now()).unwrap_or_default(),
            None => Duration::MAX,
        };
        if left(&state.current) <= RENEW_BEFORE {
            match self.source.fetch().await {
                Ok(fresh) => state.current = fresh,
                Err(error) if left(&state.current).is_zero() => return Err(error),
                // They are still valid, and the next request tries again.
                Err(_) => {}
            }
        }
        Ok(state.current.clone())
    }

    /// Lets the next refusal fetch credentials, however shortly before they were fetched for one.
    pub async fn allow_renewal(&self) {
        self.state.lock().await.renewed = None;
    }

    /// Fetches credentials because S3 has refused these. Returns whether the next request uses others.
    pub async fn renew(&self, refused: &Credentials) -> bool {
        let mut state = self.state.lock().await;
        if !same(&state.current, refused) {
            return true;
        }
        if state.renewed.is_some_and(|at| at.elapsed() < RENEW_AGAIN) {
            return false;
        }
        state.renewed = Some(Instant::now());
        match self.source.fetch().await {
            Ok(fresh) if !same(&fresh, refused) => {
                state.current = fresh;
                true
            }
            _ => false,
        }
    }
}

impl ProvideCredentials for CurrentCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}

impl Source {
    async fn fetch(&self) -> std::result::Result<Credentials, CredentialsError> {
        let loader = config_loader(&self.settings, self.http.clone()).region(self.region.clone());
        match loader.load().await.credentials_provider() {
            Some(provider) => provider.provide_credentials().await,
            None => Err(CredentialsError::not_loaded("no provider")),
        }
    }
}

fn same(a: &Credentials, b: &Credentials) -> bool {
    a.access_key_id() == b.access_key_id()
        && a.secret_access_key() == b.secret_access_key()
        && a.session_token() == b.session_token()
}

/// Fetches the first credentials of a connection.
pub async fn first(config: &aws_config::SdkConfig) -> Result<Credentials> {
    let Some(provider) = config.credentials_provider() else {
        return Err(Error::NoCredentials { why: "The SDK was built without a credentials provider.".into() });
    };
    provider.provide_credentials().await.map_err(|error| none_found(&error))
}

/// Returns the error for a chain that gives no credentials. The chain's own text can quote a profile's contents, so
/// only the kind of the failure is reported.
pub fn none_found(error: &CredentialsError) -> Error {
    use CredentialsError as E;
    let why = match error {
        E::CredentialsNotLoaded(_) => {
            "The environment, the profile, the container and the instance metadata service have none."
        }
        E::ProviderTimedOut(_) => "A provider, probably the instance metadata service, did not answer in time.",
        E::InvalidConfiguration(_) => "The AWS configuration of the server's user, or the profile, is invalid.",
        _ => "A provider failed; it may be the instance metadata service or a role that cannot be assumed.",
    };
    Error::NoCredentials { why: why.into() }
}

/// Returns the provider's name. The SDK shows it in the debug output only, which has the access key but never the
/// secret.
pub fn source_of(credentials: &Credentials) -> String {
    let text = format!("{credentials:?}");
    let name = text.split("provider_name: \"").nth(1).and_then(|rest| rest.split('"').next());
    name.unwrap_or("unknown").to_owned()
}

/// Returns whether a source, as [`source_of`] names it, may give other credentials later.
pub fn may_rotate(source: &str) -> bool {
    source != ENVIRONMENT
}
