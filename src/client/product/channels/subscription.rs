use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use tokio::time::Instant;

use super::{
    Channel, ChannelError, ChannelEvent, ChannelPresence,
    event::Subscribe,
    hub::{Hub, Inbox},
    sequence::{Sequence, Step, Subscribed},
};
use crate::client::{
    ClientError,
    product::requests::{backoff, pause},
};

/// A [`Stream`] of a channel's events, in order and each once, from [`Channel::subscribe`].
///
/// **Reconnects.** After a lost connection, and at another server, the channel is subscribed again
/// from the last event. Events that were published in the meantime follow. If the server no longer
/// has all of them, [`ChannelItem::Forgotten`] is delivered before the next event. The request is
/// repeated until the server answers or refuses it.
///
/// **Restarts.** An application that stores [`position`](Self::position) after it has handled an
/// event passes it to [`Channel::subscribe`] after a restart. It then receives each event that it
/// has not handled, and perhaps the last event again, if it ended before it stored the position.
///
/// **Slow applications.** The subscription has no task: it acts while the next item is awaited. In
/// the meantime, up to 1,000 events and 1 MiB wait in the client. Later events are discarded and
/// read again from the history when the application has taken those that wait. So a slow
/// application delays no other event of the connection, and receives
/// [`Forgotten`](ChannelItem::Forgotten) if the history no longer has the events.
///
/// **Dropping** it sends `channel:unsubscribe`, without waiting for the answer.
pub struct Subscription {
    channel: Channel,
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    /// The request in flight.
    request: Option<Request>,
    /// The position of the last delivered item.
    position: Option<String>,
    presence: Option<ChannelPresence>,
    has_older: bool,
    /// Whether the first request was answered. Later ones are repeated without a limit.
    is_established: bool,
    has_ended: bool,
}

type Request = Pin<Box<dyn Future<Output = Result<Subscribed, ChannelError>> + Send>>;

/// An item of a [`Subscription`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelItem {
    /// An event.
    Event(ChannelEvent),
    /// Events before the next one are missing: the server no longer has all events since the last
    /// position, or does not know the position, because the channel was deleted or a backup was
    /// restored. The application discards what it has. The newest events follow.
    Forgotten {
        /// Whether [`Channel::history`] has events before those that follow.
        has_older: bool,
    },
    /// The subscription has ended. No item follows.
    Ended(ChannelEnd),
}

/// Why a [`Subscription`] has ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelEnd {
    /// The user may no longer follow the channel.
    Forbidden,
    /// The token has expired, and there is no [function](super::ChannelToken::with) for another.
    Expired,
    /// The configuration of the server no longer has the channel.
    Removed,
    /// A service has deleted the channel.
    Deleted,
    /// A service has ended the subscription.
    Unsubscribed,
    /// The server has ended it for a reason that this version does not know.
    Other(String),
    /// The channel could not be subscribed again. Contains the refusal, for example. After the
    /// client has ended with its runtime, this is [`ClientError::Disconnected`].
    Failed(ChannelError),
}

impl Subscription {
    pub(super) async fn begin(
        channel: &Channel,
        since: Option<String>,
    ) -> Result<Self, ChannelError> {
        let hub = Hub::of(channel.socket());
        let inbox = hub.open(channel.socket(), channel.name());
        let mut subscription = Self {
            channel: channel.clone(),
            inbox: inbox.ok_or(ChannelError::AlreadySubscribed)?,
            hub,
            request: None,
            position: since,
            presence: None,
            has_older: false,
            is_established: false,
            has_ended: false,
        };
        subscription.request();
        poll_fn(|cx| subscription.poll_answer(cx)).await?;
        Ok(subscription)
    }

    /// Returns the next item, or `None` after [`ChannelItem::Ended`].
    ///
    /// This method is cancel safe: dropping the future loses no item.
    pub async fn next(&mut self) -> Option<ChannelItem> {
        StreamExt::next(self).await
    }

    /// Returns the position after the last item that [`next`](Self::next) returned, to continue
    /// from there.
    ///
    /// `None` until the first event is returned, if the subscription began without a position and
    /// there are events.
    #[must_use]
    pub fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    /// Returns the channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns whether [`Channel::history`] has events before the first one that was delivered
    /// since the beginning, or since the last [`ChannelItem::Forgotten`].
    #[must_use]
    pub fn has_older(&self) -> bool {
        self.has_older
    }

    /// Returns who followed the channel when it was last subscribed, if its kind has presence.
    /// [`Channel::presence`] reads the present list.
    #[must_use]
    pub fn presence(&self) -> Option<&ChannelPresence> {
        self.presence.as_ref()
    }

    /// Ends the subscription, as dropping it does.
    pub fn unsubscribe(self) {}

