use std::fmt::{self, Write as _};

use super::{
    MalformedExtensions, NAME, WindowBits,
    parameters::{Listed, Parameters, parse},
};

/// What a server accepts and asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Terms {
    /// The largest window of the server's compressor; default 15 bits.
    pub server_window: WindowBits,
    /// The largest window of the client's compressor; default 15 bits. Below 15, an offer without
    /// `client_max_window_bits` is declined, because the server cannot limit that client.
    pub client_window: WindowBits,
    /// Whether both sides may keep their context from one message to the next; default `false`.
    pub context_takeover: bool,
}

/// The parameters that both sides have agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Agreement {
    /// The window of our compressor; `None` if the peer demands a window of 8 bits, so that no
    /// message may be compressed.
    pub window: Option<WindowBits>,
    /// Whether our compressor may refer to earlier messages.
    pub keeps_context: bool,
    /// Whether the peer's compressor may refer to earlier messages.
    pub peer_keeps_context: bool,
    answer: Parameters,
}

impl Agreement {
    /// Returns the answer's value of `Sec-WebSocket-Extensions`.
    #[must_use]
    pub fn header(&self) -> String {
        let mut text = NAME.to_owned();
        if self.answer.server_no_context_takeover {
            text.push_str("; server_no_context_takeover");
        }
        if self.answer.client_no_context_takeover {
            text.push_str("; client_no_context_takeover");
        }
        // Writing to a string cannot fail.
        if let Some(bits) = self.answer.server_max_window_bits {
            let _ = write!(text, "; server_max_window_bits={bits}");
        }
        if let Some(Some(bits)) = self.answer.client_max_window_bits {
            let _ = write!(text, "; client_max_window_bits={bits}");
        }
        text
    }

    /// Returns the agreement of a server, if the offer is acceptable.
    fn accept(offer: &Parameters, terms: &Terms) -> Option<Self> {
        let offered = match offer.server_max_window_bits {
            // zlib has no window of 8 bits.
            Some(bits) => WindowBits::new(bits)?,
            None => WindowBits::MAX,
        };
        let window = offered.min(terms.server_window);
        let is_named = offer.server_max_window_bits.is_some() || window < WindowBits::MAX;
        let most = terms.client_window;
        let client_bits = match offer.client_max_window_bits {
            None if most < WindowBits::MAX => return None,
            None => None,
            Some(None) => (most < WindowBits::MAX).then_some(most.get()),
            Some(Some(bits)) => Some(bits.min(most.get())),
        };
        let answer = Parameters {
            server_no_context_takeover: offer.server_no_context_takeover || !terms.context_takeover,
            client_no_context_takeover: offer.client_no_context_takeover || !terms.context_takeover,
            server_max_window_bits: is_named.then_some(window.get()),
            client_max_window_bits: client_bits.map(Some),
        };
        Some(Self {
            window: Some(window),
            keeps_context: !answer.server_no_context_takeover,
            peer_keeps_context: !answer.client_no_context_takeover,
            answer,
        })
    }
}

/// Answers the offers of a client: returns what the first acceptable offer leads to, or `None` if
/// all are declined.
///
/// `values` are the values of all `Sec-WebSocket-Extensions` headers, in order.
///
/// # Errors
///
/// If a value does not match its grammar, the handshake fails (RFC 6455 section 9.1).
pub fn negotiate<'a>(
    values: impl IntoIterator<Item = &'a str>,
    terms: &Terms,
) -> Result<Option<Agreement>, MalformedExtensions> {
    let mut agreement = None;
    for value in values {
        parse(value, |listed| match listed {
            Listed::Deflate(offer) if agreement.is_none() => {
                agreement = Agreement::accept(&offer, terms);
            }
            Listed::Deflate(_) | Listed::Invalid | Listed::Unknown => {}
        })?;
    }
    Ok(agreement)
}

/// A client's offer of permessage-deflate without context takeover on either side.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Offer;

impl Offer {
    /// Returns the offer's value of `Sec-WebSocket-Extensions`.
    #[must_use]
    pub fn header(self) -> &'static str {
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
    }

    /// Checks the answer of a server: the values of all its `Sec-WebSocket-Extensions` headers.
    /// Returns `None` if the server has declined the offer.
    ///
    /// # Errors
    ///
    /// If the answer does not fit the offer, the client must drop the connection (RFC 7692 section
    /// 5.1).
    pub fn check<'a>(
        self,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Agreement>, AnswerFault> {
        let mut listed = None;
        let mut count = 0;
        for value in values {
            parse(value, |next| {
                listed = Some(next);
                count += 1;
            })
            .map_err(|_| AnswerFault::Malformed)?;
        }
        let answer = match listed {
            None => return Ok(None),
            Some(Listed::Unknown) => return Err(AnswerFault::Unrequested),
            Some(_) if count > 1 => return Err(AnswerFault::Unrequested),
            Some(Listed::Invalid) => return Err(AnswerFault::Parameters),
            Some(Listed::Deflate(answer)) => answer,
        };
        // The offer requires the flag, and an answer must give the size of a window.
        if !answer.server_no_context_takeover || answer.client_max_window_bits == Some(None) {
            return Err(AnswerFault::Parameters);
        }
        let window = match answer.client_max_window_bits.flatten() {
            Some(bits) => WindowBits::new(bits),
            None => Some(WindowBits::MAX),
        };
        Ok(Some(Agreement {
            window,
            keeps_context: false,
            peer_keeps_context: false,
            answer,
        }))
    }
}

/// The reason why a server's answer does not fit an [`Offer`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AnswerFault {
    /// The header does not match its grammar.
    Malformed,
    /// The server selected an extension that was not offered, or permessage-deflate twice.
    Unrequested,
    /// A parameter is unknown, repeated, missing or invalid.
    Parameters,
}

impl fmt::Display for AnswerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the Sec-WebSocket-Extensions header is malformed",
            Self::Unrequested => "the server chose an extension that was not offered",
            Self::Parameters => "the server answered permessage-deflate with invalid parameters",
        })
    }
}

impl std::error::Error for AnswerFault {}
