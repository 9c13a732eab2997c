//! Events between the servers of a cluster, of which there is one so far.

use std::fmt;

use roomcast_protocol::socket::{Args, Argument, ArgumentError, Arguments, EncodeError, Parser};

use crate::socket::{
    core::{Io, Namespace, ServerSide, ServerSideHandler},
    dispatch::{Handling, Middleware},
    words::{IntoAck as _, Outcome, Reply, args},
};

impl ServerSide {
    /// The namespace that it was sent to.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// This server.
    #[must_use]
    pub fn io(&self) -> &Io {
        self.namespace.io()
    }

    /// All arguments, unparsed.
    #[must_use]
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Parses the argument at `i`.
    ///
    /// # Errors
    ///
    /// When it is missing or has another shape.
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

/// Why an event cannot be sent to other servers.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerSideError {
    /// The name is one of the library's own: `connect`, `connection`, `new_namespace`.
    Reserved,
    /// The arguments cannot be serialised.
    Encode(EncodeError),
}

impl fmt::Display for ServerSideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reserved => "reserved event name",
            Self::Encode(error) => return write!(f, "the event cannot be encoded: {error}"),
        })
    }
}

/// Without a source: what there is stands in the text.
impl std::error::Error for ServerSideError {}

pub(crate) fn erase<M>(
    handler: impl Middleware<ServerSide, M, Future: Handling>,
) -> ServerSideHandler {
    Box::new(move |event, reply| {
        let handling = handler.ask(event);
        Box::pin(async move { handling.await.into_ack(reply) })
    })
}

impl Namespace {
    /// Sends an event to the other servers of the cluster, not to this one, and not to clients.
    ///
    /// There is one server so far, so it reaches nobody; what can be wrong with it is found out.
    ///
    /// # Errors
    ///
    /// See [`ServerSideError`].
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn server_side_emit(
        &self,
        event: &str,
        args: impl Arguments,
    ) -> Result<(), ServerSideError> {
        if RESERVED.contains(&event) {
            return Err(ServerSideError::Reserved);
        }
        args::arguments(Parser::Json, &args).map_err(ServerSideError::Encode)?;
        Ok(())
    }

    /// As [`server_side_emit`](Self::server_side_emit), and waits for the acknowledgement of every
    /// other server: none so far.
    ///
    /// # Errors
    ///
    /// See [`ServerSideError`].
    pub async fn server_side_emit_with_acks<R: Argument>(
        &self,
        event: &str,
        args: impl Arguments,
    ) -> Result<Vec<R>, ServerSideError> {
        self.server_side_emit(event, args)?;
        Ok(Vec::new())
    }

    /// Handles what another server has sent; `None`: nobody does, or it has no answer.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "there is no other server before there is a cluster"
        )
    )]
    pub(crate) async fn serve_side(&self, event: &str, args: Args) -> Option<Args> {
        let inner = self.inner()?;
        let handler = inner.handlers.server_side.get(event)?;
        let event = ServerSide {
            namespace: self.clone(),
            args,
        };
        let reply = Reply {
            parser: Parser::Json,
            nsp: inner.name.clone(),
            id: Some(0),
        };
        match handler(event, reply).await.0 {
            Outcome::Frame(frame) => args::read(Parser::Json, &frame).ok(),
            Outcome::Nothing | Outcome::Refused(_) => None,
        }
    }
}

/// Names that are not sent between servers.
pub(crate) const RESERVED: [&str; 3] = ["connect", "connection", "new_namespace"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ack, BuildError};

    #[tokio::test]
    async fn one_server_has_no_others_to_send_to() {
        let mut io = Io::builder();
        io.namespace("/")
            .on_server_side("ping", async |event: ServerSide| {
                Ack(event.arg::<u32>(0).unwrap_or(0) + 1)
            })
            .on_server_side("quiet", async |_: ServerSide| crate::NoAck);
        let io = io.build().unwrap();
        let main = io.of("/");
        main.server_side_emit("ping", 1).unwrap();
        let answers: Vec<u32> = main.server_side_emit_with_acks("ping", 1).await.unwrap();
        assert!(answers.is_empty());
        assert!(matches!(
            main.server_side_emit("new_namespace", ()),
            Err(ServerSideError::Reserved)
        ));

        // What another server would send.
        let args = args::arguments(Parser::Json, &41).unwrap();
        let answer = main.serve_side("ping", args.clone()).await.unwrap();
        assert_eq!(answer.get::<u32>(0).unwrap(), 42);
        assert!(main.serve_side("quiet", args.clone()).await.is_none());
        assert!(main.serve_side("unknown", args.clone()).await.is_none());
        assert!(io.of("/none").serve_side("ping", args).await.is_none());
    }

    #[test]
    fn an_event_between_servers_has_one_handler_and_no_reserved_name() {
        for (names, error) in [
            (["a", "a"], BuildError::DuplicateHandler("a".into())),
            (
                ["a", "connection"],
                BuildError::ReservedEvent("connection".into()),
            ),
        ] {
            let mut io = Io::builder();
            for name in names {
                io.namespace("/")
                    .on_server_side(name, async |_: ServerSide| {});
            }
            assert_eq!(io.build().unwrap_err(), error);
        }
    }
}
