use std::{error, fmt};

use super::Message;
use crate::{Refusal, client::ClientError};

/// The error of a [`MessageWriter`](super::MessageWriter).
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// A request failed for good: the server refused it ([`ClientError::Refused`] with the code), or
    /// nothing moved the message on within the [`timeout`](super::NewMessage::timeout). In that case
    /// this is the last failure.
    Request(ClientError),
    /// The server's answer does not fit to the text that was sent. Contains the fault.
    Answer(&'static str),
    /// The server ended the message before it was finished, for example because no text was added
    /// for too long. Contains the stored message.
    Interrupted(Box<Message>),
    /// The source of the text failed, and the message was aborted. Contains the error of the source.
    Source(Box<dyn error::Error + Send + Sync>),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(error) => error.fmt(f),
            Self::Answer(fault) => f.write_str(fault),
            Self::Interrupted(message) => match &message.interrupted_reason {
                Some(reason) => write!(f, "the message was interrupted: {reason}"),
                None => f.write_str("the message was interrupted by the server"),
            },
            Self::Source(error) => write!(f, "the text could not be read: {error}"),
        }
    }
}

impl error::Error for WriteError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        None // The message includes the source.
    }
}

impl From<ClientError> for WriteError {
    fn from(error: ClientError) -> Self {
        Self::Request(error)
    }
}

/// An internal error of the client's application. The server receives no details.
impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        Self::internal().because(error.to_string())
    }
}
