//! Channels: events of an application, whose kinds the configuration declares.
//!
//! A channel is a journal with the events that were published to it. `kinds` has the declared
//! kinds, and `rights` decides who may follow and publish. `following` and `publishing` do what
//! clients and services request, `history` has what is stored, and `continuing` checks the followed
//! channels of a socket again.
//!
//! This module must not know what the events mean.

mod continuing;
mod emitting;
mod ending;
mod following;
mod history;
mod hooking;
mod kinds;
mod peers;
mod position;
mod presence;
mod publishing;
mod rights;
mod subscribers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::auth::authenticator::Authenticator;
use crate::auth::{Principal, is_hidden};
use crate::config::{self, ChannelKind};
use crate::metrics::{Inventoried, Inventory, Metrics};
use crate::service::authorization::Access;
use crate::service::cluster::Announcer;
use crate::service::fault::ServiceError;
use crate::service::hooks::Hooks;
use crate::service::journals::{Journals, write};
use crate::service::rules::bounds::CHANNEL_CHARS;
use crate::service::rules::rooms::RoomKind;
use crate::store::{JournalSize, StoreError};
use continuing::{FollowedChannels, end_at};
use emitting::is_room;
use ending::leave_disconnected;
pub(crate) use ending::{delete_channel, delete_event, revoke_channel};
use history::{Trimming, Usage};
pub(in crate::service) use kinds::Pattern;
use kinds::{Kind, Values};
pub(crate) use kinds::{KindFault, Kinds, schemas_of, undeclared_roles};
use peers::Handled;
pub(crate) use peers::{ChannelEnds, answer_channel_peers};
use position::Positions;
use presence::Lists;
pub(crate) use presence::read_presence;
pub(crate) use rights::Asker;
use rights::{Grant, TokenGrant, claim, refused};
pub(in crate::service) use rights::{Rule, Rules};
use roomcast::{Io, Namespace, Room};
pub(crate) use subscribers::{subscribe_user, unsubscribe_user};

/// The channels of declared kinds. Clones share their state.
#[derive(Clone)]
pub(crate) struct Channels(Arc<ChannelsInner>);

struct ChannelsInner {
    /// A reload of the configuration replaces them.
    kinds: RwLock<Kinds>,
    /// The claims of tokens that rules of signals read.
    signal_claims: Vec<String>,
    journals: Journals,
    hooks: Hooks,
    metrics: Arc<Metrics>,
    access: Access,
    /// Verifies tokens for channels.
    authenticator: Authenticator,
    /// Asks the backend, if one is configured.
    asker: Option<Asker>,
    /// Those of channels, which need a restart. A reload replaces others, which are not read here.
    limits: config::Limits,
    usage: Usage,
    trimming: Mutex<Trimming>,
    /// The lists of followers that were requested a moment ago.
    lists: Mutex<Lists>,
    /// The requests of other servers that arrive twice.
    handled: Mutex<Handled>,
    /// The number of recovered sockets.
    recoveries: AtomicU64,
    /// One permit: measurements of histories, which may read many events, follow each other.
    measuring: Semaphore,
    /// Sends requests to other servers. `None` without an adapter.
    announcer: Option<Announcer>,
    /// Identifies the database in positions.
    epoch: String,
}

