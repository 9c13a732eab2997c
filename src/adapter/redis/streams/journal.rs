//! The journal in Redis: stores sessions like Node servers, and reads missed events from the
//! stream.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use redis::Value;
use roomcast_protocol::socket::{Args, Nsp, Parser};
use tokio::sync::oneshot;

use super::{
    Read,
    reader::{entry, next_count},
};
use crate::adapter::{
    AdapterError, BoxFuture, Journal, JournalStart, Missed, Position, Publication, SavedState,
    Unopened, WireError,
    common::{Broker as _, unwritten},
    interface::Health,
    node_js::{ParsedMessage, arguments, first},
    operation::Kind,
    redis::{
        connection::{BrokerConnection, CommandWaiter, Sent},
        sealing,
        shared::RedisState,
    },
    seal::{Opener, Reading, SealOptions, Sealer},
};

/// Stores the state of disconnected clients in Redis.
pub(crate) struct RedisJournal {
    shared: Arc<OnceLock<Arc<RedisState>>>,
    prefix: String,
    sessions: Option<SealedSessions>,
    /// Whether sessions are also stored, and read, in the plain form.
    has_plain: bool,
}

impl RedisJournal {
    pub(crate) fn new(
        shared: Arc<OnceLock<Arc<RedisState>>>,
        prefix: String,
        sealing: &SealOptions,
        key: &str,
    ) -> Self {
        Self {
            shared,
            prefix,
            sessions: SealedSessions::new(sealing, key),
            has_plain: sealing.secrets.is_none() || sealing.accepts_plain,
        }
    }

    fn key(&self, pid: &str) -> Bytes {
        format!("{}{pid}", self.prefix).into()
    }

    /// Returns the key of a sealed session. It differs from the plain key, so that servers that do
    /// not seal still find their sessions.
    fn sealed_key(&self, pid: &str) -> Bytes {
        format!("{}sealed:{pid}", self.prefix).into()
    }

    /// Returns the keys under which a session is stored.
    fn keys(&self, pid: &str) -> impl Iterator<Item = Bytes> {
        let sealed = self.sessions.as_ref().map(|_| self.sealed_key(pid));
        let plain = self.has_plain.then(|| self.key(pid));
        sealed.into_iter().chain(plain)
    }

    /// Removes a key and returns its value.
    fn take_key(&self, key: Bytes) -> Result<oneshot::Receiver<Value>, AdapterError> {
        let (answer, answered) = oneshot::channel();
        let answer: CommandWaiter = Arc::new(parking_lot::Mutex::new(Some(answer)));
        self.send(vec![Bytes::from_static(b"GETDEL"), key], Some(answer))?;
        Ok(answered)
    }

    /// Queues a command in the order of all other messages.
    fn send(&self, parts: Vec<Bytes>, answer: Option<CommandWaiter>) -> Result<(), AdapterError> {
        let shared = self.shared.get().ok_or(AdapterError::Closed)?;
        shared.link.publish(Sent::Command(parts, answer))
    }

    /// Writes the state: as a new one, or only if one is still stored.
    fn set(&self, saved: &SavedState, window: Duration, is_new: bool) {
        let packed = match pack(saved) {
            Ok(packed) => packed,
            Err(error) => {
                return crate::throttled_log!(error, %error, "could not encode a recoverable session, it is not stored");
            }
        };
        let sealed = self.sessions.as_ref().map(|sessions| {
            let key = self.sealed_key(&saved.pid);
            let sealed = sessions.seal(&key, &packed, window);
            (key, sealed)
        });
        let plain = self.has_plain.then(|| (self.key(&saved.pid), packed));
        for (key, value) in sealed.into_iter().chain(plain) {
            let mut parts = vec![Bytes::from_static(b"SET"), key, value];
            if is_new {
                let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
                parts.extend([Bytes::from_static(b"PX"), window.to_string().into()]);
            } else {
                parts.extend([b"XX".as_slice(), b"KEEPTTL"].map(Bytes::from_static));
            }
            if let Err(error) = self.send(parts, None) {
                tracing::debug!(%error, "could not store a recoverable session for other servers");
            }
        }
    }
}

impl Journal for RedisJournal {
    fn is_up(&self) -> bool {
        let shared = self.shared.get();
        shared.is_some_and(|shared| shared.link.health() == Health::Ready)
    }

