//! The subscriptions of a socket: which of them continue after its connection or its credentials
//! were replaced.

use super::Market;
use crate::auth::Principal;
use crate::service::channels::Channels;
use crate::service::fault::ServiceError;
use crate::service::journals::SubscriptionKind;
use crate::service::rules::rooms::Followed;
use roomcast::{Room, Socket};

/// All kinds of subscriptions. Clones share the same state.
#[derive(Clone)]
pub(crate) struct Subscriptions {
    pub(crate) market: Market,
    pub(crate) channels: Channels,
}

impl Subscriptions {
    /// Returns the kinds in the order in which they continue.
    fn kinds(&self) -> [&dyn SubscriptionKind; 6] {
        let market = &self.market.0;
        [
            &market.trades,
            &market.portfolio,
            &market.signals,
            &market.prices,
            market.notifications.kind(),
            &self.channels,
        ]
    }

    /// Continues the subscriptions of a recovered socket.
    pub(crate) async fn recovered(&self, socket: &Socket) {
        for kind in self.kinds() {
            kind.recovered(socket).await;
        }
    }

    /// Returns the subscription of a socket for a room, or `None` if the room is of no kind or its
    /// topic is unknown.
    pub(crate) fn followed(&self, room: &Room, socket: &Socket) -> Option<Followed> {
        let (kinds, by) = (self.kinds(), socket.principal());
        kinds
            .iter()
            .find_map(|kind| kind.followed(room, socket, &by))
    }

    /// Returns whether a user's socket may continue a subscription from another server.
    pub(crate) fn follows(&self, followed: &Followed, by: &Principal) -> bool {
        self.kinds().iter().any(|kind| kind.follows(followed, by))
    }

    /// Ends subscriptions that the user may no longer have, after the credentials of the socket
    /// were replaced.
    pub(crate) fn recheck_permissions(&self, socket: &Socket) {
        self.kinds().iter().for_each(|kind| kind.recheck(socket));
    }

    /// Restores the subscriptions of a client that moved here from another server.
    ///
    /// # Errors
    ///
    /// If the journals cannot be read, or the socket is in too many rooms.
    pub(crate) async fn arrive(
        &self,
        socket: &Socket,
        followed: &[Followed],
    ) -> Result<(), ServiceError> {
        for kind in self.kinds() {
            kind.arrive(socket, followed).await?;
        }
        Ok(())
    }
}
