//! Values and locks in a key-value bucket of JetStream, which is a stream that stores the last
//! message of each subject.
//!
//! A version is the sequence number of its message in the stream, and so is the fencing number of a
//! lock. Both come from one counter that only increases. NATS accepts a message only if the last
//! message of its subject has the expected number. The tools of NATS can read the bucket: a removed
//! value is marked like these tools mark it, and then deleted.
//!
//! A lock is a message with a lease. NATS itself provides the time, because it records when it
//! received a message.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    self, Context,
    context::PublishErrorKind,
    message::PublishMessage,
    stream::{self, DiscardPolicy, LastRawMessageErrorKind, StorageType, Stream},
};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    broker::Address,
    streams::{self, StreamRetry},
    subjects::{bucket, token},
};
use crate::adapter::{
    common::{SharedAddress, chain},
    interface::BoxFuture,
    values::{Expected, MAX_KEYS, Put, StoredValue, ValueError, ValueStore},
};

/// Uses its own connection, which is established on first use and again after it broke.
#[derive(Clone)]
pub(super) struct NatsValues(Arc<NatsValuesInner>);

struct NatsValuesInner {
    address: SharedAddress<Address>,
    bucket: String,
    line: Mutex<Option<BucketConnection>>,
}

#[derive(Clone)]
struct BucketConnection {
    context: Context,
    stream: Stream,
    bucket: Arc<str>,
}

/// The last message of a subject.
struct Last {
    number: u64,
    /// When NATS received the message, in nanoseconds since 1970.
    time: i128,
    payload: Bytes,
}

/// The content of a lock.
#[derive(Serialize, Deserialize)]
struct LockRecord {
    holder: String,
    /// The lease in milliseconds, from when NATS received this message.
    lease: u64,
    /// The fencing number, if it is not the number of this message because the lock was renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<u64>,
}

impl NatsValues {
    pub(super) fn new(address: SharedAddress<Address>, key: &str) -> Self {
        Self(Arc::new(NatsValuesInner {
            address,
            bucket: bucket(key),
            line: Mutex::new(None),
        }))
    }

    /// Runs an operation on the connection. After a failure, the next operation reconnects.
    fn with<T, F>(
        &self,
        work: impl FnOnce(BucketConnection) -> F + Send + 'static,
    ) -> BoxFuture<Result<T, ValueError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ValueError>> + Send,
    {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let cached = inner.line.lock().clone();
            let line = match cached {
                Some(line) => line,
                // Concurrent callers may each establish a connection; the last connection is kept.
                None => {
                    let made = inner.connect().await?;
                    inner.line.lock().insert(made).clone()
                }
            };
            let done = work(line).await;
            if matches!(done, Err(ValueError::Unavailable(_))) {
                *inner.line.lock() = None;
            }
            done
        })
    }
}

impl NatsValuesInner {
    async fn connect(&self) -> Result<BucketConnection, ValueError> {
        let Address {
            servers, options, ..
        } = self.address.now();
        let connecting = options.connect(&*servers);
        let client = connecting.await.map_err(|error| unavailable(&error))?;
        let context = jetstream::new(client);
        let stream = open(&context, &self.bucket).await?;
        let connection = BucketConnection {
            context,
            stream,
            bucket: self.bucket.as_str().into(),
        };
        // NATS finds a bucket by name before it can use it. NATS 2.9 crashes if a value is read
        // then, so nothing is read before the bucket has answered. It refuses this message.
        let clock = connection.clock();
        let message = PublishMessage::build();
        connection.write(&clock, message, Some(NEVER)).await?;
        Ok(connection)
    }
}

/// Returns the stream of a bucket. Creates it if it does not exist.
async fn open(context: &Context, bucket: &str) -> Result<Stream, ValueError> {
    let config = stream::Config {
        name: format!("KV_{bucket}"),
        subjects: vec![format!("$KV.{bucket}.>")],
        storage: StorageType::File,
        // A full bucket refuses new keys instead of dropping old keys.
        discard: DiscardPolicy::New,
        max_messages: MAX_KEYS as i64,
        max_messages_per_subject: 1,
        allow_rollup: true,
        ..stream::Config::default()
    };
    let opened = streams::open(context, config).await;
    opened.map_err(|error| match streams::has_no_jetstream(&error) {
        true => ValueError::Unavailable(NO_JETSTREAM.to_owned()),
        false => unavailable(&error),
    })
}

impl BucketConnection {
    fn value(&self, key: &str) -> String {
        format!("$KV.{}.v.{}", self.bucket, token(key))
    }

