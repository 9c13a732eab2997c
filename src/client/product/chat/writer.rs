use std::{error, io, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, sleep_until};

use super::{
    Correction, Message, NewMessage, StopRequest, WriteError,
    message::{Abort, Begin, Begun, Ended, Finish},
    sending::{Heed, SourceError},
    text::TextTail,
};
use crate::client::{
    ClientError, Events, Socket,
    product::requests::{Attempts, request},
};

/// Writes one message of the chat, whose text arrives in pieces.
///
/// The writer has no task: text is sent while a method is awaited, one request at a time. Text that
/// arrives during a request is sent with the next one.
///
/// **Reconnects.** After a lost connection, and at another server, the writer repeats what the
/// server has not confirmed, or continues where the server asks it to. So the text arrives whole and
/// once. If nothing moves the message on within the [`timeout`](NewMessage::timeout), 60 s by
/// default, methods return the last failure.
///
/// **Limits.** The writer sends at most 50 pieces per second (25 by default), each of at most 8 KiB,
/// and 56 KiB per second, which is within the defaults of the server. If the server has lower
/// limits, the writer waits as long as the server says. It reads no more text while 64 KiB are not
/// sent, or 256 KiB are not stored by the server; one item of the stream may exceed that. The text
/// of a message has at most 100,000 characters by default.
///
/// **Dropping** a writer that has neither finished nor aborted its message sends `abort_message`,
/// without waiting for the answer. If that does not arrive, the server ends the message after 30 s
/// (`chat.streams.timeout`).
///
/// **Cancellation.** Dropping the future of [`append_from`](Self::append_from) loses no text that
/// was read from the stream: the next call sends it. Dropping the future of
/// [`finish`](Self::finish) or [`abort`](Self::abort) drops the writer, and dropping that of
/// [`begin`](Self::begin) may leave a message to the server's timeout.
#[derive(Debug)]
pub struct MessageWriter {
    pub(super) socket: Socket,
    pub(super) stop_requests: Events,
    pub(super) message: Message,
    pub(super) tail: TextTail,
    pub(super) interval: Duration,
    pub(super) attempts: Attempts,
    /// When the next request may be sent.
    pub(super) due: Instant,
    pub(super) rewinds: u32,
    /// Whether the message has ended, so that dropping the writer does not abort it.
    pub(super) has_ended: bool,
}

/// Why [`MessageWriter::append_from`] returned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a member may have asked to stop"]
#[expect(clippy::exhaustive_enums, reason = "callers handle each outcome")]
pub enum Appended {
    /// The stream has ended, and the server has all of its text.
    All,
    /// A member asks to stop. Text that was read and not sent is still sent by
    /// [`finish`](MessageWriter::finish) and by more text, and is dropped by
    /// [`abort`](MessageWriter::abort).
    StopRequested(StopRequest),
}

impl MessageWriter {
    /// Begins a message: the server stores it without text, and all members receive it.
    ///
    /// The socket need not have joined the conversation. If it is not connected, the request waits
    /// for the connection, up to the [`timeout`](NewMessage::timeout).
    ///
    /// # Errors
    /// - [`WriteError::Request`] if the server refuses the message, for example with `FORBIDDEN`,
    ///   or does not store it within the timeout. `RATE_LIMITED` is repeated within the timeout.
    /// - [`WriteError::Interrupted`] if the server ended the message before its answer arrived.
    pub async fn begin(socket: &Socket, new: NewMessage) -> Result<Self, WriteError> {
        // Registered first, because a member may ask before the answer arrives.
        let stop_requests = socket.stream("message_stop_requested");
        let random = getrandom::u64().and_then(|first| Ok((first, getrandom::u64()?)));
        let unknown =
            |error: getrandom::Error| ClientError::Io(io::Error::other(error.to_string()));
        let (first, second) = random.map_err(unknown)?;
        let begin = Begin {
            client_message_id: &format!("{first:016x}{second:016x}"),
            new: &new,
        };
        let mut attempts = Attempts::new("storing the text", new.timeout);
        let Begun {
            message, offset, ..
        } = loop {
            let deadline = attempts.deadline(Instant::now())?;
            match request(socket, "begin_message", &begin, deadline).await {
                Ok(begun) => break begun,
                Err(error) => sleep_until(attempts.retry_at(error, Instant::now())?).await,
            }
        };
        if !message.streaming {
            return Err(WriteError::Interrupted(Box::new(message)));
        }
        attempts.succeed();
        let writer = Self {
            socket: socket.clone(),
            stop_requests,
            message,
            tail: TextTail::default(),
            interval: new.interval.clamp(MIN_INTERVAL, MAX_INTERVAL),
            attempts,
            due: Instant::now(),
            rewinds: 0,
            has_ended: false,
        };
        match offset {
            0 => Ok(writer),
            _ => Err(WriteError::Answer("the server has text of a new message")),
        }
    }

