//! Reads a stream from where it was, on a connection of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::{ErrorKind, RedisError, RedisResult, Value};

use super::{Read, Stream};
use crate::adapter::{
    Position,
    common::guarded,
    redis::{line::Line, link::Listener},
};

/// The place in a stream up to which it was read; it outlives connections.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) stream: Stream,
    place: Mutex<Option<StreamPosition>>,
    did_look_around: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct StreamPosition {
    /// The last entry that was read.
    id: String,
    /// How many entries the stream had ever had up to that one, if Redis counts them.
    index: Option<u64>,
}

/// What Redis tells of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Info {
    pub(crate) last_id: String,
    pub(crate) length: u64,
    /// How many entries there have ever been; from Redis 7 on.
    pub(crate) added: Option<u64>,
}

impl Reader {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            place: Mutex::default(),
            did_look_around: AtomicBool::new(false),
        }
    }

    /// Looks where to begin, or where the stream is by now: the first time nothing of the past is read.
    /// Returned is how many entries are gone that were not read.
    pub(crate) async fn look(&self, line: &mut Line) -> RedisResult<u64> {
        let info = line.stream_info(&self.stream.name).await?;
        let mut place = self.place.lock();
        let (now, lost) = match place.take() {
            None => (info.end(), 0),
            Some(known) => info.since(known),
        };
        *place = Some(now);
        Ok(lost)
    }

    /// Says once if there are streams of Node servers with several, which are not read here.
    pub(crate) async fn look_around(&self, line: &mut Line) {
        if self.did_look_around.swap(true, Ordering::Relaxed) {
            return;
        }
        for number in 0..2 {
            let name = format!("{}-{number}", self.stream.name);
            let mut question = redis::cmd("TYPE");
            // Who may not ask is not told.
            let Ok(answer) = line.ask(question.arg(&name)).await else {
                return;
            };
            if redis::from_redis_value::<String>(answer).is_ok_and(|kind| kind == "stream") {
                tracing::warn!(
                    name,
                    "servers with a streamCount above 1 write to this stream, and are not heard here"
                );
                return;
            }
        }
    }

    /// Reads until the connection breaks. Everything goes to the listener, which is never waited for by
    /// others: what it does not take in time stays in Redis.
    pub(crate) async fn read(
        &self,
        mut line: Line,
        listener: &(dyn Fn(Event) + Sync),
    ) -> RedisError {
        // Entries may be large, and how large is known only of those that were read. Whoever is behind reads one
        // first, and then as many as are not too much together.
        let mut count = 1;
        let mut unseen = 0;
        loop {
            let Some(from) = self.place.lock().as_ref().map(|place| place.id.clone()) else {
                return RedisError::from((
                    ErrorKind::Client,
                    "the place in the stream is not known",
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
                // Who asks for the place knows that all before it was heard of.
                self.passed(&id);
            }
            if read == count {
                // What is far behind may be overtaken by the end of the stream.
                unseen += read;
                if unseen >= OFTEN {
                    unseen = 0;
                    match self.look(&mut line).await {
                        Ok(lost) => listener(Event::Lost(lost)),
                        Err(error) => return error,
                    }
                }
            } else {
                unseen = 0;
            }
            count = next_count(count, read, bytes).clamp(1, self.stream.read_count.max(1));
            // Others of the same worker get their turn.
            tokio::task::yield_now().await;
        }
    }

    /// Up to where it was read.
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

/// What comes of reading.
#[derive(Debug)]
pub(crate) enum Event {
    Entry(Read),
    /// So many entries were gone before they were read.
    Lost(u64),
}

/// Tells a listener, which may fail without an end of the reading.
pub(crate) fn tell(listener: &dyn Listener, event: Event) {
    guarded(|| match event {
        Event::Entry(entry) => listener.read(entry),
        Event::Lost(0) => {}
        Event::Lost(entries) => {
            crate::throttled_log!(warn, entries, "the stream was trimmed before it was read");
            listener.lost(entries);
        }
    });
}

/// How many entries are read next, after so many of so many bytes.
pub(super) const fn next_count(count: usize, read: usize, bytes: usize) -> usize {
    if bytes > ENOUGH {
        // As many as would have been enough.
        read * (ENOUGH / 1024) / (bytes / 1024)
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
                true => NOTHING.to_owned(),
                false => self.last_id,
            },
            index: self.added,
        }
    }

    /// Where somebody is who had read so far, and how much is gone that was not read.
    fn since(self, known: StreamPosition) -> (StreamPosition, u64) {
        if order(&self.last_id) < order(&known.id) && self.length > 0 {
            // An older state of the stream, after a failover or from a backup: what is in it was
            // applied here already, and must not be once more.
            crate::throttled_log!(
                warn,
                "the stream has gone back, and is read on from its end"
            );
            return (self.end(), 0);
        }
        let (Some(added), Some(index)) = (self.added, known.index) else {
            return (known, 0);
        };
        // It was deleted and has begun anew.
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

/// An id as what it is compared by.
pub(crate) fn order(id: &str) -> Option<(u64, u64)> {
    let (time, number) = id.split_once('-')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}

/// The entries of an answer to `XREAD`.
fn entries(answer: Value) -> RedisResult<Vec<Read>> {
    if answer == Value::Nil {
        return Ok(Vec::new());
    }
    // With the name of each stream, there is one.
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

/// Before all entries.
const NOTHING: &str = "0-0";
/// Bytes that are enough to read at once.
const ENOUGH: usize = 1 << 20;
/// After so many entries without an end it is looked whether the stream was trimmed meanwhile.
const OFTEN: usize = 1000;

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
    fn what_was_trimmed_before_it_was_read_is_counted_once() {
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
    fn a_stream_that_was_made_anew_is_read_from_its_beginning() {
        // With a clock that goes on its ids follow the former ones.
        assert_eq!(
            info("9-0", 1, 1).since(place("5-0", 5)),
            (place("5-0", 0), 0)
        );
        assert_eq!(info("", 0, 0).since(place("5-0", 5)), (place("5-0", 0), 0));
    }

    #[test]
    fn a_stream_that_has_gone_back_is_not_applied_once_more() {
        assert_eq!(
            info("3-0", 2, 3).since(place("5-0", 5)),
            (info("3-0", 2, 3).end(), 0)
        );
    }

    #[test]
    fn all_fields_of_an_entry_count_whatever_they_are_called() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = ["uid", "me", "other", &"x".repeat(100)].map(text).to_vec();
        let read = entry(Value::Array(vec![text("1-1"), Value::Array(fields)])).unwrap();
        assert_eq!(read.bytes, 5 + 5 + 100);
    }

    #[test]
    fn one_entry_is_read_first_and_fewer_at_once_if_they_are_large() {
        assert_eq!(next_count(1, 1, 10), 2);
        assert_eq!(next_count(64, 10, 10), 1, "the end was reached");
        assert_eq!(next_count(64, 64, 64 << 20), 1);
        assert_eq!(next_count(8, 8, 4 << 20), 2);
        assert_eq!(next_count(1, 1, 16 << 20), 0);
    }
}
