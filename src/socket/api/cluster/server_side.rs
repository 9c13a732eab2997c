//! Events between the servers of a cluster.

use std::fmt;

use roomcast_protocol::socket::{Args, Argument, ArgumentError, Arguments, EncodeError, Parser};

use super::super::namespace_builder::{NamespaceBuilder, needs_of};
use crate::{
    adapter::{
        AdapterError, Audience, Flags, Item, Kind, Operation, OperationKind, Request, Target,
        Unanswered,
    },
    socket::{
        apply::{RemoteOutcome, Unpublished, apply},
        core::{Io, Namespace, ServerSide, ServerSideHandler},
        dispatch::{HandlerFuture, Middleware},
        types::{BuildError, IntoAck as _, args},
    },
};

impl ServerSide {
    /// Returns the namespace of the event.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the server that received the event.
    #[must_use]
    pub fn io(&self) -> &Io {
        self.namespace.io()
    }

    /// Returns all arguments, unparsed.
    #[must_use]
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Parses the argument at `i`.
    ///
    /// # Errors
    ///
    /// Fails if the argument is missing or has another type.
    pub fn arg<T: Argument>(&self, i: usize) -> Result<T, ArgumentError> {
        T::take(&self.args, &mut { i })
    }
}

impl fmt::Debug for ServerSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSide")
            .field("namespace", &self.namespace)
            .field("args", &self.args)
            .finish()
    }
}

/// The error of an event between servers.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerSideError {
    /// The name is reserved: `connect`, `connection`, `new_namespace`.
    Reserved,
    /// The arguments cannot be serialized.
    Encode(EncodeError),
    /// Some servers did not answer in time. Contains the received answers.
    Timeout(PartialAnswers),
    /// The answer of a server has an unexpected type.
    Decode(ArgumentError),
    /// The adapter did not send the event.
    Adapter(AdapterError),
    /// The event was not sent, because
    /// [`Config::max_pending_acks`](crate::Config::max_pending_acks) requests are pending.
    TooManyPending,
}

/// The received answers, if some servers did not answer.
#[derive(Debug)]
pub struct PartialAnswers {
    answers: Vec<Args>,
    missing: Unanswered,
}

impl PartialAnswers {
    /// Returns the received answers that are an `R`.
    #[must_use]
    pub fn answers<R: Argument>(&self) -> Vec<R> {
        let read = |args| R::take_all(args).ok();
        self.answers.iter().filter_map(read).collect()
    }

    /// Returns the servers that did not answer.
    #[must_use]
    pub fn missing(&self) -> &Unanswered {
        &self.missing
    }
}

impl fmt::Display for ServerSideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reserved => "reserved event name",
            Self::Encode(error) => return write!(f, "the event cannot be encoded: {error}"),
            Self::Timeout(_) => "not all servers have answered in time",
            Self::Decode(error) => return write!(f, "an answer has an unexpected shape: {error}"),
            Self::Adapter(error) => {
                return write!(f, "the event cannot be sent to other servers: {error}");
            }
            Self::TooManyPending => "too many requests are outstanding",
        })
    }
}

/// Has no source, because the message is complete.
impl std::error::Error for ServerSideError {}

impl NamespaceBuilder {
    /// Handles events that other servers of the cluster send with
    /// [`server_side_emit`](crate::Namespace::server_side_emit). The return value is the
    /// acknowledgement.
    ///
    /// ```
    /// use roomcast::{Ack, Io, handler::ServerSide};
    ///
    /// let io = Io::builder().namespace("/", |namespace| {
    ///     namespace
    ///         .on_server_side("count", async |event: ServerSide| Ack(event.namespace().count()))
    /// });
    /// ```
    ///
    /// ```js
    /// // the same on the official server
    /// io.on("count", (reply) => reply(io.sockets.sockets.size));
    /// ```
    pub fn on_server_side<M>(
        mut self,
        event: &str,
        handler: impl Middleware<ServerSide, M, Future: HandlerFuture>,
    ) -> Self {
        self.needs(event, needs_of(&handler));
        if RESERVED.contains(&event) {
            self.fail(BuildError::ReservedEvent(event.into()));
        }
        let handler: ServerSideHandler = Box::new(move |event, reply| {
            let handling = handler.call(event);
            Box::pin(async move { handling.await.into_ack(reply) })
        });
        if self.handlers.server_side(event).is_some() {
            self.fail(BuildError::DuplicateHandler(event.into()));
        }
        self.handlers.server_side.push((event.into(), handler));
        self
    }
}

