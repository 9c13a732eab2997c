//! Values and locks in a key-value bucket of JetStream, which is a stream that keeps the last message of each subject.
//!
//! A version is the number of its message in the stream, and so is the fencing number of a lock: both come from one
//! counter that only grows. NATS takes a message only if the last one of its subject has the number that is expected.
//! The tools of NATS read the bucket: what was removed is marked as they do it, and then deleted.
//!
//! A lock is a message that says how long it lasts. What time it is says NATS itself, which notes when it has got a
//! message.

use std::{sync::Arc, time::Duration};

use async_nats::{
    ConnectOptions, ServerAddr,
    jetstream::{
        self, Context,
        context::PublishErrorKind,
        message::PublishMessage,
        stream::{self, DiscardPolicy, LastRawMessageErrorKind, StorageType, Stream},
    },
};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    link::Address,
    streams::{self, Settling},
    subjects::{bucket, token},
};
use crate::adapter::{
    common::chain,
    interface::BoxFuture,
    values::{Expected, MAX_KEYS, Put, StoredValue, ValueError, ValueStore},
};

/// A connection of its own, made when it is needed first and again after it broke.
#[derive(Clone)]
pub(super) struct NatsValues(Arc<NatsValuesInner>);

struct NatsValuesInner {
    servers: Vec<ServerAddr>,
    options: ConnectOptions,
    bucket: String,
    line: Mutex<Option<Line>>,
}

#[derive(Clone)]
struct Line {
    context: Context,
    stream: Stream,
    bucket: Arc<str>,
}

/// The last message of a subject.
struct Last {
    number: u64,
    /// When NATS got the message, in nanoseconds since 1970.
    time: i128,
    payload: Bytes,
}

/// Who holds a lock.
#[derive(Serialize, Deserialize)]
struct LockRecord {
    holder: String,
    /// In milliseconds, since NATS got this.
    lease: u64,
    /// The fencing number, if it is not that of this message: then it was renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<u64>,
}

impl NatsValues {
    pub(super) fn new(address: &Address, key: &str) -> Self {
        Self(Arc::new(NatsValuesInner {
            servers: address.servers.clone(),
            options: address.options.clone(),
            bucket: bucket(key),
            line: Mutex::new(None),
        }))
    }

    /// Does something on the connection, which is made anew after a failure.
    fn with<T, F>(
        &self,
        work: impl FnOnce(Line) -> F + Send + 'static,
    ) -> BoxFuture<Result<T, ValueError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ValueError>> + Send,
    {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let kept = inner.line.lock().clone();
            let line = match kept {
                Some(line) => line,
                // Several that ask at the same time may each make a connection; the last one stays.
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
    async fn connect(&self) -> Result<Line, ValueError> {
        let connecting = self.options.clone().connect(&*self.servers);
        let client = connecting.await.map_err(|error| unavailable(&error))?;
        let context = jetstream::new(client);
        let stream = open(&context, &self.bucket).await?;
        Ok(Line {
            context,
            stream,
            bucket: self.bucket.as_str().into(),
        })
    }
}

/// The stream of a bucket, which is made if there is none.
async fn open(context: &Context, bucket: &str) -> Result<Stream, ValueError> {
    let config = stream::Config {
        name: format!("KV_{bucket}"),
        subjects: vec![format!("$KV.{bucket}.>")],
        storage: StorageType::File,
        // A full bucket refuses new keys instead of forgetting old ones.
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

impl Line {
    fn value(&self, key: &str) -> String {
        format!("$KV.{}.v.{}", self.bucket, token(key))
    }

    fn lock(&self, name: &str) -> String {
        format!("$KV.{}.l.{}", self.bucket, token(name))
    }

    /// The last message of a subject, and whether it says that what was there is removed.
    async fn read(&self, subject: &str) -> Result<Option<(Last, bool)>, ValueError> {
        // The leader of the stream is asked, which has all that was acknowledged.
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

    /// Writes a message and returns its number; `None` if the last message of the subject has another number than is
    /// expected.
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
        let settling = Settling::new();
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
            // Nothing has got the message then, so that it is not written twice.
            if error.kind() == PublishErrorKind::StreamNotFound && settling.goes_on().await {
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

    /// Marks what is there as removed, and deletes the mark; the number of the change.
    async fn remove(
        &self,
        subject: &str,
        expected: Option<u64>,
    ) -> Result<Option<u64>, ValueError> {
        let mark = PublishMessage::build().header(OPERATION, "DEL");
        let removed = self.write(subject, mark, expected).await?;
        if let Some(number) = removed {
            // A mark that cannot be deleted stays as one message too many. If a new value has replaced it, it is gone already.
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
            // NATS takes the number zero, which no message has, for the condition that there is no message.
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

    /// The time of NATS, in nanoseconds since 1970.
    async fn now(&self) -> Result<i128, ValueError> {
        // NATS cannot be asked for its time, but it notes when it has got a message.
        let subject = format!("$KV.{}.clock", self.bucket);
        self.write(&subject, PublishMessage::build(), None).await?;
        let last = self.read(&subject).await?;
        let (last, _) = last.ok_or_else(|| ValueError::Unavailable(RACED.to_owned()))?;
        Ok(last.time)
    }

    /// The last message of a lock, and what it says unless the lock was given back.
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

    /// The last message of a lock, if it is held under this number.
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
        // NATS refuses the message if another server has written since the lock was read, so one of them gets it.
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

const NO_JETSTREAM: &str = "this NATS has no JetStream, which keeps values and locks; give Builder::values a store, or switch JetStream on";
const RACED: &str = "others are faster again and again";
/// What NATS says when there are as many messages as may be.
const FULL: &str = "maximum messages";
/// The header by which the tools of NATS know that what was there is removed.
const OPERATION: &str = "KV-Operation";
/// How often others may be faster where nothing is expected to be there.
const TRIES: u32 = 16;