    /// Waits until the request in flight, if there is one, is answered.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        self.inbox.register(cx.waker());
        while let Some(request) = &mut self.request {
            if self.inbox.with(|sequence| sequence.is_closed()) {
                return Poll::Ready(Err(closed()));
            }
            let is_in_doubt = self.inbox.with(Sequence::take_doubt);
            let subscribed = ready!(request.as_mut().poll(cx))?;
            self.request = None;
            if is_in_doubt || !self.accept(subscribed) {
                self.request();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Accepts an answer. Returns false if the request must be repeated.
    fn accept(&mut self, subscribed: Subscribed) -> bool {
        let Subscribed { page, .. } = &subscribed;
        let (presence, has_more) = (page.presence.clone(), page.has_more);
        let position = page.events.is_empty().then(|| page.position.clone());
        let (is_first, is_forgotten) = (subscribed.is_first(), subscribed.is_forgotten());
        if !self.inbox.with(|sequence| sequence.answer(subscribed)) {
            return false;
        }
        self.is_established = true;
        self.presence = presence;
        if is_first {
            self.has_older = has_more;
        }
        // The application can store it before the first event arrives.
        if !is_forgotten && let Some(position) = position {
            self.position = Some(position);
        }
        true
    }

    /// Subscribes from the last position.
    fn request(&mut self) {
        self.inbox.with(Sequence::request);
        let (channel, since) = (self.channel.clone(), self.position.clone());
        let is_persistent = self.is_established;
        self.request = Some(Box::pin(async move {
            subscribe(&channel, since, is_persistent).await
        }));
    }

    fn end(&mut self, end: ChannelEnd) -> Poll<Option<ChannelItem>> {
        self.request = None;
        self.has_ended = true;
        self.hub.close(self.channel.name());
        Poll::Ready(Some(ChannelItem::Ended(end)))
    }
}

/// Subscribes from a position, or without one if the server refuses it.
async fn subscribe(
    channel: &Channel,
    mut since: Option<String>,
    is_persistent: bool,
) -> Result<Subscribed, ChannelError> {
    let (mut was_refused, mut failures) = (false, 0_u32);
    loop {
        let subscribe = Subscribe {
            since: since.as_deref(),
        };
        let error = match channel.call("channel:subscribe", &subscribe).await {
            Ok(page) => {
                return Ok(Subscribed {
                    page,
                    had_position: since.is_some(),
                    was_refused,
                });
            }
            Err(error) => error,
        };
        if since.is_some() && error.is_about("since") {
            (since, was_refused) = (None, true);
            continue;
        }
        if !is_persistent || !error.is_temporary() {
            return Err(error);
        }
        failures = failures.saturating_add(1);
        tracing::warn!(
            channel = channel.name(),
            %error,
            "could not subscribe to the channel again, repeating until the server answers"
        );
        let delay = backoff(failures).max(error.retry_after().min(LONGEST_DELAY));
        pause(channel.socket(), Instant::now() + delay).await;
    }
}

fn closed() -> ChannelError {
    ChannelError::Request(ClientError::DRIVER_ENDED)
}

impl Stream for Subscription {
    type Item = ChannelItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ChannelItem>> {
        while !self.has_ended {
            if let Err(error) = ready!(self.poll_answer(cx)) {
                return self.end(ChannelEnd::Failed(error));
            }
            let Some(step) = self.inbox.with(Sequence::next) else {
                return Poll::Pending;
            };
            match step {
                Step::Event(event) => {
                    self.position = Some(event.position.clone());
                    return Poll::Ready(Some(ChannelItem::Event(event)));
                }
                Step::Forgotten { has_older } => {
                    return Poll::Ready(Some(ChannelItem::Forgotten { has_older }));
                }
                Step::Position(position) => self.position = Some(position),
                Step::Subscribe => self.request(),
                Step::End(reason) => match &*reason {
                    "interrupted" => self.request(),
                    "expired" if self.channel.replace_token() => self.request(),
                    "expired" => return self.end(ChannelEnd::Expired),
                    "forbidden" => return self.end(ChannelEnd::Forbidden),
                    "removed" => return self.end(ChannelEnd::Removed),
                    "deleted" => return self.end(ChannelEnd::Deleted),
                    "unsubscribed" => return self.end(ChannelEnd::Unsubscribed),
                    _ => return self.end(ChannelEnd::Other(reason)),
                },
                Step::Close => return self.end(ChannelEnd::Failed(closed())),
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.has_ended {
            self.hub.close(self.channel.name());
            self.channel.unsubscribe();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", &self.channel.name())
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ChannelEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => f.write_str("the user may no longer follow the channel"),
            Self::Expired => f.write_str("the token for the channel has expired"),
            Self::Removed => f.write_str("the server no longer has channels of this kind"),
            Self::Deleted => f.write_str("the channel was deleted"),
            Self::Unsubscribed => f.write_str("a service has ended the subscription"),
            Self::Other(reason) => write!(f, "the server has ended the subscription: {reason}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// Maximum delay before a channel is subscribed again, if the server names a longer one.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
