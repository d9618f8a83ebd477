//! An instance metadata service (version 2 only) on loopback that hands out the credentials of an instance role.
//!
//! A server finds it through `AWS_EC2_METADATA_SERVICE_ENDPOINT`; set `AWS_EC2_METADATA_DISABLED` to `false`, too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::Incoming;
use hyper::{Method, Request, Response};

use crate::http::{Body, BoxError, Server, full, serve};

const TOKEN: &str = "test-kit-metadata-token";
const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/";
/// The name of the role.
pub const ROLE: &str = "btc-ingest-test-role";
/// The region the instance is in.
pub const REGION: &str = "us-east-1";

#[derive(Debug)]
struct State {
    access: String,
    secret: String,
    token: String,
    /// How long credentials last from the moment they are asked for.
    lifetime: Duration,
    counts: BTreeMap<String, u64>,
}

/// A running service.
#[derive(Debug)]
pub struct FakeImds {
    state: Arc<Mutex<State>>,
    server: Server,
}

impl FakeImds {
    /// Starts a service that hands out these credentials.
    pub fn start(access: &str, secret: &str, token: &str) -> Self {
        let state = Arc::new(Mutex::new(State {
            access: access.to_owned(),
            secret: secret.to_owned(),
            token: token.to_owned(),
            lifetime: Duration::from_secs(6 * 3600),
            counts: BTreeMap::new(),
        }));
        let shared = state.clone();
        let connection = move |stream| {
            let state = shared.clone();
            serve(stream, move |request| answer(state.clone(), request))
        };
        Self { state, server: Server::start(0, connection).expect("a metadata service") }
    }

    /// Returns what `AWS_EC2_METADATA_SERVICE_ENDPOINT` needs.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Changes the credentials that the service hands out.
    pub fn rotate(&self, access: &str, secret: &str, token: &str) {
        let mut state = self.state.lock().unwrap();
        (state.access, state.secret, state.token) = (access.to_owned(), secret.to_owned(), token.to_owned());
    }

    /// Sets the time after which credentials that are handed out from now on expire.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state.lock().unwrap().lifetime = lifetime;
    }

    /// Counts the requests so far, by method and path.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.state.lock().unwrap().counts.clone()
    }

    /// Counts how often credentials were handed out.
    pub fn handed_out(&self) -> u64 {
        self.requests().get(&format!("GET {CREDENTIALS}{ROLE}")).copied().unwrap_or_default()
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let path = request.uri().path().to_owned();
    let mut state = state.lock().unwrap();
    *state.counts.entry(format!("{} {path}", request.method())).or_default() += 1;

    if request.method() == Method::PUT && path == "/latest/api/token" {
        let Some(ttl) = request.headers().get("x-aws-ec2-metadata-token-ttl-seconds") else {
            return reply(400, "");
        };
        let mut response = reply(200, TOKEN)?;
        response.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", ttl.clone());
        return Ok(response);
    }
    if request.headers().get("x-aws-ec2-metadata-token").is_none_or(|token| token != TOKEN) {
        return reply(401, "");
    }
    match path.as_str() {
        CREDENTIALS => reply(200, ROLE),
        "/latest/meta-data/placement/region" => reply(200, REGION),
        "/latest/dynamic/instance-identity/document" => {
            reply(200, &format!(r#"{{"region":"{REGION}","availabilityZone":"{REGION}a","instanceId":"i-0test"}}"#))
        }
        path if path.strip_prefix(CREDENTIALS) == Some(ROLE) => {
            let now = SystemTime::now();
            reply(
                200,
                &format!(
                    r#"{{"Code":"Success","LastUpdated":"{}","Type":"AWS-HMAC",
                         "AccessKeyId":"{}","SecretAccessKey":"{}","Token":"{}","Expiration":"{}"}}"#,
                    rfc3339(now),
                    state.access,
                    state.secret,
                    state.token,
                    rfc3339(now + state.lifetime),
                ),
            )
        }
        _ => reply(404, ""),
    }
}

fn reply(status: u16, text: &str) -> Result<Response<Body>, BoxError> {
    Ok(Response::builder().status(status).header("content-type", "text/plain").body(full(text.to_owned()))?)
}

fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    crate::ticks::time_text(seconds as i64 * 1_000_000, "%Y-%m-%dT%H:%M:%SZ")
}
