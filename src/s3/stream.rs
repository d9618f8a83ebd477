//! Parts of an object as streams of bytes. The GETs of a [`Plan`] are started in its order as memory allows, so that
//! decoding seldom waits, also at the border of row groups.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::object::S3Object;
use super::plan::{Get, PartId, Piece, Plan, Sizes};
use super::reads::Io;
use crate::error::{Error, Result};
use crate::model::source::{ByteStream, Groups, ObjectSource, Part, past_the_end};

/// The least bytes that are fetched beside the plan.
const LEAST: u64 = 64 << 10;

impl ObjectSource for S3Object {
    fn size(&self) -> u64 {
        self.head().size
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.io.wait(self.fetch(range))
    }

    fn streams(&self, groups: Vec<Vec<Part>>) -> Groups {
        let object = self.clone();
        let fetch: Fetch = Arc::new(move |range| {
            let object = object.clone();
            Box::pin(async move { object.fetch(range).await })
        });
        Box::new(Streams::new(fetch, self.io.clone(), groups, Sizes::new(self.read_ahead)))
    }
}

/// Fetches a range of the object.
type Fetch = Arc<dyn Fn(Range<u64>) -> Pin<Box<dyn Future<Output = Result<Bytes>> + Send>> + Send + Sync>;

/// Bytes in memory that are fetched or are being fetched. Dropping it returns them.
struct Held {
    held: Arc<AtomicU64>,
    len: u64,
}