impl Channels {
    /// Creates the channels. The authenticator then retains the claims that rules read:
    /// `signal_claims` and those of the kinds.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub(crate) async fn open(
        kinds: Kinds,
        signal_claims: Vec<String>,
        (journals, hooks, metrics): (Journals, Hooks, Arc<Metrics>),
        (access, authenticator, asker): (Access, Authenticator, Option<Asker>),
        (limits, announcer): (&config::Limits, Option<Announcer>),
    ) -> Result<Self, StoreError> {
        let epoch = journals.store().epoch().await?;
        authenticator.retain_claims([&*signal_claims, &*kinds.claims()].concat());
        Ok(Self(Arc::new(ChannelsInner {
            kinds: RwLock::new(kinds),
            signal_claims,
            journals,
            hooks,
            metrics,
            access,
            authenticator,
            asker,
            limits: limits.clone(),
            usage: Usage::default(),
            trimming: Mutex::default(),
            lists: Mutex::default(),
            handled: Mutex::default(),
            recoveries: AtomicU64::new(0),
            measuring: Semaphore::new(1),
            announcer,
            epoch,
        })))
    }

    /// Returns the kind of a channel that a user may use as `allows` says, by a rule, by the token
    /// of the request, or by an answer of the backend.
    ///
    /// # Errors
    ///
    /// A channel that does not exist and one that is not for the user have the same error.
    async fn admit(
        &self,
        channel: &str,
        by: &Principal,
        token: Option<&str>,
        allows: impl Fn(&Kind, &Principal, &Values<'_>, Option<&Grant>) -> bool,
    ) -> Result<(Arc<Kind>, Option<Grant>), ServiceError> {
        // The token is checked before the channel, so that the error does not depend on whether the
        // channel exists.
        let grant = self.grant(token, by, channel).await?;
        self.admit_with(channel, by, grant, allows).await
    }

    /// Returns the kind of a channel like [`admit`](Self::admit), for a user with this grant.
    async fn admit_with(
        &self,
        channel: &str,
        by: &Principal,
        grant: Option<Grant>,
        allows: impl Fn(&Kind, &Principal, &Values<'_>, Option<&Grant>) -> bool,
    ) -> Result<(Arc<Kind>, Option<Grant>), ServiceError> {
        let (kind, values) = self.find(channel).ok_or(NO_CHANNEL)?;
        if allows(&kind, by, &values, grant.as_ref()) {
            return Ok((kind, grant));
        }
        let asker = self.0.asker.as_ref().filter(|_| kind.asks());
        let asker = asker.ok_or(NO_CHANNEL)?;
        let answered = asker.ask(kind.question(channel, &values, by)).await?;
        let grant = Some(Grant::Answer(answered));
        // The kinds may have been replaced meanwhile.
        let (kind, values) = self.find(channel).ok_or(NO_CHANNEL)?;
        if allows(&kind, by, &values, grant.as_ref()) {
            return Ok((kind, grant));
        }
        Err(grant.as_ref().map_or(NO_CHANNEL, Grant::lost))
    }

    /// Checks that a user may follow a channel, perhaps by this grant.
    fn check_follows(
        &self,
        channel: &str,
        by: &Principal,
        grant: Option<&Grant>,
    ) -> Result<(), ServiceError> {
        match self.find(channel) {
            Some((kind, values)) if kind.may_follow(by, &values, grant) => Ok(()),
            Some(_) | None => Err(grant.map_or(NO_CHANNEL, Grant::lost)),
        }
    }

    /// Returns what the token of a request allows in a channel.
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
        let grant = TokenGrant::new(verified, by, channel, revocations)?;
        Ok(Some(Grant::Token(grant)))
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
    /// The first fault.
    pub(crate) fn prepare(
        &self,
        declared: &BTreeMap<String, ChannelKind>,
    ) -> Result<Kinds, KindFault> {
        let kinds = Kinds::new(declared)?;
        kinds.check_served(self.0.asker.is_some(), self.0.hooks.is_configured())?;
        Ok(kinds)
    }

    /// Replaces the kinds. Followers that lost the right, or whose kind was removed, are told why
    /// and leave.
    pub(crate) fn replace_kinds(&self, kinds: Kinds, namespace: &Namespace) {
        let claims = [&*self.0.signal_claims, &*kinds.claims()].concat();
        self.0.authenticator.retain_claims(claims);
        *self.0.kinds.write() = kinds;
        end_at(namespace, |socket, room, known| {
            self.end_reason(socket, room, known)
        });
        // Disconnected but recoverable followers must receive nothing that they may no longer. When
        // they are recovered, they subscribe again.
        let rooms = namespace.rooms().into_iter().map(|(room, _)| room);
        for room in rooms.chain(self.0.journals.rooms()).filter(is_room) {
            leave_disconnected(namespace, room);
        }
    }

    /// Replaces the secrets that sign requests to the backend.
    pub(crate) fn replace_secrets(&self, config: &config::Ask) {
        if let Some(asker) = &self.0.asker {
            asker.replace_secrets(config);
        }
    }

    /// Returns the rooms of channels with followers at this server, and the number of these.
    pub(in crate::service) fn local_rooms(io: &Io) -> Vec<(Room, usize)> {
        let mut rooms = io.of("/").rooms();
        rooms.retain(|(room, _)| is_room(room));
        rooms
    }

    /// Returns the name of the channel that has a room. That of a long name has only its hash, but
    /// the followers at this server have the name.
    pub(in crate::service) fn name_at(io: &Io, room: &Room) -> Option<String> {
        let name = room.as_str().strip_prefix(RoomKind::Declared.prefix())?;
        if let Some(name) = name.strip_prefix(':') {
            return Some(name.to_owned());
        }
        let followers = io.of("/").local().to(room.clone()).sockets();
        followers
            .iter()
            .find_map(|socket| FollowedChannels::known(socket, room, |known| known.channel.clone()))
    }

    /// Returns the name of a channel's kind, and whether its events are stored.
    pub(in crate::service) fn kind_of(&self, channel: &str) -> Option<(String, bool)> {
        let (kind, _) = self.find(channel)?;
        Some((kind.name.clone(), kind.is_stored))
    }

    /// Measures the stored events of channels by their rooms, among the `newest` of each.
    pub(in crate::service) async fn journal_sizes(
        &self,
        rooms: Vec<String>,
        newest: usize,
    ) -> Result<Vec<JournalSize>, StoreError> {
        let _permit = self.0.measuring.acquire().await;
        let store = self.0.journals.store();
        store.journal_sizes(rooms, newest).await
    }

    fn positions(&self, channel: &str) -> Positions {
        Positions::of(&self.0.epoch, channel)
    }
}

impl Inventoried for Channels {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("channels with old events", &self.0.trimming.lock());
        inventory.map("lists of followers", &self.0.lists.lock());
        self.0.usage.report(inventory);
        inventory.size(
            "handled requests about channels",
            self.0.handled.lock().size(),
        );
        if let Some(asker) = &self.0.asker {
            asker.report(inventory);
        }
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
pub(in crate::service) const NO_CHANNEL: ServiceError = ServiceError::NotFound("no such channel");
