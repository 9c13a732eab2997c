//! Searches for sockets by the beginning of what an operator knows of them.

use super::ListSockets;
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::USER_NAME_CHARS;
use crate::service::rules::content::Beginning;
use roomcast::Socket;

/// The text that a socket is searched by. A socket matches if its id, or its user's
/// id or name, or a word of the name, or its address begins with the text, or if its client's
/// `User-Agent` has a word that begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search(Beginning);

impl Search {
    /// Returns the search of a query, if it has one.
    ///
    /// # Errors
    ///
    /// If the text is empty or too long.
    pub(super) fn of(command: &ListSockets) -> Result<Option<Self>, ServiceError> {
        let Some(text) = &command.search else {
            return Ok(None);
        };
        let text = text.trim();
        if text.is_empty() || text.chars().count() > USER_NAME_CHARS {
            let problem = format!("must have 1 to {USER_NAME_CHARS} characters");
            return Err(ServiceError::invalid("search", problem));
        }
        Ok(Some(Self::new(text)))
    }

    pub(super) fn new(text: &str) -> Self {
        Self(Beginning::new(text))
    }

    pub(super) fn text(&self) -> &str {
        self.0.text()
    }

    /// Returns whether a socket of this server matches, without collecting its details.
    pub(super) fn matches(&self, socket: &Socket) -> bool {
        let principal = socket.principal();
        self.0.begins(socket.id().as_str())
            || self.0.begins(&principal.subject)
            || self.0.begins_a_word(&principal.name)
            || self.0.begins(&super::address_of(socket))
            || self.0.begins_a_word(&super::agent_of(socket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_long_texts_are_refused() {
        let of = |text: &str| {
            Search::of(&ListSockets {
                search: Some(text.into()),
                ..ListSockets::default()
            })
        };
        assert!(of(" ").is_err());
        assert!(of(&"x".repeat(257)).is_err());
        assert_eq!(of(" Ann ").unwrap(), Some(Search::new("ann")));
        assert_eq!(Search::of(&ListSockets::default()).unwrap(), None);
    }
}
