//! What happens to the body of an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::channel::Sender;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::state::{State, stall};
use crate::http::BoxError;

/// What happens to one body, by offset.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Plan {
    /// Where the body stalls and for how long, or until the release if that is `None`.
    pub stall: Option<(u64, Option<Duration>)>,
    pub cut: Option<u64>,
    pub flip: Option<u64>,
    pub end: Option<u64>,
}

impl Plan {
    /// Passes the body on and does to it what is planned.
    pub async fn carry(
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
