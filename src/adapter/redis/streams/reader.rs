//! Reads a stream on its own connection, and resumes at the last position.
//!
//! The reader applies what it has read before it reads on. So a slow server buffers nothing: what
//! it has not applied stays in Redis, which is bounded.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::{ErrorKind, RedisError, RedisResult, Value};

use super::{Read, Stream};
use crate::adapter::{
    Position,
    common::guarded,
    redis::{broker::Listener, connection::BrokerConnection},
};

/// The position up to which a stream was read. It outlives connections.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) stream: Stream,
    place: Mutex<Option<StreamPosition>>,
    has_checked_streams: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct StreamPosition {
    /// The id of the last entry that was read.
    id: String,
    /// The number of entries ever added up to this entry, if Redis counts them.
    index: Option<u64>,
}

/// The metadata of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Info {
    pub(crate) last_id: String,
    pub(crate) length: u64,
    /// The number of entries ever added. Available from Redis 7.
    pub(crate) added: Option<u64>,
}

impl Reader {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            place: Mutex::default(),
            has_checked_streams: AtomicBool::new(false),
        }
    }

    /// Determines where to start reading. The first call skips all existing entries. Later calls
    /// return the number of entries that were removed before they were read.
    pub(crate) async fn check_position(&self, line: &mut BrokerConnection) -> RedisResult<u64> {
        let info = line.stream_info(&self.stream.name).await?;
        let mut place = self.place.lock();
        let (now, lost) = match place.take() {
            None => (info.end(), 0),
            Some(known) => info.since(known),
        };
        *place = Some(now);
        Ok(lost)
    }

    /// Warns once if Node servers use several streams, because these are not read here.
    pub(crate) async fn warn_about_other_streams(&self, line: &mut BrokerConnection) {
        if self.has_checked_streams.swap(true, Ordering::Relaxed) {
            return;
        }
        for number in 0..2 {
            let name = format!("{}-{number}", self.stream.name);
            let mut command = redis::cmd("TYPE");
            // Without permission for this command, there is no warning.
            let Ok(answer) = line.query(command.arg(&name)).await else {
                return;
            };
            if redis::from_redis_value::<String>(answer).is_ok_and(|kind| kind == "stream") {
                tracing::warn!(
                    name,
                    "servers with a streamCount above 1 write to this stream, their messages are not received here"
                );
                return;
            }
        }
    }

    /// Reads until the connection breaks, and passes every entry to the listener. No other task
    /// waits for the listener. Entries that it has not processed remain in Redis.
    pub(crate) async fn read(
        &self,
        mut line: BrokerConnection,
        listener: &(dyn Fn(Event) + Sync),
    ) -> RedisError {
        // Entries may be large, and their size is only known after they are read. So one entry is
        // read first, and then as many as fit the size limit.
        let mut count = 1;
        let mut unseen = 0;
        loop {
            let Some(from) = self.place.lock().as_ref().map(|place| place.id.clone()) else {
                return RedisError::from((
                    ErrorKind::Client,
                    "the position in the stream is unknown",
                ));
            };
            let read = line.read_stream(&self.stream.name, &from, count).await;
            let entries = match read.and_then(entries) {
                Ok(entries) => entries,
                Err(error) => return error,
            };
            let read = entries.len();
            let bytes: usize = entries.iter().map(|entry| entry.bytes).sum();
            for entry in entries {
                let id = entry.id.clone();
                listener(Event::Entry(entry));
                // The position advances after the listener has processed the entry, so all entries
                // up to it are processed.
                self.passed(&id);
            }
            if read == count {
                // A reader that lags far may be overtaken by the trimming of the stream.
                unseen += read;
                if unseen >= ENTRIES_PER_TRIM_CHECK {
                    unseen = 0;
                    match self.check_position(&mut line).await {
                        Ok(lost) => listener(Event::Lost(lost)),
                        Err(error) => return error,
                    }
                }
            } else {
                unseen = 0;
            }
            count = next_count(count, read, bytes).clamp(1, self.stream.read_count.max(1));
            // Yields to other tasks of the same worker thread.
            tokio::task::yield_now().await;
        }
    }

    /// Returns the position up to which the stream was read.
    pub(crate) fn position(&self) -> Option<Position> {
        let place = self.place.lock();
        place.as_ref().and_then(|place| Position::parse(&place.id))
    }

    fn passed(&self, id: &str) {
        if let Some(place) = &mut *self.place.lock() {
            id.clone_into(&mut place.id);
            if let Some(index) = &mut place.index {
                *index += 1;
            }
        }
    }
}

/// The result of reading.
#[derive(Debug)]
pub(crate) enum Event {
    Entry(Read),
    /// The number of entries that were removed before they were read.
    Lost(u64),
}

/// Passes an event to a listener. A panic of the listener does not end the reader.
pub(crate) fn notify(listener: &dyn Listener, event: Event) {
    guarded(|| match event {
        Event::Entry(entry) => listener.read(entry),
        Event::Lost(0) => {}
        Event::Lost(entries) => {
            crate::throttled_log!(
                warn,
                entries,
                "the stream was trimmed before this server read it"
            );
            listener.lost(entries);
        }
    });
}

/// Returns the number of entries for the next read, given the count, the entries and the bytes of
/// the last read.
pub(super) const fn next_count(count: usize, read: usize, bytes: usize) -> usize {
    if bytes > READ_SIZE_LIMIT {
        // As many entries as would have reached the limit.
        read * (READ_SIZE_LIMIT / 1024) / (bytes / 1024)
    } else if read == count {
        count * 2
    } else {
        1
    }
}

