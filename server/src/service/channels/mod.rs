//! Channels: events of an application, whose kinds the configuration declares.
//!
//! A channel is a journal with the events that were published to it. `kinds` has the declared
//! kinds, `pattern` matches names, `rights` decides who may follow and publish, and `schema` checks
//! data. `following` and `publishing` do what clients and services request, `reading` reads pages,
//! and `continuing` checks the followed channels of a socket again.
//!
//! This module must not know what the events mean.

mod continuing;
mod deleting;
mod emitting;
mod following;
mod grants;
mod kinds;
mod pattern;
mod position;
mod publishing;
mod reading;
mod rights;
#[cfg(feature = "schemas")]
mod schema;
#[cfg(not(feature = "schemas"))]
#[path = "schema/no_schema.rs"]
mod schema;
mod trimming;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::auth::authenticator::Authenticator;
use crate::auth::{Principal, is_hidden};
use crate::config::ChannelKind;
use crate::metrics::{Inventoried, Inventory, Metrics};
use crate::service::authorization::Access;
use crate::service::fault::ServiceError;
use crate::service::journals::{Journals, write};
use crate::service::rules::bounds::CHANNEL_CHARS;
use crate::store::StoreError;
use emitting::is_room;
use grants::{Grant, refused};
use kinds::Kind;
pub(crate) use kinds::{KindFault, Kinds, schemas_of};
use pattern::Values;
use position::Positions;
use rights::claim;
use roomcast::{Namespace, Room};
use trimming::Trimming;

/// The channels of declared kinds. Clones share their state.
#[derive(Clone)]
pub(crate) struct Channels(Arc<ChannelsInner>);

struct ChannelsInner {
    /// A reload of the configuration replaces them.
    kinds: RwLock<Kinds>,
    /// The claims that the server retains of each token.
    claims: Vec<String>,
    journals: Journals,
    metrics: Arc<Metrics>,
    access: Access,
    /// Verifies tokens for channels.
    authenticator: Authenticator,
    /// The maximum number of channels that a socket may follow.
    per_socket: usize,
    trimming: Mutex<Trimming>,
    /// Identifies the database in positions.
    epoch: String,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").finish_non_exhaustive()
    }
}

impl Channels {
    /// Creates the channels. A socket may follow `per_socket` of them. `claims` are those that the
    /// server retains of each token.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub(crate) async fn open(
        kinds: Kinds,
        claims: Vec<String>,
        (journals, metrics): (Journals, Arc<Metrics>),
        (access, authenticator): (Access, Authenticator),
        per_socket: usize,
    ) -> Result<Self, StoreError> {
        let epoch = journals.store().epoch().await?;
        Ok(Self(Arc::new(ChannelsInner {
            kinds: RwLock::new(kinds),
            claims,
            journals,
            metrics,
            access,
            authenticator,
            per_socket,
            trimming: Mutex::default(),
            epoch,
        })))
    }

    /// Checks that a user may follow a channel. Returns its kind.
    ///
    /// # Errors
    ///
    /// A channel that does not exist and one that the user may not follow have the same error.
    fn check_follows(
        &self,
        channel: &str,
        by: &Principal,
        grant: Option<&Grant>,
    ) -> Result<Arc<Kind>, ServiceError> {
        match self.find(channel) {
            Some((kind, values)) if kind.may_follow(by, &values, grant) => Ok(kind),
            Some(_) | None => Err(NO_CHANNEL),
        }
    }

    /// Returns what the token of a request allows in a channel. It is checked before the channel,
    /// so that the error does not depend on whether the channel exists.
    async fn grant(
        &self,
        token: Option<&str>,
        by: &Principal,
        channel: &str,
    ) -> Result<Option<Grant>, ServiceError> {
        let Some(token) = token else {
            return Ok(None);
        };
        let verified = self.0.authenticator.channel_token(token).await;
        let verified = verified.map_err(refused)?;
        let revocations = self.0.authenticator.revocations();
        Grant::new(verified, by, channel, revocations).map(Some)
    }

    /// Returns whether a user may send an event about a channel, and the rule that decides.
    pub(crate) fn explain(
        &self,
        by: &Principal,
        event: &str,
        channel: &str,
        is_service: bool,
    ) -> (bool, String) {
        let kinds = self.0.kinds.read();
        kinds.explain(by, event, channel, is_service)
    }

    /// Returns the claims of a user that rules read, as JSON. `None` if there are none.
    pub(crate) fn claims_of(&self, by: &Principal) -> Option<String> {
        let names = self.0.kinds.read().claims();
        let claims = names.into_iter().filter_map(|name| {
            let value = claim(by, &name)?;
            Some((name, value))
        });
        let claims: BTreeMap<String, Value> = claims.collect();
        (!claims.is_empty()).then(|| write(&claims))
    }

    /// Returns the kind of a channel, with the parts of its name.
    fn find<'a>(&self, channel: &'a str) -> Option<(Arc<Kind>, Values<'a>)> {
        self.0.kinds.read().find(channel)
    }

    /// Checks the kinds of a configuration that was read again.
    ///
    /// # Errors
    ///
    /// The first fault, or the first claim of tokens that this server does not retain.
    pub(crate) fn prepare(
        &self,
        declared: &BTreeMap<String, ChannelKind>,
    ) -> Result<Kinds, KindFault> {
        let kinds = Kinds::new(declared)?;
        kinds.check_claims(&self.0.claims)?;
        Ok(kinds)
    }

    /// Replaces the kinds. Followers that lost the right, or whose kind was removed, are told why
    /// and leave.
    pub(crate) fn replace_kinds(&self, kinds: Kinds, namespace: &Namespace) {
        *self.0.kinds.write() = kinds;
        for socket in namespace.local().sockets() {
            self.recheck_permissions(&socket);
        }
        // Disconnected but recoverable followers must receive nothing that they may no longer. When
        // they are recovered, they subscribe again.
        for room in self.0.journals.rooms().into_iter().filter(is_room) {
            let followers = namespace.local().to(room.clone());
            let connected = followers.sockets().into_iter();
            let connected: Vec<Room> = connected.map(|one| Room::from(one.id().as_str())).collect();
            followers.except(connected).leave(room);
        }
    }

    fn positions(&self, channel: &str) -> Positions {
        Positions::of(&self.0.epoch, channel)
    }
}

impl Inventoried for Channels {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("channels with old events", &self.0.trimming.lock().journals);
    }
}

/// Checks the characters of a channel's name.
fn check_name(channel: &str) -> Result<(), ServiceError> {
    let is_long = channel.chars().nth(CHANNEL_CHARS).is_some();
    if channel.is_empty() || is_long || channel.chars().any(is_hidden) {
        let problem =
            format!("must have 1 to {CHANNEL_CHARS} characters, none of them control or invisible");
        return Err(ServiceError::invalid("channel", problem));
    }
    Ok(())
}

/// The error for a channel that does not exist or is not for the user.
const NO_CHANNEL: ServiceError = ServiceError::NotFound("no such channel");