    fn lock(&self, name: &str) -> String {
        format!("$KV.{}.l.{}", self.bucket, token(name))
    }

    fn clock(&self) -> String {
        format!("$KV.{}.clock", self.bucket)
    }

    /// Returns the last message of a subject, and whether it marks the value as removed.
    async fn read(&self, subject: &str) -> Result<Option<(Last, bool)>, ValueError> {
        // The leader of the stream responds. It has all acknowledged messages.
        match self.stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => {
                let is_removed = message.headers.get(OPERATION).is_some();
                let last = Last {
                    number: message.sequence,
                    time: message.time.unix_timestamp_nanos(),
                    payload: message.payload,
                };
                Ok(Some((last, is_removed)))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Writes a message and returns its number. Returns `None` if the last message of the subject
    /// does not have the expected number.
    async fn write(
        &self,
        subject: &str,
        message: PublishMessage,
        expected: Option<u64>,
    ) -> Result<Option<u64>, ValueError> {
        let message = match expected {
            Some(number) => message.expected_last_subject_sequence(number),
            None => message,
        };
        let settling = StreamRetry::new();
        loop {
            let (subject, message) = (subject.to_owned(), message.clone());
            let written = match self.context.send_publish(subject, message).await {
                Ok(acknowledged) => acknowledged.await,
                Err(error) => Err(error),
            };
            let error = match written {
                Ok(acknowledged) => return Ok(Some(acknowledged.sequence)),
                Err(error) => error,
            };
            if error.kind() == PublishErrorKind::WrongLastSequence {
                return Ok(None);
            }
            // No stream has received the message, so a retry does not write it twice.
            if error.kind() == PublishErrorKind::StreamNotFound && settling.should_retry().await {
                open(&self.context, &self.bucket).await?;
                continue;
            }
            let why = chain(&error);
            return Err(match why.contains(FULL) {
                true => ValueError::Full,
                false => ValueError::Unavailable(why),
            });
        }
    }

    /// Marks a value as removed, and deletes the mark. Returns the number of the change, or `None`
    /// on a conflict.
    async fn remove(
        &self,
        subject: &str,
        expected: Option<u64>,
    ) -> Result<Option<u64>, ValueError> {
        let mark = PublishMessage::build().header(OPERATION, "DEL");
        let removed = self.write(subject, mark, expected).await?;
        if let Some(number) = removed {
            // A mark that cannot be deleted remains as an additional message. If a new value has
            // replaced it, it no longer exists.
            let _ = self.stream.delete_message(number).await;
        }
        Ok(removed)
    }

    async fn put(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> Result<Put, ValueError> {
        let subject = self.value(key);
        let mut number = match expected {
            Expected::Anything => None,
            Expected::Nothing => Some(0),
            Expected::Version(version) => Some(version),
        };
        for _ in 0..TRIES {
            // NATS interprets the number zero, which no message has, as the condition that no
            // message exists.
            let written = match (&text, expected) {
                (_, Expected::Version(0)) => None,
                (Some(text), _) => {
                    let payload = Bytes::copy_from_slice(text.as_bytes());
                    let message = PublishMessage::build().payload(payload);
                    self.write(&subject, message, number).await?
                }
                (None, _) => self.remove(&subject, number).await?,
            };
            if let Some(version) = written {
                return Ok(Put::Stored(version));
            }
            match self.read(&subject).await? {
                Some((last, false)) => return Ok(Put::Conflict(Some(last.number))),
                // A mark of removal that was not deleted counts as no message.
                left if expected == Expected::Nothing => {
                    number = Some(left.map_or(0, |(mark, _)| mark.number));
                }
                Some((_, true)) | None => return Ok(Put::Conflict(None)),
            }
        }
        Err(ValueError::Unavailable(RACED.to_owned()))
    }

    /// Returns the time of NATS, in nanoseconds since 1970.
    async fn now(&self) -> Result<i128, ValueError> {
        // NATS cannot be queried for its time, but it records when it received a message.
        let subject = self.clock();
        self.write(&subject, PublishMessage::build(), None).await?;
        let last = self.read(&subject).await?;
        let (last, _) = last.ok_or_else(|| ValueError::Unavailable(RACED.to_owned()))?;
        Ok(last.time)
    }

    /// Returns the last message of a lock, and its content unless the lock was released.
    async fn held(&self, subject: &str) -> Result<(Option<Last>, Option<LockRecord>), ValueError> {
        match self.read(subject).await? {
            None => Ok((None, None)),
            Some((mark, true)) => Ok((Some(mark), None)),
            Some((last, false)) => {
                let held = serde_json::from_slice(&last.payload);
                let held = held.map_err(|error| ValueError::Decode(error.to_string()))?;
                Ok((Some(last), Some(held)))
            }
        }
    }

    /// Returns the last message of a lock, if it is held under this number.
    async fn held_under(
        &self,
        subject: &str,
        fence: u64,
    ) -> Result<Option<(Last, LockRecord)>, ValueError> {
        let (Some(last), Some(held)) = self.held(subject).await? else {
            return Ok(None);
        };
        let is_this = held.fence.unwrap_or(last.number) == fence;
        let is_held = is_this && held.lasts(&last, self.now().await?);
        Ok(is_held.then_some((last, held)))
    }

    async fn take(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> Result<Option<u64>, ValueError> {
        let subject = self.lock(name);
        let (last, held) = self.held(&subject).await?;
        if let (Some(last), Some(held)) = (&last, &held)
            && held.holder != holder
            && held.lasts(last, self.now().await?)
        {
            return Ok(None);
        }
        let held = LockRecord::new(holder, lease, None);
        // NATS refuses the message if another server has written since the lock was read. So only
        // one server acquires it.
        let number = last.map_or(0, |last| last.number);
        self.write(&subject, held.message()?, Some(number)).await
    }
}

impl LockRecord {
    fn new(holder: &str, lease: Duration, fence: Option<u64>) -> Self {
        Self {
            holder: holder.to_owned(),
            lease: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            fence,
        }
    }

    fn message(&self) -> Result<PublishMessage, ValueError> {
        let json = serde_json::to_vec(self).map_err(|error| ValueError::Encode(Arc::new(error)))?;
        Ok(PublishMessage::build().payload(json.into()))
    }

    fn lasts(&self, last: &Last, now: i128) -> bool {
        last.time + i128::from(self.lease) * 1_000_000 > now
    }
}

impl ValueStore for NatsValues {
    fn get(&self, key: &str) -> BoxFuture<Result<Option<StoredValue>, ValueError>> {
        let key = key.to_owned();
        self.with(async move |line| {
            let Some((last, false)) = line.read(&line.value(&key)).await? else {
                return Ok(None);
            };
            let text = str::from_utf8(&last.payload);
            let text = text.map_err(|error| ValueError::Decode(error.to_string()))?;
            Ok(Some(StoredValue {
                version: last.number,
                text: text.into(),
            }))
        })
    }

    fn put(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> BoxFuture<Result<Put, ValueError>> {
        let key = key.to_owned();
        self.with(async move |line| line.put(&key, expected, text).await)
    }

    fn lock(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> BoxFuture<Result<Option<u64>, ValueError>> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.with(async move |line| line.take(&name, &holder, lease).await)
    }

    fn renew(
        &self,
        name: &str,
        fence: u64,
        lease: Duration,
    ) -> BoxFuture<Result<bool, ValueError>> {
        let name = name.to_owned();
        self.with(async move |line| {
            let subject = line.lock(&name);
            let Some((last, held)) = line.held_under(&subject, fence).await? else {
                return Ok(false);
            };
            let held = LockRecord::new(&held.holder, lease, Some(fence));
            let renewed = line.write(&subject, held.message()?, Some(last.number));
            Ok(renewed.await?.is_some())
        })
    }

    fn unlock(&self, name: &str, fence: u64) -> BoxFuture<Result<bool, ValueError>> {
        let name = name.to_owned();
        self.with(async move |line| {
            let subject = line.lock(&name);
            let Some((last, _)) = line.held_under(&subject, fence).await? else {
                return Ok(false);
            };
            Ok(line.remove(&subject, Some(last.number)).await?.is_some())
        })
    }
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> ValueError {
    ValueError::Unavailable(chain(error))
}

const NO_JETSTREAM: &str = "this NATS has no JetStream, which values and locks need: enable JetStream, or pass a store to Builder::values";
const RACED: &str = "other servers changed the value during every attempt";
/// A number that no message has.
const NEVER: u64 = u64::MAX;
/// The error text of NATS if the maximum number of messages is reached.
const FULL: &str = "maximum messages";
/// The header with which the tools of NATS mark a value as removed.
const OPERATION: &str = "KV-Operation";
/// The maximum number of attempts if no value is expected and other servers keep changing it.
const TRIES: u32 = 16;