    fn position(&self) -> Option<Position> {
        self.shared.get()?.link.position()
    }

    fn keep(&self, saved: &SavedState, window: Duration) {
        self.set(saved, window, true);
    }

    fn replace(&self, saved: &SavedState, window: Duration) {
        self.set(saved, window, false);
    }

    fn forget(&self, pid: &str) {
        for key in self.keys(pid) {
            if let Err(error) = self.send(vec![Bytes::from_static(b"DEL"), key], None) {
                crate::throttled_log!(warn, %error, "could not delete an ended session, another server may recover it");
            }
        }
    }

    fn take(&self, pid: &str) -> BoxFuture<Result<Option<SavedState>, AdapterError>> {
        let sealed = self.sessions.clone().map(|sessions| {
            let key = self.sealed_key(pid);
            (sessions, self.take_key(key.clone()), key)
        });
        // Both forms are removed, so that no other server can take the session again.
        let plain = self.has_plain.then(|| self.take_key(self.key(pid)));
        let inbox = self.shared.get().map(|shared| shared.inbox.clone());
        Box::pin(async move {
            if let Some((sessions, sent, key)) = sealed
                && let Some(sealed) = answer(sent?).await?
            {
                match sessions.open(&key, sealed) {
                    Ok(packed) => return Ok(unpack(&packed)),
                    Err(error) => inbox.iter().for_each(|inbox| inbox.ignore(&error)),
                }
            }
            let packed = match plain {
                Some(sent) => answer(sent?).await?,
                None => None,
            };
            Ok(packed.and_then(|packed| unpack(&packed)))
        })
    }

    fn since(
        &self,
        namespace: &Nsp,
        start: JournalStart,
    ) -> BoxFuture<Result<Option<Missed>, AdapterError>> {
        let shared = self.shared.get().cloned();
        let nsp = namespace.clone();
        Box::pin(async move {
            let shared = shared.ok_or(AdapterError::Closed)?;
            let mut line = shared.link.line().ok_or(AdapterError::Timeout)?;
            let name = &shared.stream.name;
            // The entry at the client's position must still exist. Otherwise later entries may be
            // missing too.
            let position = start.position();
            let here = position.to_string();
            let known = range(&mut line, name, &here, &here, 1);
            if known.await?.is_empty() {
                return Ok(None);
            }
            let (mut events, mut last) = (Vec::new(), position);
            // Entries may be large: one is read first, and then as many as fit the size limit.
            let (mut read, mut bytes, mut count) = (0, 0, 1);
            let mut reading = shared.entries.opener().map(Opener::reading);
            let mut from = match start {
                JournalStart::At(_) => here,
                JournalStart::After(_) => format!("({here}"),
            };
            loop {
                let mut page = VecDeque::from(range(&mut line, name, &from, "+", count).await?);
                // Entries that are added during the read are not awaited, because the caller
                // follows them.
                let is_end = page.len() < count;
                read += page.len();
                let size = page.iter().map(|entry| entry.bytes).sum();
                count = next_count(count, page.len(), size).clamp(1, PAGE);
                while let Some(mut entry) = page.pop_front() {
                    let Some(at) = Position::parse(&entry.id) else {
                        return Ok(None);
                    };
                    last = at;
                    if let Some(reading) = &mut reading
                        && !open(&shared, reading, &mut entry, at)
                    {
                        continue;
                    }
                    if entry.nsp.as_deref() == Some(nsp.as_str())
                        && entry.kind.as_deref() == Some("3")
                    {
                        bytes += entry.data.len();
                        events.extend(event(&shared, &nsp, entry, at));
                    }
                }
                from = format!("({last}");
                if read > MAX_READ || bytes > MAX_BYTES {
                    return Ok(None);
                }
                if is_end {
                    return Ok(Some(Missed::new(events, last)));
                }
            }
        })
    }
}

/// Waits for the value of a key, or `None` if it did not exist.
async fn answer(answered: oneshot::Receiver<Value>) -> Result<Option<Bytes>, AdapterError> {
    match answered.await {
        Ok(Value::BulkString(packed)) => Ok(Some(packed.into())),
        Ok(_) => Ok(None),
        Err(_) => Err(AdapterError::Timeout),
    }
}

