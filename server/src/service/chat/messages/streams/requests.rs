//! Messages that an HTTP request writes. Unlike a socket, a request cannot receive events, so the
//! server stops it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use roomcast::internal::RetryAfter;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::authors::ENDED;
use super::{OpenText, StopReason};
use crate::auth::{Permission, Principal};
use crate::service::authorization::{Allowed, LostAccess};
use crate::service::chat::handle::Chat;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::streams::{AppendMessage, BeginMessage, FinishMessage};
use crate::service::rules::event::Command;
use crate::store::Message;
use roomcast::Namespace;

/// A message of a request.
#[derive(Debug)]
pub(crate) enum Written {
    /// An earlier request has written it.
    Before(Arc<Message>),
    /// This request writes it.
    Now(RequestWriter),
}

/// The writer of a message whose text arrives with a request.
#[derive(Debug)]
pub(crate) struct RequestWriter {
    chat: Chat,
    namespace: Namespace,
    /// The service that sends the request.
    service: Arc<Principal>,
    author: Arc<Principal>,
    message_id: Uuid,
    /// Identifies this server's writing of the message. The request does not take the message back
    /// from another server, where its repetition may write it.
    holder: Uuid,
    /// The number of characters that the request has sent.
    offset: u64,
    stop: watch::Receiver<Option<StopReason>>,
    idle_at: Instant,
    checks_at: Instant,
}

/// Why a request must not write further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriteEnd {
    /// This user asked for it.
    Stopped(Arc<str>),
    /// No text arrived for `chat.streams.timeout`.
    Idle,
    /// The service or the author may no longer write.
    Lost(LostAccess),
    /// The message has ended, or is written elsewhere.
    Ended,
    /// The server shuts down. The author may go on at another server.
    Shutdown,
}

impl Chat {
    /// Begins a message that a request of a service writes, or goes on with it.
    pub(crate) async fn write_message(
        &self,
        service: Arc<Principal>,
        allowed: Allowed<BeginMessage>,
        namespace: &Namespace,
    ) -> Result<Written, ServiceError> {
        if self.0.streams.is_closed.load(Ordering::Relaxed) {
            return Err(ServiceError::unavailable(SHUTDOWN_DELAY));
        }
        let author = Arc::clone(allowed.by());
        let begun = self.begin_message(allowed, None).await?;
        let message = begun.message;
        if message.interrupted {
            return Err(ENDED);
        }
        if !message.streaming {
            return Ok(Written::Before(message));
        }
        let open = self.0.streams.get(message.id).ok_or(ENDED)?;
        let (holder, stop) = {
            let mut open = open.lock();
            // An earlier request no longer decides when the message ends.
            open.stop_request(StopReason::Repeated);
            let (sender, receiver) = watch::channel(None);
            open.stop = Some(sender);
            (open.holder, receiver)
        };
        if self.0.streams.is_closed.load(Ordering::Relaxed) {
            return Err(ServiceError::unavailable(SHUTDOWN_DELAY));
        }
        let now = Instant::now();
        Ok(Written::Now(RequestWriter {
            chat: self.clone(),
            namespace: namespace.clone(),
            service,
            author,
            message_id: message.id,
            holder,
            offset: 0,
            stop,
            idle_at: now + self.0.streams.limits.timeout,
            checks_at: now + CHECK_INTERVAL,
        }))
    }

    /// Stops all requests that write messages, because the server shuts down.
    pub(crate) fn close_requests(&self) {
        self.0.streams.close();
    }
}

impl RequestWriter {
    /// Returns the shortest time between two pieces.
    pub(crate) fn pace(&self) -> Duration {
        Duration::from_secs(1) / self.chat.0.streams.limits.appends_per_second.max(1)
    }

    /// Adds text. Returns how long to wait before a repetition, if a limit refuses it for now.
    pub(crate) async fn append(&mut self, text: &str) -> Result<Option<RetryAfter>, ServiceError> {
        let idle_at = Instant::now() + self.chat.0.streams.limits.timeout;
        let append = AppendMessage {
            message_id: self.message_id,
            offset: self.offset,
            text: text.to_owned(),
        };
        let allowed = self.allow(append)?;
        self.open()?;
        match self
            .chat
            .append_message(allowed, &self.namespace, None)
            .await
        {
            Ok(_) => {
                self.offset += text.chars().count() as u64;
                self.idle_at = idle_at;
                Ok(None)
            }
            Err(ServiceError::Limited { retry_after }) => Ok(Some(retry_after)),
            Err(error) => Err(error),
        }
    }

    /// Returns once the request must not write further.
    pub(crate) async fn ended(&mut self) -> WriteEnd {
        loop {
            tokio::select! {
                changed = self.stop.changed() => {
                    let reason = self.stop.borrow_and_update().clone();
                    return match (changed, reason) {
                        (Ok(()), Some(StopReason::User(user))) => WriteEnd::Stopped(user),
                        (Ok(()), Some(StopReason::Shutdown)) => WriteEnd::Shutdown,
                        (Ok(()), Some(StopReason::Repeated)) => WriteEnd::Ended,
                        (Ok(()), None) => continue,
                        (Err(_), _) => WriteEnd::Ended,
                    };
                }
                () = sleep_until(self.idle_at) => return WriteEnd::Idle,
                () = sleep_until(self.checks_at) => {
                    self.checks_at = Instant::now() + CHECK_INTERVAL;
                    let access = &self.chat.0.access;
                    let lost = access
                        .recheck(&self.service, Permission::ApiMessages)
                        .and_then(|()| access.recheck(&self.author, Permission::ChatSend));
                    if let Err(lost) = lost {
                        return WriteEnd::Lost(lost);
                    }
                }
            }
        }
    }

    /// Ends the message with the text that was sent.
    pub(crate) async fn finish(&self) -> Result<Arc<Message>, ServiceError> {
        let finish = FinishMessage {
            message_id: self.message_id,
            offset: self.offset,
            content: None,
            metadata: None,
        };
        let (by, finish) = self.allow(finish)?.into_parts();
        let open = self.open()?;
        let written = open.lock().text.lock().whole().to_owned();
        let message = self.chat.finish(&by, &open, finish, None).await?;
        // In the meantime it may have been interrupted, or finished by a repetition elsewhere.
        match message.interrupted || message.content != written {
            true => Err(ENDED),
            false => Ok(message),
        }
    }

    /// Ends the message where it is, if this server still writes it.
    pub(crate) async fn interrupt(&self, reason: String) -> Result<(), ServiceError> {
        let Ok(open) = self.open() else { return Ok(()) };
        let finish = open.lock().interrupted(reason);
        self.chat.end(finish, None).await.map(drop)
    }

    /// Returns the message, if this request still writes it.
    fn open(&self) -> Result<Arc<Mutex<OpenText>>, ServiceError> {
        if matches!(*self.stop.borrow(), Some(StopReason::Repeated)) {
            return Err(ENDED);
        }
        let streams = &self.chat.0.streams;
        streams.held(self.message_id, self.holder).ok_or(ENDED)
    }

    fn allow<C: Command>(&self, command: C) -> Result<Allowed<C>, ServiceError> {
        self.chat.0.access.allow(Arc::clone(&self.author), command)
    }
}

/// How often the permissions of a request are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The time after which a request may go on at another server.
const SHUTDOWN_DELAY: Duration = Duration::from_secs(1);
