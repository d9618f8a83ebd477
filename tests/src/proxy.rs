//! A proxy between the extension and the S3 server that fails on purpose.
//!
//! Requests pass unchanged, the Host header included, because signatures cover it. What goes wrong is said by rules: a
//! [`When`] and a [`Fault`]. Every rule that matches a request acts on it, in the order in which they were made.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::chaos::Chaos;
use crate::http::{Body, BoxError, Resettable, Server, serve};
use crate::s3::xml_error;
use crate::wait::wait_until;

/// Which requests a rule is for.
#[derive(Debug, Clone)]
pub struct When {
    method: Option<&'static str>,
    text: Option<String>,
    first: u64,
    times: u64,
}

impl When {
    /// Every request.
    pub fn any() -> Self {
        Self { method: None, text: None, first: 1, times: u64::MAX }
    }

    /// Reads of objects, and listings.
    pub fn get() -> Self {
        Self { method: Some("GET"), ..Self::any() }
    }

    /// Questions for etag and size.
    pub fn head() -> Self {
        Self { method: Some("HEAD"), ..Self::any() }
    }

    /// Listings only.
    pub fn list() -> Self {
        Self::get().key("list-type=2")
    }

    /// Only where the path or the query, as sent, contains `text`.
    pub fn key(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// Only the `n`th request that matches otherwise, counted from 1.
    pub fn nth(mut self, n: u64) -> Self {
        (self.first, self.times) = (n, 1);
        self
    }

    /// From the `n`th request on that matches otherwise, counted from 1.
    pub fn from(mut self, n: u64) -> Self {
        (self.first, self.times) = (n, u64::MAX);
        self
    }

    /// Not more than `n` times.
    pub fn times(mut self, n: u64) -> Self {
        self.times = n;
        self
    }

    fn fits(&self, method: &Method, path: &str) -> bool {
        self.method.is_none_or(|wanted| method.as_str() == wanted)
            && self.text.as_ref().is_none_or(|text| path.contains(text))
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The server is not asked; this is the answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// S3's name of the error.
        code: &'static str,
        /// Headers besides.
        headers: Vec<(&'static str, String)>,
    },
    /// The request waits before it is passed on.
    Latency(Duration),
    /// No answer until [`FaultProxy::release`].
    Hang,
    /// The connection is reset instead of an answer.
    Drop,
    /// The body stops after so many bytes until [`FaultProxy::release`].
    StallAfter(u64),
    /// The body stops after so many bytes for so long.
    PauseAfter(u64, Duration),
    /// The connection is reset after so many bytes of the body.
    CutAfter(u64),
    /// The body ends after so many bytes and the header says so, too: well-formed, but not what was asked for.
    ShortenTo(u64),
    /// All bits of the byte at this offset of the body are flipped.
    FlipByte(u64),
    /// The answer has this etag, given with its quotes.
    Etag(&'static str),
    /// The answer was given so many seconds later than now, by its own word.
    Clock(i64),
}

impl Fault {
    /// Any error that S3 words.
    pub fn answer(status: u16, code: &'static str) -> Self {
        Self::Answer { status, code, headers: Vec::new() }
    }

    /// 503: slow down, to be tried again.
    pub fn slow_down() -> Self {
        Self::answer(503, "SlowDown")
    }

    /// 500: to be tried again.
    pub fn internal_error() -> Self {
        Self::answer(500, "InternalError")
    }

    /// 403: a policy says no.
    pub fn access_denied() -> Self {
        Self::answer(403, "AccessDenied")
    }

    /// 404: no such object.
    pub fn no_such_key() -> Self {
        Self::answer(404, "NoSuchKey")
    }

    /// 412: the object is another one by now.
    pub fn precondition_failed() -> Self {
        Self::answer(412, "PreconditionFailed")
    }

    /// 400: the credentials' time is over.
    pub fn expired_token() -> Self {
        Self::answer(400, "ExpiredToken")
    }

    /// 301: the bucket is in another region.
    pub fn moved_to(region: &str) -> Self {
        let headers = vec![("x-amz-bucket-region", region.to_owned())];
        Self::Answer { status: 301, code: "PermanentRedirect", headers }
    }

    /// 400: signed for the wrong region.
    pub fn wrong_region(region: &str) -> Self {
        let headers = vec![("x-amz-bucket-region", region.to_owned())];
        Self::Answer { status: 400, code: "AuthorizationHeaderMalformed", headers }
    }

    /// Whether it strikes the body of an answer, which not every answer has.
    pub(crate) fn is_of_the_body(&self) -> bool {
        matches!(
            self,
            Self::StallAfter(_) | Self::PauseAfter(..) | Self::CutAfter(_) | Self::ShortenTo(_) | Self::FlipByte(_)
        )
    }

    fn waits(&self) -> bool {
        matches!(self, Self::Hang | Self::StallAfter(_))
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, `HEAD` …
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// The Range header.
    pub range: Option<String>,
    /// The If-Match header.
    pub if_match: Option<String>,
    /// Which try of the SDK's it was, counted from 1; nothing: the client was another one.
    pub attempt: Option<u32>,
    /// What struck it by chance.
    pub struck: Option<&'static str>,
    /// When.
    pub at: Instant,
}

/// Names a rule, to ask how often it acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u64);

#[derive(Debug)]
struct Rule {
    id: RuleId,
    when: When,
    fault: Fault,
    matched: u64,
    acted: u64,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    rules: Mutex<Vec<Rule>>,
    chaos: Mutex<Option<Chaos>>,
    next_rule: AtomicU64,
    seen: Mutex<Vec<Seen>>,
    bytes: AtomicU64,
    stalled: AtomicUsize,
    accept_delay: Mutex<Duration>,
    refuse: AtomicBool,
    refused: AtomicU64,
    release: watch::Sender<u64>,
}

/// A running proxy.
#[derive(Debug)]
pub struct FaultProxy {
    state: Arc<State>,
    server: Server,
}

impl FaultProxy {
    /// A proxy in front of a server over plain HTTP, without any fault yet.
    pub fn start(upstream: SocketAddr) -> Self {
        let state = Arc::new(State {
            upstream,
            rules: Mutex::default(),
            chaos: Mutex::default(),
            next_rule: AtomicU64::new(1),
            seen: Mutex::default(),
            bytes: AtomicU64::new(0),
            stalled: AtomicUsize::new(0),
            accept_delay: Mutex::default(),
            refuse: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            release: watch::Sender::new(0),
        });
        let shared = state.clone();
        let server = Server::start(0, move |stream| connection(shared.clone(), stream)).expect("a proxy");
        Self { state, server }
    }

    /// A proxy in front of `server`.
    pub fn before(server: &crate::s3::S3Server) -> Self {
        Self::start(SocketAddr::from(([127, 0, 0, 1], server.port())))
    }

    /// What `btc_ingest.s3_endpoint` wants.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Adds a rule.
    pub fn on(&self, when: When, fault: Fault) -> RuleId {
        let id = RuleId(self.state.next_rule.fetch_add(1, Ordering::SeqCst));
        self.state.rules.lock().unwrap().push(Rule { id, when, fault, matched: 0, acted: 0 });
        id
    }

    /// How often a rule has acted; 0 when it was cleared.
    pub fn acted(&self, id: RuleId) -> u64 {
        self.state.rules.lock().unwrap().iter().find(|rule| rule.id == id).map_or(0, |rule| rule.acted)
    }

    /// Takes one rule away.
    pub fn remove(&self, id: RuleId) {
        self.state.rules.lock().unwrap().retain(|rule| rule.id != id);
    }

    /// From now on requests are struck by chance; nothing: no more.
    pub fn at_random(&self, chaos: Option<Chaos>) {
        *self.state.chaos.lock().unwrap() = chaos;
    }

    /// Takes all rules away; what stalls already goes on stalling.
    pub fn clear(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// Ends all stalls, and takes away the rules that stall, so that the next attempt does not stall again.
    pub fn release(&self) {
        self.state.rules.lock().unwrap().retain(|rule| !rule.fault.waits());
        self.state.release.send_modify(|generation| *generation += 1);
    }

    /// How many requests stall now.
    pub fn stalled(&self) -> usize {
        self.state.stalled.load(Ordering::SeqCst)
    }

    /// Waits until some request stalls.
    #[track_caller]
    pub fn wait_until_stalled(&self, limit: Duration) {
        wait_until("a request that stalls", limit, || self.stalled() > 0);
    }

    /// New connections are served only after this time, although they are made at once.
    pub fn delay_accept(&self, delay: Duration) {
        *self.state.accept_delay.lock().unwrap() = delay;
    }

    /// New connections are reset at once, or served again.
    pub fn refuse_connections(&self, refuse: bool) {
        self.state.refuse.store(refuse, Ordering::SeqCst);
    }

    /// How many connections were reset at once.
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::SeqCst)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many requests of one method came so far.
    pub fn count(&self, method: &str) -> usize {
        self.state.seen.lock().unwrap().iter().filter(|seen| seen.method == method).count()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
        self.state.bytes.store(0, Ordering::SeqCst);
    }

    /// How many bytes of bodies were passed on.
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::SeqCst)
    }
}

async fn connection(state: Arc<State>, stream: TcpStream) {
    let reset = Arc::new(AtomicBool::new(false));
    let _ = stream.set_nodelay(true);
    let stream = Resettable::new(stream, reset.clone());
    if state.refuse.load(Ordering::SeqCst) {
        state.refused.fetch_add(1, Ordering::SeqCst);
        reset.store(true, Ordering::SeqCst);
        return;
    }
    let delay = *state.accept_delay.lock().unwrap();
    tokio::time::sleep(delay).await;
    serve(stream, move |request| answer(state.clone(), reset.clone(), request)).await;
}

async fn answer(
    state: Arc<State>,
    reset: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    // Taken before the rules, so that a release between the two is not missed.
    let release = state.release.subscribe();
    let mut body_faults = Vec::new();
    for fault in note(&state, &request) {
        match fault {
            Fault::Answer { status, code, headers } => {
                let mut response = xml_error(status, code, "This answer was asked for by a test.");
                for (name, value) in headers {
                    response.headers_mut().insert(name, value.parse()?);
                }
                return Ok(response);
            }
            Fault::Latency(time) => tokio::time::sleep(time).await,
            Fault::Hang => stall(&state, release.clone()).await,
            Fault::Drop => {
                reset.store(true, Ordering::SeqCst);
                return Err("dropped by a test".into());
            }
            other => body_faults.push(other),
        }
    }
    let response = pass_on(&state, request).await?;
    Ok(spoil(state, reset, release, response, &body_faults))
}

/// Records the request and returns what is to go wrong with it.
fn note(state: &State, request: &Request<Incoming>) -> Vec<Fault> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let path = request.uri().path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let mut faults = Vec::new();
    for rule in state.rules.lock().unwrap().iter_mut().filter(|rule| rule.when.fits(request.method(), &path)) {
        rule.matched += 1;
        if rule.matched >= rule.when.first && rule.acted < rule.when.times {
            rule.acted += 1;
            faults.push(rule.fault.clone());
        }
    }
    let method = request.method().to_string();
    let chance = state.chaos.lock().unwrap().as_mut().and_then(|chaos| chaos.strike(&method));
    let seen = Seen {
        method,
        path,
        range: header("range"),
        if_match: header("if-match"),
        attempt: header("amz-sdk-request").as_deref().and_then(sdk_attempt),
        struck: chance.as_ref().map(|(name, _)| *name),
        at: Instant::now(),
    };
    state.seen.lock().unwrap().push(seen);
    faults.extend(chance.map(|(_, fault)| fault));
    faults
}

/// Of `attempt=2; max=4`.
fn sdk_attempt(header: &str) -> Option<u32> {
    header.split(';').find_map(|part| part.trim().strip_prefix("attempt="))?.parse().ok()
}

async fn pass_on(state: &State, request: Request<Incoming>) -> Result<Response<Incoming>, BoxError> {
    let stream = TcpStream::connect(state.upstream).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Holds until a release that comes after `release` was subscribed. One that came already counts.
async fn stall(state: &State, mut release: watch::Receiver<u64>) {
    // Also counted down when the client gives up and this future is dropped.
    struct Stalled<'a>(&'a AtomicUsize);
    impl Drop for Stalled<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    state.stalled.fetch_add(1, Ordering::SeqCst);
    let _stalled = Stalled(&state.stalled);
    let _ = release.changed().await;
}

fn spoil(
    state: Arc<State>,
    reset: Arc<AtomicBool>,
    release: watch::Receiver<u64>,
    response: Response<Incoming>,
    faults: &[Fault],
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let mut plan = Plan::default();
    for fault in faults {
        match fault {
            Fault::Etag(etag) => drop(head.headers.insert("etag", etag.parse().expect("an etag"))),
            Fault::Clock(ahead) => {
                let then = DateTime::<Utc>::from(SystemTime::now()) + TimeDelta::seconds(*ahead);
                let date = then.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
                head.headers.insert("date", date.parse().expect("a date"));
            }
            Fault::StallAfter(n) => plan.stall = Some((*n, None)),
            Fault::PauseAfter(n, time) => plan.stall = Some((*n, Some(*time))),
            Fault::CutAfter(n) => plan.cut = Some(*n),
            Fault::FlipByte(n) => plan.flip = Some(*n),
            Fault::ShortenTo(n) => {
                plan.end = Some(*n);
                head.headers.insert("content-length", (*n).into());
            }
            _ => {}
        }
    }
    let (sender, channel) = Channel::new(1);
    tokio::spawn(plan.carry(state, reset, release, body, sender));
    Response::from_parts(head, channel.boxed())
}

/// What happens to one body, by offset.
#[derive(Debug, Default, Clone, Copy)]
struct Plan {
    /// Where, and for how long; without that: until it is released.
    stall: Option<(u64, Option<Duration>)>,
    cut: Option<u64>,
    flip: Option<u64>,
    end: Option<u64>,
}

impl Plan {
    async fn carry(
        self,
        state: Arc<State>,
        reset: Arc<AtomicBool>,
        release: watch::Receiver<u64>,
        mut body: Incoming,
        mut sender: Sender<Bytes, BoxError>,
    ) {
        let mut offset = 0_u64;
        let mut stall_at = self.stall.map(|(at, _)| at);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                sender.abort("the server failed".into());
                return;
            };
            let Ok(mut data) = frame.into_data() else { continue };
            self.flip(offset, &mut data);
            while !data.is_empty() {
                if self.cut == Some(offset) {
                    reset.store(true, Ordering::SeqCst);
                    sender.abort("cut by a test".into());
                    return;
                }
                if self.end == Some(offset) {
                    return;
                }
                if stall_at == Some(offset) {
                    stall_at = None;
                    match self.stall.and_then(|(_, time)| time) {
                        Some(time) => tokio::time::sleep(time).await,
                        None => stall(&state, release.clone()).await,
                    }
                }
                // Up to the next point where something happens.
                let next = [self.cut, self.end, stall_at].into_iter().flatten().filter(|&at| at > offset).min();
                let room = next.map_or(data.len(), |at| data.len().min((at - offset) as usize));
                let piece = data.split_to(room);
                offset += room as u64;
                state.bytes.fetch_add(room as u64, Ordering::SeqCst);
                if sender.send_data(piece).await.is_err() {
                    return;
                }
            }
        }
    }

    fn flip(self, offset: u64, data: &mut Bytes) {
        let Some(index) = self.flip.and_then(|at| at.checked_sub(offset)).map(|index| index as usize) else { return };
        if index < data.len() {
            let mut copy = BytesMut::from(&data[..]);
            copy[index] ^= 0xff;
            *data = copy.freeze();
        }
    }
}
