//! The shares of users and addresses in a queue: a source may fill its share, but never the whole
//! queue.

use std::collections::HashMap;

use crate::metrics::Size;
use roomcast::{Socket, network::Network};

/// The cause of an event. Events of one source share a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A user with credentials.
    User(String),
    /// The guests of an address, which can be a new user each time.
    Guests(Network),
    /// All clients together that occupy and vacate rooms.
    Rooms,
    /// A service, which has no limit of its own.
    Service,
}

impl Source {
    /// Returns the source whose share the events of a socket use.
    pub(crate) fn of(socket: &Socket) -> Self {
        let principal = socket.principal();
        if principal.guest {
            Self::Guests(Network::of_client(socket.handshake().address().ip()))
        } else {
            Self::User(principal.subject.clone())
        }
    }
}

/// The amount of each source in a queue. A source without any has no entry.
#[derive(Debug, Default)]
pub(super) struct SourceShares(HashMap<Source, usize>);

impl SourceShares {
    /// Returns the number of sources, with the bytes of the table.
    pub(super) fn size(&self) -> Size {
        Size::of_map(&self.0)
    }

    /// Returns the amount of a source.
    pub(super) fn of(&self, source: &Source) -> usize {
        self.0.get(source).copied().unwrap_or_default()
    }

    /// Increases the amount of a source.
    pub(super) fn add(&mut self, source: &Source, amount: usize) {
        if *source != Source::Service {
            *self.0.entry(source.clone()).or_default() += amount;
        }
    }

    /// Increases the amount of a source by one, unless it has reached `most`. Returns whether it
    /// did.
    pub(super) fn take(&mut self, source: &Source, most: usize) -> bool {
        let may = self.of(source) < most;
        if may {
            self.add(source, 1);
        }
        may
    }

    /// Decreases the amount of a source.
    pub(super) fn remove(&mut self, source: &Source, amount: usize) {
        if let Some(has) = self.0.get_mut(source) {
            *has = has.saturating_sub(amount);
            if *has == 0 {
                self.0.remove(source);
            }
        }
    }

    /// Removes all sources.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_over_its_share_leaves_the_rest_to_others() {
        let mut shares = SourceShares::default();
        let [ann, bob] = ["ann", "bob"].map(|user| Source::User(user.to_owned()));
        assert_eq!((0..10).filter(|_| shares.take(&ann, 3)).count(), 3);
        assert!(shares.take(&bob, 3));
        shares.remove(&ann, 3);
        assert!(shares.take(&ann, 3));
        assert!((0..10).all(|_| shares.take(&Source::Service, 3)));
        shares.clear();
        assert_eq!(shares.of(&ann), 0);
    }
}
