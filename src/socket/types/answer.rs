//! What a handler answers an event with.

use std::pin::Pin;

use roomcast_protocol::{
    Frame,
    socket::{Arguments, EncodeError, Nsp, Parser},
};

use super::refusal::{INVALID_PAYLOAD, Refusal};

/// What a handler may return.
///
/// | value | acknowledgement, if the client asked for one |
/// |---|---|
/// | `()` | without arguments |
/// | [`Ack(value)`](Ack), `Ack((a, b))` | the value; several |
/// | [`NoAck`] | none, the client waits in vain |
/// | `Err(error)` | `{success: false, error: {code, message, …}}`, see [`Refusal`] |
///
/// An error that nobody can be told goes to [`on_error`](crate::NamespaceBuilder::on_error).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a handler returns",
    note = "return `()`, `Ack<T>`, or a `Result` of them whose error converts into `Refusal`"
)]
pub trait IntoAck {
    /// Turns the value into the answer to one event.
    fn into_ack(self, reply: Reply) -> Answer;
}

impl IntoAck for () {
    fn into_ack(self, reply: Reply) -> Answer {
        reply.with(())
    }
}

/// The value of a handler that acknowledges with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<T>(pub T);

impl<T: Arguments> IntoAck for Ack<T> {
    fn into_ack(self, reply: Reply) -> Answer {
        reply.with(self.0)
    }
}

/// The value of a handler that leaves a requested acknowledgement unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAck;

impl IntoAck for NoAck {
    fn into_ack(self, _: Reply) -> Answer {
        Answer(AckOutcome::Nothing)
    }
}

impl<T: IntoAck, E: Into<Refusal>> IntoAck for Result<T, E> {
    fn into_ack(self, reply: Reply) -> Answer {
        match self {
            Ok(value) => value.into_ack(reply),
            Err(error) => Answer(AckOutcome::Refused(error.into())),
        }
    }
}

/// The value of a handler that acknowledges with an `R`, unless it fails.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the reply that the request has",
    note = "return `Ack<{R}>`, or a `Result` of it whose error converts into `Refusal`"
)]
pub trait Replies<R>: IntoAck {}

impl<R> Replies<R> for Ack<R> where Self: IntoAck {}

impl<R, T: Replies<R>, E: Into<Refusal>> Replies<R> for Result<T, E> {}
/// Where an answer goes: to whoever asked, if anybody did.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) parser: Parser,
    pub(crate) nsp: Nsp,
    pub(crate) id: Option<u64>,
}

impl Reply {
    /// Answers with these arguments.
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    #[must_use]
    pub fn with(self, args: impl Arguments) -> Answer {
        let Some(id) = self.id else {
            return Answer(AckOutcome::Nothing);
        };
        match self.parser.ack(self.nsp.as_str(), id, &args) {
            Ok(frame) => Answer(AckOutcome::Frame(frame)),
            // The arguments have come from a client and cannot be sent back, so the fault is not the server's.
            Err(error @ EncodeError::InvalidArguments) => {
                let refusal = Refusal::new(INVALID_PAYLOAD, error.to_string());
                let place = serde_json::json!({"details": {"field": "[0]"}});
                Answer(AckOutcome::Refused(refusal.data(place)))
            }
            Err(error) => {
                let reason = format!("its acknowledgement cannot be encoded: {error}");
                Answer(AckOutcome::Refused(Refusal::internal().because(reason)))
            }
        }
    }
}

/// The answer to one event.
#[derive(Debug)]
pub struct Answer(pub(crate) AckOutcome);

impl Answer {
    /// The encoded acknowledgement, if there is one to send.
    ///
    /// # Errors
    /// The refusal, if the event failed.
    #[cfg(feature = "client")]
    pub(crate) fn into_frame(self) -> Result<Option<Frame>, Refusal> {
        match self.0 {
            AckOutcome::Nothing => Ok(None),
            AckOutcome::Frame(frame) => Ok(Some(frame)),
            AckOutcome::Refused(refusal) => Err(refusal),
        }
    }
}

#[derive(Debug)]
pub(crate) enum AckOutcome {
    /// There is nothing to send.
    Nothing,
    /// The encoded acknowledgement.
    Frame(Frame),
    /// The event failed.
    Refused(Refusal),
}

/// The answer that a handler is still working on.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;