impl Namespace {
    /// Sends an event to the other servers of the cluster, not to this server or to clients.
    ///
    /// The servers handle it with [`on_server_side`](crate::NamespaceBuilder::on_server_side).
    /// Without an [adapter](crate::Builder::adapter), there are no other servers.
    ///
    /// # Errors
    ///
    /// See [`ServerSideError`].
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn server_side_emit(
        &self,
        event: &str,
        args: impl Arguments,
    ) -> Result<(), ServerSideError> {
        let args = &args;
        self.publish_server_side(event, args, Kind::ServerSide { event, args })?;
        Ok(())
    }

    /// Sends an event like [`server_side_emit`](Self::server_side_emit), and waits for the answers.
    ///
    /// The timeout is [`Adapter::request_timeout`](crate::adapter::Adapter::request_timeout). A
    /// server without a handler, or whose handler returns no answer, is not waited for and adds no
    /// answer.
    ///
    /// # Errors
    ///
    /// See [`ServerSideError`]. [`Timeout`](ServerSideError::Timeout) contains the received
    /// answers.
    pub async fn server_side_emit_with_acks<R: Argument>(
        &self,
        event: &str,
        args: impl Arguments,
    ) -> Result<Vec<R>, ServerSideError> {
        let args = &args;
        let request =
            self.publish_server_side(event, args, Kind::ServerSideWithAck { event, args });
        let Some(mut request) = request? else {
            return Ok(Vec::new());
        };
        let mut answers = Vec::new();
        while let Some((_, item)) = request.next().await {
            if let Item::Answer(args) = item {
                answers.push(args);
            }
        }
        let missing = request.missing();
        if !missing.is_empty() {
            return Err(ServerSideError::Timeout(PartialAnswers {
                answers,
                missing,
            }));
        }
        let read = answers.iter().map(R::take_all);
        read.collect::<Result<_, _>>()
            .map_err(ServerSideError::Decode)
    }

    fn publish_server_side(
        &self,
        event: &str,
        args: &dyn Arguments,
        kind: OperationKind<'_>,
    ) -> Result<Option<Request>, ServerSideError> {
        if RESERVED.contains(&event) {
            return Err(ServerSideError::Reserved);
        }
        let target_namespace = self.target_namespace();
        let target = Target {
            namespace: self.nsp(),
            rooms: &Audience::All,
            except: &[],
            sender: None,
            local: false,
            flags: Flags::default(),
            stream: None,
        };
        match apply(&target_namespace, &Operation { target, kind }).remote {
            RemoteOutcome::Published => Ok(None),
            RemoteOutcome::Requested(request) => Ok(Some(request)),
            RemoteOutcome::Failed(Unpublished::Encode(error)) => {
                Err(ServerSideError::Encode(error))
            }
            RemoteOutcome::Failed(Unpublished::Adapter(error)) => {
                Err(ServerSideError::Adapter(error))
            }
            RemoteOutcome::Failed(Unpublished::TooManyPending) => {
                Err(ServerSideError::TooManyPending)
            }
            // Without other servers, encoding errors must be detected here.
            RemoteOutcome::None => match args::arguments(Parser::Json, args) {
                Ok(_) => Ok(None),
                Err(error) => Err(ServerSideError::Encode(error)),
            },
        }
    }
}

/// Event names that cannot be sent between servers.
const RESERVED: [&str; 3] = ["connect", "connection", "new_namespace"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ack, BuildError};

    #[tokio::test]
    async fn server_side_emit_without_cluster_returns_no_answers() {
        let io = Io::builder().namespace("/", |namespace| {
            namespace
                .on_server_side("ping", async |event: ServerSide| {
                    Ack(event.arg::<u32>(0).unwrap_or(0) + 1)
                })
                .on_server_side("quiet", async |_: ServerSide| crate::NoAck)
        });
        let io = io.build().unwrap();
        let main = io.of("/");
        main.server_side_emit("ping", 1).unwrap();
        let answers: Vec<u32> = main.server_side_emit_with_acks("ping", 1).await.unwrap();
        assert!(answers.is_empty());
        assert!(matches!(
            main.server_side_emit("new_namespace", ()),
            Err(ServerSideError::Reserved)
        ));
    }

    #[test]
    fn duplicate_or_reserved_server_side_events_fail_the_build() {
        for (names, error) in [
            (["a", "a"], BuildError::DuplicateHandler("a".into())),
            (
                ["a", "connection"],
                BuildError::ReservedEvent("connection".into()),
            ),
        ] {
            let mut io = Io::builder();
            for name in names {
                io = io.namespace("/", |namespace| {
                    namespace.on_server_side(name, async |_: ServerSide| {})
                });
            }
            assert_eq!(io.build().unwrap_err(), error);
        }
    }
}
