//! One connection, one request and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::body::Plan;
use super::fault::Fault;
use super::state::{SeenRequest, State, stall};
use crate::http::{Body, BoxError, Resettable, serve};
use crate::s3::xml_error;

/// Serves one connection.
pub(super) async fn connection(state: Arc<State>, stream: TcpStream) {
    let reset = Arc::new(AtomicBool::new(false));
    let _ = stream.set_nodelay(true);
    let stream = Resettable::new(stream, reset.clone());
    if state.refuse.load(Ordering::SeqCst) {
        state.refused.fetch_add(1, Ordering::SeqCst);
        reset.store(true, Ordering::SeqCst);
        return;
    }
    state.served.fetch_add(1, Ordering::SeqCst);
    let delay = *state.accept_delay.lock().unwrap();
    tokio::time::sleep(delay).await;
    serve(stream, move |request| answer(state.clone(), reset.clone(), request)).await;
}

async fn answer(
    state: Arc<State>,
    reset: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    // Subscribed before the rules are read, so that a release between the two is not missed.
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
    let seen = SeenRequest {
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

/// Returns the number of the attempt from `attempt=2; max=4`.
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
