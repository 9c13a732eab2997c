use std::{fmt, time::Duration};

use roomcast_protocol::socket::{Argument, EncodeError};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    ChannelError, ChannelPage, ChannelPresence, ChannelToken, PageRequest, Subscription,
    event::{Call, NoFields, Publish, Published},
};
use crate::client::{
    ClientError, Socket,
    product::requests::{Attempts, pause, request},
};

/// A channel, from [`Socket::channel`]. Clones are handles to the same channel.
///
/// Requests are repeated while they fail for reasons that may pass: without a connection, without
/// an answer, and after `RATE_LIMITED`, `STORE_UNAVAILABLE`, `BACKEND_UNAVAILABLE` and `INTERNAL`,
/// when the server says. After the [`timeout`](Self::timeout), methods return the last failure.
#[derive(Clone)]
pub struct Channel {
    socket: Socket,
    name: String,
    token: Option<ChannelToken>,
    timeout: Duration,
}

impl Socket {
    /// Returns the channel of this name. Nothing is sent yet.
    #[must_use]
    pub fn channel(&self, name: impl Into<String>) -> Channel {
        Channel {
            socket: self.clone(),
            name: name.into(),
            token: None,
            timeout: Duration::from_secs(60),
        }
    }
}

impl Channel {
    /// Sets the token that all requests send. Default is none.
    #[must_use]
    pub fn token(mut self, token: impl Into<ChannelToken>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets how long a request is repeated. Default 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the socket that sends the requests.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Follows the channel, and waits for the first answer.
    ///
    /// With `None`, the subscription begins with the newest events, at most 200. With the position
    /// of the last event that the application has handled, it begins with the events after that.
    ///
    /// If the socket is not connected, the request waits for the connection.
    ///
    /// # Errors
    /// - [`ChannelError::Refused`] if the user may not follow the channel (`NOT_FOUND`), or follows
    ///   too many (`CONFLICT`).
    /// - [`ChannelError::AlreadySubscribed`] if the socket has a subscription to this channel.
    /// - [`ChannelError::Request`] and [`ChannelError::Token`].
    pub async fn subscribe(&self, since: Option<&str>) -> Result<Subscription, ChannelError> {
        Subscription::begin(self, since.map(str::to_owned)).await
    }

    /// Reads a page of the channel's events.
    ///
    /// # Errors
    /// [`ChannelError::Refused`] if the user may not read the channel (`NOT_FOUND`), or the position
    /// is not of this channel (`INVALID_PAYLOAD`). [`ChannelError::Request`] and
    /// [`ChannelError::Token`].
    pub async fn history(&self, page: PageRequest) -> Result<ChannelPage, ChannelError> {
        self.call("channel:history", &page).await
    }

    /// Reads who follows the channel.
    ///
    /// # Errors
    /// [`ChannelError::Refused`] if the user may not follow the channel (`NOT_FOUND`), or channels
    /// of its kind have no presence (`CONFLICT`). [`ChannelError::Request`] and
    /// [`ChannelError::Token`].
    pub async fn presence(&self) -> Result<ChannelPresence, ChannelError> {
        self.call("channel:presence", &NoFields {}).await
    }

    /// Publishes an event, and waits until it is stored. Returns its position.
    ///
    /// The event is sent under the same `id` until the server answers, which stores it once. After
    /// an error, the application may publish it again under that id.
    ///
    /// Events of calls that follow each other are in this order. Concurrent calls have no order.
    ///
    /// # Errors
    /// - [`ChannelError::Refused`] if the user may not publish (`FORBIDDEN`, `NOT_FOUND`), or the
    ///   event, its data or its id is wrong (`INVALID_PAYLOAD` with the field).
    /// - [`ChannelError::Request`] if the server does not answer within the
    ///   [`timeout`](Self::timeout): the event may be stored. Or if the data cannot be written as
    ///   JSON.
    /// - [`ChannelError::Token`].
    pub async fn publish(
        &self,
        event: &str,
        data: impl Serialize,
        id: &str,
    ) -> Result<String, ChannelError> {
        let data = serde_json::to_value(data)
            .map_err(|error| ClientError::Encode(EncodeError::Serialize(error)))?;
        let publish = Publish {
            event,
            data: &data,
            id,
        };
        let Published { position } = self.call("channel:publish", &publish).await?;
        Ok(position)
    }

    /// Ends the subscription of the socket, without waiting for the answer.
    pub(super) fn unsubscribe(&self) {
        let call = Call {
            channel: &self.name,
            fields: &NoFields {},
            token: None,
        };
        // If the queue is full, the socket receives events that no subscription takes.
        let _ = self.socket.emit("channel:unsubscribe", &call);
    }

    /// Makes the next request get another token. Returns whether that is possible.
    pub(super) fn replace_token(&self) -> bool {
        self.token.as_ref().is_some_and(ChannelToken::replace)
    }

    /// Sends a request until it is answered. If its token is refused, it is repeated once with
    /// another one.
    pub(super) async fn call<T: Argument>(
        &self,
        event: &str,
        fields: &impl Serialize,
    ) -> Result<T, ChannelError> {
        let mut attempts = Attempts::new("the answer about a channel", self.timeout);
        let mut may_replace = true;
        loop {
            let deadline = attempts.deadline(Instant::now())?;
            let token = match &self.token {
                Some(token) => Some(token.get(deadline).await?),
                None => None,
            };
            let call = Call {
                channel: &self.name,
                fields,
                token: token.as_deref(),
            };
            let error = match request(&self.socket, event, &call, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match attempts.retry_at(error, Instant::now()) {
                Ok(at) => pause(&self.socket, at).await,
                Err(error) => {
                    let error = ChannelError::from(error);
                    if !(error.is_about("token") && may_replace && self.replace_token()) {
                        return Err(error);
                    }
                    may_replace = false;
                }
            }
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
