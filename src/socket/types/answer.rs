//! The answer of a handler to an event.

use std::any::Any;
use std::fmt;
use std::pin::Pin;

use roomcast_protocol::{
    Frame,
    socket::{Arguments, EncodeError, Nsp, Parser},
};

use super::refusal::{INVALID_PAYLOAD, Refusal};

/// A return value of a handler.
///
/// | value | acknowledgement, if the client requested one |
/// |---|---|
/// | `()` | without arguments |
/// | [`Ack(value)`](Ack), `Ack((a, b))` | the value; several values |
/// | [`NoAck`] | none; the client receives no answer |
/// | `Err(error)` | `{success: false, error: {code, message, …}}`, see [`Refusal`] |
///
/// All errors are also passed to [`on_error`](crate::NamespaceBuilder::on_error).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a handler returns",
    note = "return `()`, `Ack<T>`, or a `Result` of them whose error converts into `Refusal`"
)]
pub trait IntoAck {
    /// Converts the value into the answer to one event.
    fn into_ack(self, reply: Reply) -> Answer;
}

impl IntoAck for () {
    fn into_ack(self, reply: Reply) -> Answer {
        reply.with(())
    }
}

/// A return value that acknowledges the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<T>(pub T);

impl<T: Arguments> IntoAck for Ack<T> {
    fn into_ack(self, reply: Reply) -> Answer {
        reply.with(self.0)
    }
}

/// A return value that leaves the event without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAck;

impl IntoAck for NoAck {
    fn into_ack(self, _: Reply) -> Answer {
        Answer::of(AckOutcome::Nothing)
    }
}

impl<T: IntoAck, E: Into<Refusal>> IntoAck for Result<T, E> {
    fn into_ack(self, reply: Reply) -> Answer {
        match self {
            Ok(value) => value.into_ack(reply),
            Err(error) => Answer::of(AckOutcome::Refused(error.into())),
        }
    }
}

/// A return value that acknowledges with an `R`, or an error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the reply that the request has",
    note = "return `Ack<{R}>`, or a `Result` of it whose error converts into `Refusal`"
)]
pub trait Replies<R>: IntoAck {}

impl<R> Replies<R> for Ack<R> where Self: IntoAck {}

impl<R, T: Replies<R>, E: Into<Refusal>> Replies<R> for Result<T, E> {}
/// The destination of an answer, if an acknowledgement was requested.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) parser: Parser,
    pub(crate) nsp: Nsp,
    pub(crate) id: Option<u64>,
}

impl Reply {
    /// Encodes an acknowledgement with these arguments.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    #[must_use]
    pub fn with(self, args: impl Arguments) -> Answer {
        let Some(id) = self.id else {
            return Answer::of(AckOutcome::Nothing);
        };
        match self.parser.ack(self.nsp.as_str(), id, &args) {
            Ok(frame) => Answer::of(AckOutcome::Frame(frame)),
            // These arguments came from a client and cannot be sent back, so it is not a server
            // error.
            Err(error @ EncodeError::InvalidArguments) => {
                let refusal = Refusal::new(INVALID_PAYLOAD, error.to_string());
                let place = serde_json::json!({"details": {"field": "[0]"}});
                Answer::of(AckOutcome::Refused(refusal.data(place)))
            }
            Err(error) => {
                let reason = format!("its acknowledgement cannot be encoded: {error}");
                Answer::of(AckOutcome::Refused(Refusal::internal().because(reason)))
            }
        }
    }
}

/// The answer to one event.
pub struct Answer {
    pub(crate) outcome: AckOutcome,
    /// Dropped once the answer is queued.
    pub(crate) kept: Option<Box<dyn Any + Send>>,
}

impl Answer {
    pub(crate) fn of(outcome: AckOutcome) -> Self {
        Self {
            outcome,
            kept: None,
        }
    }

    /// Keeps a value until the acknowledgement is queued for the client, or the client is gone.
    ///
    /// What its destructor does therefore happens after the acknowledgement: an event that it emits
    /// reaches the client later than the acknowledgement.
    #[must_use]
    pub fn keep(mut self, value: Box<dyn Any + Send>) -> Self {
        self.kept = Some(value);
        self
    }

    /// Returns the encoded acknowledgement, if there is one to send.
    ///
    /// # Errors
    /// Returns the refusal if the event failed.
    #[cfg(feature = "client")]
    pub(crate) fn into_frame(self) -> Result<Option<Frame>, Refusal> {
        match self.outcome {
            AckOutcome::Nothing => Ok(None),
            AckOutcome::Frame(frame) => Ok(Some(frame)),
            AckOutcome::Refused(refusal) => Err(refusal),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) enum AckOutcome {
    /// No acknowledgement is sent.
    Nothing,
    /// The encoded acknowledgement.
    Frame(Frame),
    /// The event failed.
    Refused(Refusal),
}

/// The pending answer of a handler.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;
