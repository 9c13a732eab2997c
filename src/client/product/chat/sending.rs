//! How a writer sends its text: in pieces, one request at a time.

use std::{
    error,
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::{
    Appended, MessageWriter, StopRequest, WriteError,
    conflict::{conflict_offset, has_ended},
    message::{Append, Grown},
    text::MAX_PIECE,
};
use crate::client::{ClientError, Incoming, product::requests::request};

impl MessageWriter {
    /// Reads texts and sends them until the source has ended and everything is sent.
    pub(super) async fn run<S>(&mut self, source: S, heed: Heed) -> Result<Appended, WriteError>
    where
        S: Stream<Item = Result<String, SourceError>>,
    {
        let mut source = pin!(source.fuse());
        let mut append: Option<PendingAppend> = None;
        loop {
            let is_sending = append.is_some();
            let must_send = !is_sending && self.tail.has_work();
            if source.is_done() && !is_sending && !must_send {
                return Ok(Appended::All);
            }
            if must_send && self.due <= Instant::now() {
                append = Some(self.append_piece()?);
                continue;
            }
            let may_read = !source.is_done() && self.tail.has_room();
            // The source is last, because one that is always ready must not keep the others waiting.
            tokio::select! {
                biased;
                event = self.stop_requests.next(), if heed == Heed::StopRequests => {
                    let event = event.ok_or(ClientError::DRIVER_ENDED)?;
                    if let Some(request) = self.stop_request(&event)? {
                        return Ok(Appended::StopRequested(request));
                    }
                }
                (piece, answer) = answer(&mut append) => {
                    append = None;
                    self.appended(piece, answer)?;
                }
                () = sleep_until(self.due), if must_send => {}
                text = source.next(), if may_read => match text {
                    Some(Ok(text)) => self.tail.push(&text),
                    Some(Err(error)) => {
                        drop(append.take());
                        // The caller receives the error of the source in either case.
                        let _ = self.interrupt(Some(SOURCE_FAILED)).await;
                        return Err(WriteError::Source(error));
                    }
                    None => {}
                },
            }
        }
    }

    /// Starts a request for the next piece, and sets when another may follow.
    fn append_piece(&mut self) -> Result<PendingAppend, WriteError> {
        let now = Instant::now();
        let deadline = self.attempts.deadline(now)?;
        let (text, chars) = self.tail.offer();
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.due = now
            + match bytes {
                0 => STORED_INTERVAL,
                _ => self.interval.max(TIME_PER_BYTE.saturating_mul(bytes)),
            };
        let (socket, message_id) = (self.socket.clone(), self.message.id.clone());
        let offset = self.tail.sent();
        Ok(Box::pin(async move {
            let append = Append {
                message_id: &message_id,
                offset,
                text: &text,
            };
            let answer = request(&socket, "append_message", &append, deadline).await;
            (chars, answer)
        }))
    }

    fn appended(
        &mut self,
        piece: u64,
        answer: Result<Grown, ClientError>,
    ) -> Result<(), WriteError> {
        let Grown { offset, stored, .. } = match answer {
            Ok(grown) => grown,
            Err(error) => return self.recover(error),
        };
        let has_moved = self.tail.accept(piece, offset, stored);
        let has_moved = has_moved.ok_or(WriteError::Answer(
            "the server's position is outside the text that was sent",
        ))?;
        if has_moved {
            self.attempts.succeed();
        }
        Ok(())
    }

    /// Prepares the repetition of a request, or returns its failure if it is final.
    pub(super) fn recover(&mut self, error: ClientError) -> Result<(), WriteError> {
        // A server that takes the message over continues where the text is stored. A position beyond
        // what was sent means that another text is there.
        if let Some(offset) = conflict_offset(&error)
            && self.rewinds < MAX_REWINDS
            && self.tail.rewind(offset)
        {
            self.rewinds += 1;
            return Ok(());
        }
        self.has_ended |= has_ended(&error);
        let retry_at = self.attempts.retry_at(error, Instant::now())?;
        self.due = self.due.max(retry_at);
        Ok(())
    }

    /// Returns the request to stop this message, or `None` if it is about another one.
    fn stop_request(&self, event: &Incoming) -> Result<Option<StopRequest>, WriteError> {
        let request: StopRequest = event.args.get(0).map_err(ClientError::Answer)?;
        Ok(Some(request).filter(|request| request.message_id == self.message.id))
    }
}

/// What a writer that sends text reacts to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heed {
    StopRequests,
    Nothing,
}

pub(super) type SourceError = Box<dyn error::Error + Send + Sync>;

/// The answer to a piece, with the number of its characters.
type PendingAppend = Pin<Box<dyn Future<Output = (u64, Result<Grown, ClientError>)> + Send>>;

/// Waits for the answer to the request in flight, forever if there is none.
async fn answer(append: &mut Option<PendingAppend>) -> (u64, Result<Grown, ClientError>) {
    match append {
        Some(append) => append.await,
        None => std::future::pending().await,
    }
}

/// Reason of the abort after a failure of the source. Members can read it.
const SOURCE_FAILED: &str = "the text could not be read";
/// Delay before the next piece, per byte. The server accepts 64 KiB in any second. At 56 KiB per
/// second, a piece may arrive late by as much as one piece takes.
const TIME_PER_BYTE: Duration = Duration::from_nanos(1_000_000_000 / (7 * MAX_PIECE as u64));
/// Interval at which the server is queried what it has stored, while there is nothing to send.
const STORED_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum number of times that a message continues at an earlier position. Each takeover by
/// another server needs at most one.
const MAX_REWINDS: u32 = 100;