    /// Returns the message as it began, without text.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the number of characters (Unicode scalar values) that the server has confirmed.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.tail.sent()
    }

    /// Adds a text, and waits until the server has it.
    ///
    /// Calling this for each word waits for as many answers. [`append_from`](Self::append_from)
    /// sends words together that arrive faster than the server answers.
    ///
    /// # Errors
    /// As [`append_from`](Self::append_from).
    pub async fn append(&mut self, text: impl Into<String>) -> Result<Appended, WriteError> {
        // The text counts as read, whether or not a request to stop is waiting.
        self.tail.push(&text.into());
        self.append_from(stream::empty::<String>()).await
    }

    /// Adds all texts of a stream, until it ends or a member asks to stop.
    ///
    /// Waits for the stream as long as it takes. The server ends a message to which nothing is added
    /// for 30 s (`chat.streams.timeout`), so the next text is then refused.
    ///
    /// # Errors
    /// [`WriteError::Request`] if the server refuses the text, or does not confirm it within the
    /// [`timeout`](NewMessage::timeout). The usual codes are:
    ///
    /// - `INVALID_PAYLOAD`: the text is too long, or has control characters other than tabs and line
    ///   ends.
    /// - `CONFLICT`: the message has ended, or the server has another text.
    /// - `NOT_FOUND`: the message was deleted.
    pub async fn append_from<S>(&mut self, source: S) -> Result<Appended, WriteError>
    where
        S: Stream<Item: Into<String>>,
    {
        self.run(source.map(|text| Ok(text.into())), Heed::StopRequests)
            .await
    }

    /// Adds all texts of a stream that can fail. A failure aborts the message.
    ///
    /// The reason of the abort is always `the text could not be read`, because members can read it,
    /// and the error may contain secrets. Text that was not sent before the failure is dropped.
    ///
    /// # Errors
    /// As [`append_from`](Self::append_from), and [`WriteError::Source`] with the error of the
    /// stream.
    pub async fn try_append_from<S, T, E>(&mut self, source: S) -> Result<Appended, WriteError>
    where
        S: Stream<Item = Result<T, E>>,
        T: Into<String>,
        E: Into<Box<dyn error::Error + Send + Sync>>,
    {
        let source = source.map(|text| text.map(Into::into).map_err(Into::into));
        self.run(source, Heed::StopRequests).await
    }

    /// Sends the rest of the text and ends the message. Returns the stored message.
    ///
    /// # Errors
    /// - As [`append_from`](Self::append_from). A message without any text is `INVALID_PAYLOAD`.
    /// - [`WriteError::Interrupted`] if the server ended the message before.
    pub async fn finish(self) -> Result<Message, WriteError> {
        self.finish_with(Correction::default()).await
    }

    /// As [`finish`](Self::finish), and replaces the text, the metadata, or both.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub async fn finish_with(mut self, correction: Correction) -> Result<Message, WriteError> {
        loop {
            let source = stream::empty::<Result<String, SourceError>>();
            let Appended::All = self.run(source, Heed::Nothing).await? else {
                continue;
            };
            let finish = Finish {
                message_id: &self.message.id,
                offset: self.tail.sent(),
                correction: &correction,
            };
            let deadline = self.attempts.deadline(Instant::now())?;
            match request(&self.socket, "finish_message", &finish, deadline).await {
                Ok(ended) => {
                    let message = self.ended(ended)?;
                    return match message.interrupted {
                        true => Err(WriteError::Interrupted(Box::new(message))),
                        false => Ok(message),
                    };
                }
                Err(error) => {
                    self.recover(error)?;
                    sleep_until(self.due).await;
                }
            }
        }
    }

    /// Ends the message with the text that the server has. Unsent text is dropped. Returns the
    /// stored message, which is [`interrupted`](Message::interrupted).
    ///
    /// `reason` is stored with the message, and members can read it: 1 to 200 characters, none of
    /// them control or invisible characters.
    ///
    /// # Errors
    /// [`WriteError::Request`] if the server refuses the reason (`INVALID_PAYLOAD`), or does not
    /// confirm the end within the [`timeout`](NewMessage::timeout).
    pub async fn abort(mut self, reason: Option<&str>) -> Result<Message, WriteError> {
        self.interrupt(reason).await
    }

    pub(super) async fn interrupt(&mut self, reason: Option<&str>) -> Result<Message, WriteError> {
        loop {
            let abort = Abort {
                message_id: &self.message.id,
                reason,
            };
            let deadline = self.attempts.deadline(Instant::now())?;
            match request(&self.socket, "abort_message", &abort, deadline).await {
                Ok(ended) => return self.ended(ended),
                Err(error) => {
                    self.recover(error)?;
                    sleep_until(self.due).await;
                }
            }
        }
    }

    fn ended(&mut self, Ended { message, .. }: Ended) -> Result<Message, WriteError> {
        if message.id != self.message.id || message.streaming {
            return Err(WriteError::Answer("the server has not ended the message"));
        }
        self.has_ended = true;
        Ok(message)
    }
}

impl Drop for MessageWriter {
    fn drop(&mut self) {
        if !self.has_ended {
            let abort = Abort {
                message_id: &self.message.id,
                reason: None,
            };
            // If the queue is full, the server ends the message after its own timeout.
            let _ = self.socket.emit("abort_message", abort);
        }
    }
}

/// Minimum time between two pieces. The server accepts 50 pieces of a message per second.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum time between two pieces. The server ends a message to which nothing is added for 30 s.
const MAX_INTERVAL: Duration = Duration::from_secs(20);