impl Held {
    fn new(held: &Arc<AtomicU64>, len: u64) -> Self {
        held.fetch_add(len, Ordering::Relaxed);
        Held { held: held.clone(), len }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// The bytes of a GET. They are held until all slices of them are dropped.
struct Fetched {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Fetched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A GET that was sent. Dropping it ends the GET.
struct Sent {
    start: u64,
    state: Mutex<Coming>,
}

/// What a GET has brought.
enum Coming {
    Not(JoinHandle<Result<Bytes>>),
    Yet(Result<Bytes>),
}

impl Sent {
    /// Waits until the GET is answered, and returns the bytes of `range`.
    fn wait(&self, range: Range<u64>, io: &Io) -> Result<Bytes> {
        let mut state = locked(&self.state);
        if let Coming::Not(task) = &mut *state {
            let internal = |error: tokio::task::JoinError| Error::Internal { why: error.to_string() };
            let bytes = io.wait(async { (&mut *task).await.unwrap_or_else(|error| Err(internal(error))) });
            // A cancelled wait leaves the GET running, and it must not outlive the load.
            task.abort();
            *state = Coming::Yet(bytes);
        }
        match &*state {
            Coming::Yet(Ok(bytes)) => {
                Ok(bytes.slice((range.start - self.start) as usize..(range.end - self.start) as usize))
            }
            Coming::Yet(Err(error)) => Err(error.clone()),
            Coming::Not(_) => Err(Error::Internal { why: "a GET has no answer".into() }),
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Coming::Not(task) = &*locked(&self.state) {
            task.abort();
        }
    }
}

/// Pieces of a part, each with its range in the object, in their order.
type Pieces = VecDeque<(Range<u64>, Arc<Sent>)>;

/// The GETs of an object, shared by its streams. Only the reading thread uses it.
struct ReadAhead {
    fetch: Fetch,
    io: Io,
    plan: Plan,
    sizes: Sizes,
    /// The next GET, which waits for memory.
    next: Option<Get>,
    /// The bytes that are held by GETs.
    held: Arc<AtomicU64>,
    /// The pieces that are on their way and that no stream has taken, in the order of each part.
    coming: HashMap<PartId, Pieces>,
    /// Where each part of the current group goes on that was fetched beside the plan.
    beside: HashMap<PartId, u64>,
    /// The group that is read. What belongs to earlier ones is not fetched any more.
    group: usize,
}

impl ReadAhead {
    /// Sends as many GETs as memory allows, and always one if none is held.
    fn send(&mut self) {
        loop {
            let Some(get) = self.next.take().or_else(|| self.plan.next()) else { return };
            let Some(get) = self.wanted(get) else { continue };
            let len = get.range.end - get.range.start;
            let held = self.held.load(Ordering::Relaxed);
            if held > 0 && held.saturating_add(len) > self.sizes.memory() {
                self.next = Some(get);
                return;
            }
            let sent = Arc::new(self.spawn(get.range));
            for piece in get.pieces {
                self.coming.entry(piece.part).or_default().push_back((piece.range, sent.clone()));
            }
        }
    }

    /// Leaves out what was fetched beside the plan, and what belongs to an earlier group.
    fn wanted(&self, get: Get) -> Option<Get> {
        let rest = |mut piece: Piece| {
            let start = self.beside.get(&piece.part).copied().unwrap_or_default().max(piece.range.start);
            piece.range.start = start;
            (piece.part.0 >= self.group && start < piece.range.end).then_some(piece)
        };
        let pieces: Vec<Piece> = get.pieces.into_iter().filter_map(rest).collect();
        let start = pieces.iter().map(|piece| piece.range.start).min()?;
        let end = pieces.iter().map(|piece| piece.range.end).max()?;
        Some(Get { range: start..end, pieces })
    }

    fn spawn(&self, range: Range<u64>) -> Sent {
        let held = Held::new(&self.held, range.end - range.start);
        let start = range.start;
        let answer = (self.fetch)(range);
        let task = self.io.handle.spawn(async move {
            let bytes = answer.await?;
            Ok(Bytes::from_owner(Fetched { bytes, _held: held }))
        });
        Sent { start, state: Mutex::new(Coming::Not(task)) }
    }

    /// Returns the next GET that brings bytes of a part, and which ones. `at` is where the part goes on, and `needed`
    /// what is needed at least.
    fn next_of(&mut self, part: PartId, at: u64, needed: Range<u64>) -> (Range<u64>, Arc<Sent>) {
        self.send();
        if let Some(next) = self.coming.get_mut(&part).and_then(VecDeque::pop_front) {
            return next;
        }
        // All memory is held by parts that are needed as well: this one goes ahead of them, as with one large page.
        let range = at..needed.end.min(at + self.sizes.get());
        self.beside.insert(part, range.end);
        let sent = Arc::new(self.spawn(range.clone()));
        (range, sent)
    }

    fn begin_group(&mut self, group: usize) {
        self.group = group;
        self.coming.retain(|part, _| part.0 >= group);
        self.beside.clear();
        self.send();
    }
}

/// The streams of an object, group by group.
struct Streams {
    ahead: Arc<Mutex<ReadAhead>>,
    groups: std::vec::IntoIter<Vec<Part>>,
    next_group: usize,
}

impl Streams {
    fn new(fetch: Fetch, io: Io, groups: Vec<Vec<Part>>, sizes: Sizes) -> Self {
        let ahead = ReadAhead {
            fetch,
            io,
            plan: Plan::new(groups.clone(), sizes),
            sizes,
            next: None,
            held: Arc::default(),
            coming: HashMap::new(),
            beside: HashMap::new(),
            group: 0,
        };
        Streams { ahead: Arc::new(Mutex::new(ahead)), groups: groups.into_iter(), next_group: 0 }
    }
}

impl Iterator for Streams {
    type Item = Vec<Box<dyn ByteStream>>;

    fn next(&mut self) -> Option<Self::Item> {
        let parts = self.groups.next()?;
        let group = self.next_group;
        self.next_group += 1;
        locked(&self.ahead).begin_group(group);
        let stream = |(number, part): (usize, Part)| -> Box<dyn ByteStream> {
            let Range { start: at, end } = part.range;
            Box::new(PartStream { ahead: self.ahead.clone(), part: (group, number), ready: VecDeque::new(), at, end })
        };
        Some(parts.into_iter().enumerate().map(stream).collect())
    }
}

/// One part.
struct PartStream {
    ahead: Arc<Mutex<ReadAhead>>,
    part: PartId,
    /// Fetched bytes that are not consumed.
    ready: VecDeque<Bytes>,
    /// Where the bytes go on that are not ready.
    at: u64,
    end: u64,
}

impl PartStream {
    fn ready_len(&self) -> u64 {
        self.ready.iter().map(|bytes| bytes.len() as u64).sum()
    }

    /// Waits for more bytes, of which `missing` are needed.
    fn fetch(&mut self, missing: u64) -> Result<()> {
        let needed = self.at..self.end.min(self.at + missing.max(LEAST));
        let (io, (range, sent)) = {
            let mut ahead = locked(&self.ahead);
            (ahead.io.clone(), ahead.next_of(self.part, self.at, needed))
        };
        self.ready.push_back(sent.wait(range.clone(), &io)?);
        self.at = range.end;
        Ok(())
    }

    /// Consumes up to `len` of the bytes that are ready.
    fn take_ready(&mut self, len: usize) -> Bytes {
        let Some(front) = self.ready.front_mut() else { return Bytes::new() };
        let bytes = front.split_to(len.min(front.len()));
        if front.is_empty() {
            self.ready.pop_front();
        }
        bytes
    }
}

impl ByteStream for PartStream {
    fn remaining(&self) -> u64 {
        self.ready_len() + (self.end - self.at)
    }

    fn peek(&mut self, len: usize) -> Result<Bytes> {
        let len = self.remaining().min(len as u64);
        while self.ready_len() < len {
            self.fetch(len - self.ready_len())?;
        }
        let len = len as usize;
        match self.ready.front() {
            Some(front) if front.len() >= len => Ok(front.slice(..len)),
            _ => {
                let mut copy = BytesMut::with_capacity(len);
                for bytes in &self.ready {
                    copy.extend_from_slice(&bytes[..bytes.len().min(len - copy.len())]);
                }
                Ok(copy.freeze())
            }
        }
    }

    fn take(&mut self, len: usize) -> Result<Bytes> {
        if len as u64 > self.remaining() {
            return Err(past_the_end(len, self.remaining()));
        }
        if self.ready.is_empty() && len > 0 {
            self.fetch(len as u64)?;
        }
        let first = self.take_ready(len);
        if first.len() == len {
            locked(&self.ahead).send();
            return Ok(first);
        }
        // What was copied is not held any more, so that a large page does not take its bytes twice.
        let mut copy = BytesMut::with_capacity(len);
        copy.extend_from_slice(&first);
        drop(first);
        while copy.len() < len {
            if self.ready.is_empty() {
                self.fetch((len - copy.len()) as u64)?;
            }
            copy.extend_from_slice(&self.take_ready(len - copy.len()));
        }
        locked(&self.ahead).send();
        Ok(copy.freeze())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};
    use tokio_util::sync::CancellationToken;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// An object in memory whose bytes tell their offsets, and the GETs of it.
    struct Object {
        size: u64,
        gets: Arc<Mutex<Vec<Range<u64>>>>,
        runtime: Runtime,
    }

    impl Object {
        fn new(size: u64) -> Self {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            Object { size, gets: Arc::default(), runtime }
        }

        /// Reads parts of it. Ranges behind its end fail.
        fn streams(&self, groups: &[Vec<Part>], memory: u64) -> Streams {
            let (gets, size) = (self.gets.clone(), self.size);
            let fetch: Fetch = Arc::new(move |range: Range<u64>| {
                gets.lock().unwrap().push(range.clone());
                Box::pin(async move {
                    if range.end > size {
                        return Err(Error::Truncated { why: "it has fewer bytes".into() });
                    }
                    Ok(range.map(byte).collect::<Vec<u8>>().into())
                })
            });
            let io = Io::new(self.runtime.handle().clone(), CancellationToken::new());
            Streams::new(fetch, io, groups.to_vec(), Sizes::new(memory))
        }

        fn gets(&self) -> Vec<Range<u64>> {
            self.gets.lock().unwrap().clone()
        }
    }

    fn byte(offset: u64) -> u8 {
        (offset ^ (offset >> 8) ^ (offset >> 16)) as u8
    }

    /// Makes groups of parts that lie one after another.
    fn layout(groups: u64, lens: &[u64]) -> Vec<Vec<Part>> {
        let mut at = 0;
        let mut part = |len: &u64| {
            at += len;
            Part { range: at - len..at, head: 0 }
        };
        (0..groups).map(|_| lens.iter().map(&mut part).collect()).collect()
    }

    #[track_caller]
    fn must_hold(bytes: &[u8], from: u64) {
        assert!(bytes.iter().zip(from..).all(|(found, offset)| *found == byte(offset)), "from {from}");
    }

    /// Reads all streams of a group side by side, `step` bytes of each at a time.
    fn read_group(streams: &mut [Box<dyn ByteStream>], parts: &[Part], step: usize) {
        while streams.iter().any(|stream| stream.remaining() > 0) {
            for (stream, part) in streams.iter_mut().zip(parts) {
                let at = part.range.end - stream.remaining();
                let peeked = stream.peek(step / 2).unwrap();
                must_hold(&peeked, at);
                let len = stream.remaining().min(step as u64) as usize;
                assert!(peeked.len() == len.min(step / 2));
                let taken = stream.take(len).unwrap();
                assert_eq!(taken.len(), len);
                must_hold(&taken, at);
            }
        }
    }

    #[test]
    fn every_part_has_its_bytes_in_any_layout() {
        let layouts: [(u64, &[u64], u64); 5] = [
            (100, &[3_000, 1, 5_000, 0], 2 * MIB),
            (2, &[MIB, 100, 700_000], 16 * MIB),
            (2, &[2 * MIB, 100, 700_000], MIB),
            (1, &[3 * MIB], 0),
            (0, &[1], MIB),
        ];
        for (groups, lens, memory) in layouts {
            for step in [999, 65_535, 300_000] {
                let groups = layout(groups, lens);
                let object = Object::new(8 * MIB);
                let mut streams = object.streams(&groups, memory);
                for parts in &groups {
                    read_group(&mut streams.next().unwrap(), parts, step);
                }
                assert!(streams.next().is_none());
                // No byte is fetched twice.
                let fetched: u64 = object.gets().iter().map(|range| range.end - range.start).sum();
                assert_eq!(fetched, groups.iter().flatten().map(|part| part.range.end - part.range.start).sum::<u64>());
            }
        }
    }

    #[test]
    fn what_follows_is_fetched_over_the_border_of_row_groups() {
        let groups = layout(40, &[40_000, 60_000]);
        let object = Object::new(4 * MIB);
        let mut streams = object.streams(&groups, MIB);
        assert_eq!(object.gets(), []);
        let _first = streams.next().unwrap();
        // Two GETs of half a megabyte: ten row groups.
        assert_eq!(object.gets(), [0..500_000, 500_000..1_000_000]);
        (1..40).for_each(|_| drop(streams.next()));
    }

    #[test]
    fn memory_is_bounded_and_a_part_that_runs_ahead_of_the_others_is_fetched_beside_the_plan() {
        let groups = layout(2, &[6 * MIB, 6 * MIB, 3 * MIB]);
        let object = Object::new(30 * MIB);
        let mut streams = object.streams(&groups, 2 * MIB);
        let held = locked(&streams.ahead).held.clone();
        for parts in &groups {
            let mut group = streams.next().unwrap();
            // One page with the whole column, as some writers make it.
            for (stream, part) in group.iter_mut().zip(parts) {
                assert!(held.load(Ordering::Relaxed) <= 2 * MIB);
                let bytes = stream.take(stream.remaining() as usize).unwrap();
                must_hold(&bytes, part.range.start);
                assert!(held.load(Ordering::Relaxed) <= 2 * MIB);
            }
        }
        let fetched: u64 = object.gets().iter().map(|range| range.end - range.start).sum();
        assert_eq!(fetched, 30 * MIB);
        assert!(object.gets().len() < 80, "{:?}", object.gets());
        drop(streams);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_not_read_of_a_row_group_is_not_waited_for() {
        let groups = layout(3, &[5 * MIB, 5 * MIB]);
        let object = Object::new(30 * MIB);
        let mut streams = object.streams(&groups, MIB);
        for parts in &groups {
            let mut group = streams.next().unwrap();
            must_hold(&group[1].take(1_000).unwrap(), parts[1].range.start);
        }
        let fetched: u64 = object.gets().iter().map(|range| range.end - range.start).sum();
        assert!(fetched < 6 * MIB, "{fetched}");
    }

    #[test]
    fn a_get_that_fails_fails_every_part_in_it() {
        let groups = layout(1, &[1_000, 1_000]);
        let object = Object::new(1_500);
        let mut group = object.streams(&groups, MIB).next().unwrap();
        for stream in &mut group {
            assert!(matches!(stream.take(10), Err(Error::Truncated { .. })));
            assert!(matches!(stream.take(10_000), Err(Error::Truncated { .. })));
        }
    }
}