impl Info {
    fn end(self) -> StreamPosition {
        StreamPosition {
            id: match self.last_id.is_empty() {
                true => STREAM_START.to_owned(),
                false => self.last_id,
            },
            index: self.added,
        }
    }

    /// Returns the new position of a reader at the position `known`, and how many entries were
    /// removed before they were read.
    fn since(self, known: StreamPosition) -> (StreamPosition, u64) {
        if order(&self.last_id) < order(&known.id) && self.length > 0 {
            // The stream is in an older state, after a failover or from a backup. Its entries were
            // already applied here, and must not be applied again.
            crate::throttled_log!(
                warn,
                "the stream returned to an older state, reading continues at its end"
            );
            return (self.end(), 0);
        }
        let (Some(added), Some(index)) = (self.added, known.index) else {
            return (known, 0);
        };
        // The stream was deleted and created again.
        let index = if added < index { 0 } else { index };
        let has_all = order(&self.last_id) == order(&known.id);
        let first = match has_all {
            true => added,
            false => added.saturating_sub(self.length),
        };
        let lost = first.saturating_sub(index);
        let index = Some(index.max(first));
        (
            StreamPosition {
                id: known.id,
                index,
            },
            lost,
        )
    }
}

/// Parses an id so that ids can be compared.
pub(crate) fn order(id: &str) -> Option<(u64, u64)> {
    let (time, number) = id.split_once('-')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}

/// Returns the entries of a response to `XREAD`.
fn entries(answer: Value) -> RedisResult<Vec<Read>> {
    if answer == Value::Nil {
        return Ok(Vec::new());
    }
    // The response contains each stream with its name. Here it is one stream.
    let list = if let Value::Map(streams) = answer {
        streams.into_iter().next().map(|(_, list)| list)
    } else {
        let streams: Vec<Vec<Value>> = redis::from_redis_value(answer)?;
        streams.into_iter().flatten().nth(1)
    };
    let Some(Value::Array(list)) = list else {
        return Err(unexpected());
    };
    list.into_iter().map(entry).collect()
}

pub(crate) fn entry(value: Value) -> RedisResult<Read> {
    let Value::Array(parts) = value else {
        return Err(unexpected());
    };
    let mut parts = parts.into_iter();
    let (Some(Value::BulkString(id)), Some(Value::Array(fields))) = (parts.next(), parts.next())
    else {
        return Err(unexpected());
    };
    let mut read = Read {
        id: String::from_utf8(id).map_err(|_| unexpected())?,
        ..Read::default()
    };
    let mut fields = fields.into_iter();
    while let (Some(Value::BulkString(name)), Some(Value::BulkString(value))) =
        (fields.next(), fields.next())
    {
        read.bytes += name.len() + value.len();
        read.set(&name, value);
    }
    Ok(read)
}

fn unexpected() -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "no entries of a stream"))
}

/// The id before all entries.
const STREAM_START: &str = "0-0";
/// The size in bytes that a single read should not exceed.
const READ_SIZE_LIMIT: usize = 1 << 20;
/// After this many entries without reaching the end, the reader checks whether the stream was
/// trimmed.
const ENTRIES_PER_TRIM_CHECK: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: &str, index: u64) -> StreamPosition {
        let (id, index) = (id.to_owned(), Some(index));
        StreamPosition { id, index }
    }

    fn info(last_id: &str, length: u64, added: u64) -> Info {
        let (last_id, added) = (last_id.to_owned(), Some(added));
        Info {
            last_id,
            length,
            added,
        }
    }

    #[test]
    fn trimmed_unread_entries_are_counted_once() {
        let known = || place("5-0", 5);
        assert_eq!(info("5-0", 3, 5).since(known()), (known(), 0));
        assert_eq!(info("9-0", 4, 9).since(known()), (known(), 0));
        assert_eq!(info("9-0", 2, 9).since(known()), (place("5-0", 7), 2));
        assert_eq!(
            info("9-0", 2, 9).since(place("5-0", 7)),
            (place("5-0", 7), 0)
        );
        assert_eq!(info("9-0", 9, 9).end(), place("9-0", 9));
        assert_eq!(info("", 0, 0).end(), place("0-0", 0));
    }

    #[test]
    fn recreated_stream_is_read_from_its_beginning() {
        // The clock has advanced, so the new ids are greater than the old ids.
        assert_eq!(
            info("9-0", 1, 1).since(place("5-0", 5)),
            (place("5-0", 0), 0)
        );
        assert_eq!(info("", 0, 0).since(place("5-0", 5)), (place("5-0", 0), 0));
    }

    #[test]
    fn rolled_back_stream_is_not_applied_again() {
        assert_eq!(
            info("3-0", 2, 3).since(place("5-0", 5)),
            (info("3-0", 2, 3).end(), 0)
        );
    }

    #[test]
    fn all_fields_of_an_entry_count_toward_its_size() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = ["uid", "me", "other", &"x".repeat(100)].map(text).to_vec();
        let read = entry(Value::Array(vec![text("1-1"), Value::Array(fields)])).unwrap();
        assert_eq!(read.bytes, 5 + 5 + 100);
    }

    #[test]
    fn one_entry_is_read_first_and_large_entries_in_smaller_batches() {
        assert_eq!(next_count(1, 1, 10), 2);
        assert_eq!(next_count(64, 10, 10), 1, "the end was reached");
        assert_eq!(next_count(64, 64, 64 << 20), 1);
        assert_eq!(next_count(8, 8, 4 << 20), 2);
        assert_eq!(next_count(1, 1, 16 << 20), 0);
    }
}