/// Opens an entry that is read again. Returns whether it counts. An entry that does not count was
/// already ignored on arrival.
fn open(shared: &RedisState, reading: &mut Reading<'_>, entry: &mut Read, at: Position) -> bool {
    let Some(sealed) = entry.sealed.take() else {
        return shared.entries.accepts_plain();
    };
    if shared.replays.lock().contains(&at) {
        return false;
    }
    let place = sealing::place(&shared.stream);
    let opened = reading.open(place, sealed, at.time);
    opened.is_ok_and(|opened| sealing::unpack(entry, opened).is_ok())
}

/// Seals and opens sessions. A sealed session is bound to its key and contains its lifetime, so
/// that a recorded session cannot be restored later.
#[derive(Clone, Debug)]
struct SealedSessions(Arc<(Sealer, Opener)>);

impl SealedSessions {
    fn new(options: &SealOptions, key: &str) -> Option<Self> {
        let secrets = options.secrets.as_ref()?;
        let purpose = sealing::sessions(key);
        let pair = (
            Sealer::new(secrets, &purpose),
            Opener::new(secrets, &purpose),
        );
        Some(Self(Arc::new(pair)))
    }

    fn seal(&self, key: &[u8], packed: &[u8], window: Duration) -> Bytes {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        self.0
            .0
            .seal(key, &[&window.to_le_bytes()[..], packed].concat())
    }

    fn open(&self, key: &[u8], sealed: Bytes) -> Result<Bytes, WireError> {
        let (mut opened, age) = self.0.1.read(key, sealed)?;
        let Some(window) = opened.first_chunk::<8>().copied().map(u64::from_le_bytes) else {
            return Err(WireError::Malformed("session"));
        };
        if u128::from(window) + CLOCKS.as_millis() < age.as_millis() {
            return Err(WireError::Unopened(Unopened::Stale));
        }
        Ok(opened.split_off(8))
    }
}

/// Maximum difference between the clocks of servers.
const CLOCKS: Duration = Duration::from_secs(60);

/// Decodes an event from an entry. Returns `None` if the entry is not an event.
fn event(shared: &RedisState, nsp: &Nsp, entry: Read, at: Position) -> Option<Publication> {
    match entry.message(shared.inbox.node(), nsp) {
        Ok(ParsedMessage::Publication(_, mut publication, None))
            if matches!(publication.kind, Kind::Broadcast { .. }) =>
        {
            publication.position = Some(at);
            Some(*publication)
        }
        // It was already ignored on arrival.
        _ => None,
    }
}

async fn range(
    line: &mut BrokerConnection,
    stream: &str,
    from: &str,
    to: &str,
    count: usize,
) -> Result<Vec<Read>, AdapterError> {
    let mut command = redis::cmd("XRANGE");
    command.arg(stream).arg(from).arg(to);
    command.arg("COUNT").arg(count);
    let failed = |error| AdapterError::Transport(Arc::new(error));
    let answer = line.query(&command).await.map_err(failed)?;
    let list: Vec<Value> = redis::from_redis_value(answer).map_err(|error| failed(error.into()))?;
    let entries: redis::RedisResult<_> = list.into_iter().map(entry).collect();
    entries.map_err(failed)
}

/// Encodes the state of a client like Node servers: MessagePack in base64.
fn pack(saved: &SavedState) -> Result<Bytes, AdapterError> {
    let args = arguments(saved).map_err(unwritten)?;
    let packed = first(Some(&args), Some(Parser::MessagePack)).map_err(unwritten)?;
    Ok(BASE64_STANDARD.encode(&packed.bytes).into())
}

fn unpack(packed: &[u8]) -> Option<SavedState> {
    let read = || -> Result<SavedState, WireError> {
        let malformed = |_| WireError::Malformed("session");
        let packed = BASE64_STANDARD.decode(packed);
        let packed = packed.map_err(|_| WireError::Malformed("session"))?;
        let saved = Args::document(Parser::MessagePack, packed.into());
        let saved = saved.map_err(|_| WireError::Malformed("session"))?;
        saved.get(0).map_err(malformed)
    };
    read()
        .inspect_err(
            |error| crate::throttled_log!(warn, %error, "could not decode a stored session"),
        )
        .ok()
}

/// The maximum number of entries per read.
const PAGE: usize = 100;
/// The maximum number of entries that are read for one client, which is the default length of a
/// stream.
const MAX_READ: usize = 10_000;
/// The maximum total size of the events for one client in bytes.
const MAX_BYTES: usize = 4 << 20;
