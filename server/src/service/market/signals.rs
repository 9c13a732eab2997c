//! Signals: one journal in which channels are categories.

use std::sync::Arc;

use uuid::Uuid;

use super::{Market, SignalAccess, checks, update};
use crate::auth::Principal;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{
    JournalEmitter, JournalKind, Journals, Part, Snapshot, Topics, is_withdrawal, published, read,
    room_of, withdrawal, write,
};
use crate::service::rules::commands::signals::{
    PublishSignal, ReadFollowedSignals, ReadSignals, SignalList, SubscribeSignals,
    UnsubscribeSignals,
};
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::emissions::signals::{
    SIGNAL_NEW, SIGNAL_WITHDRAWN, SIGNALS_SUBSCRIBED, SIGNALS_UNSUBSCRIBED, Signal,
    SignalWithdrawn, Signals,
};
use crate::service::rules::rooms::RoomKind;
use crate::store::{Append, Appended, Entry, IfOpen, Time};
use roomcast::{Namespace, Socket};

impl From<Snapshot> for Signals {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            revision: snapshot.revision,
            withdrawn: snapshot.withdrawn(),
            signals: published(&snapshot.entries).filter_map(read).collect(),
            has_more: snapshot.has_more(),
            since_revision: snapshot.since,
            cursor: snapshot.cursor,
        }
    }
}

struct SignalsEmitter;

impl JournalEmitter for SignalsEmitter {
    fn emit(&self, to: &Namespace, _: &str, entries: &[Entry]) {
        for entry in entries {
            // A socket in both rooms receives the signal only once.
            let followers = |channel: Option<&str>| {
                let all = to.local().to(room_of(JOURNAL, None));
                match channel {
                    Some(_) => all.to(room_of(JOURNAL, channel)),
                    None => all,
                }
            };
            if let Some(body) = withdrawal::<SignalWithdrawn>(entry) {
                let (to, revision) = (followers(body.channel_id.as_deref()), entry.revision);
                SIGNAL_WITHDRAWN.emit(to, &Update { body, revision });
            } else if let Some(update) = update::<Signal>(entry) {
                SIGNAL_NEW.emit(followers(update.body.channel_id.as_deref()), &update);
            }
        }
    }
}

/// Returns the kind of signals.
pub(super) fn kind(journals: &Journals, access: SignalAccess) -> JournalKind<Signals> {
    JournalKind {
        journals: journals.clone(),
        prefix: JOURNAL,
        topics: Topics::Categories(access.rule()),
        open: 0,
        newest: NEWEST,
        is_replayed: true,
        emitter: Arc::new(SignalsEmitter),
        subscribed: &SIGNALS_SUBSCRIBED,
        unsubscribed: &SIGNALS_UNSUBSCRIBED,
    }
}

impl Market {
    /// Subscribes a socket to all signals, or to a channel.
    pub(crate) async fn subscribe_signals(
        &self,
        allowed: Allowed<SubscribeSignals>,
        socket: &Socket,
    ) -> Result<Subscribed<Signals>, ServiceError> {
        let (by, command) = allowed.into_parts();
        let SubscribeSignals {
            channel_id,
            since_revision,
        } = command;
        let (channel, signals) = (channel_id.as_deref(), &self.0.signals);
        check_channel(channel)?;
        self.check_follows(&by, channel)?;
        // A repeated subscription does not count against the limit.
        if !socket.is_in(signals.room_of(channel).as_str())
            && signals.rooms(socket).len() >= self.0.config.channels
        {
            return Err(ServiceError::Conflict("subscribed to too many channels"));
        }
        let subscribed = signals.subscribe(channel, since_revision, socket).await?;
        // The credentials can have been replaced while the snapshot was read.
        self.check_follows(&socket.principal(), channel)
            .inspect_err(|_| {
                signals.unsubscribe(channel, socket);
            })?;
        Ok(subscribed)
    }

    /// Checks that a user may follow a channel, or all signals.
    fn check_follows(&self, by: &Principal, channel: Option<&str>) -> Result<(), ServiceError> {
        if self.0.signals.allows(by, channel) {
            return Ok(());
        }
        Err(ServiceError::Denied("may not follow these signals"))
    }

    /// Ends the subscription of a socket to signals.
    pub(crate) fn unsubscribe_signals(
        &self,
        allowed: Allowed<UnsubscribeSignals>,
        socket: &Socket,
    ) -> Result<Unsubscribed, ServiceError> {
        let (_, UnsubscribeSignals { channel_id }) = allowed.into_parts();
        check_channel(channel_id.as_deref())?;
        Ok(self.0.signals.unsubscribe(channel_id.as_deref(), socket))
    }

    /// Returns a page of all signals or of a channel, for services.
    pub(crate) async fn signals(
        &self,
        allowed: Allowed<ReadSignals>,
    ) -> Result<SignalList, ServiceError> {
        let (_, request) = allowed.into_parts();
        self.list_signals(request).await
    }

    /// Returns a page of signals that the sender may follow.
    pub(crate) async fn followed_signals(
        &self,
        allowed: Allowed<ReadFollowedSignals>,
    ) -> Result<SignalList, ServiceError> {
        let (by, request) = allowed.into_parts();
        self.check_follows(&by, request.channel_id.as_deref())?;
        let request = ReadSignals {
            channel_id: request.channel_id,
            cursor: request.cursor,
            limit: request.limit,
            since_revision: request.since_revision,
        };
        self.list_signals(request).await
    }

    async fn list_signals(&self, request: ReadSignals) -> Result<SignalList, ServiceError> {
        let (channel, signals) = (request.channel_id.as_deref(), &self.0.signals);
        check_channel(channel)?;
        let bounds = (request.cursor.as_deref(), request.limit);
        let since = request.since_revision;
        let page = signals.page(channel, Part::All, bounds, since).await?;
        Ok(SignalList {
            revision: page.revision,
            withdrawn: page.withdrawn(),
            signals: published(&page.entries).filter_map(update).collect(),
            has_more: page.has_more(),
            cursor: page.cursor,
            since_revision: page.since,
        })
    }

    /// Publishes a signal to the followers of all signals and of its channel.
    pub(crate) async fn publish_signal(
        &self,
        allowed: Allowed<PublishSignal>,
        namespace: &Namespace,
    ) -> Result<Signal, ServiceError> {
        let (_, new) = allowed.into_parts();
        let has_time = new.timestamp.is_some();
        let signal = checked(new)?;
        let append = Append {
            category: signal.channel_id.clone(),
            if_open: IfOpen::Refuse,
            ..Append::new(JOURNAL.into(), signal.signal_id.clone(), write(&signal))
        };
        let known = match self.0.journals.append(namespace, append).await? {
            Appended::Stored(Entry { revision, .. }) => {
                let journals = &self.0.journals;
                journals.hook(&SIGNAL_NEW, || Update {
                    body: signal.clone(),
                    revision,
                });
                return Ok(signal);
            }
            Appended::There(entry) if is_withdrawal(&entry) => return Err(ServiceError::WITHDRAWN),
            Appended::There(entry) => read::<Signal>(&entry),
            Appended::Absent | Appended::Full => None,
        };
        let timestamp = known.as_ref().map(|known| known.timestamp);
        let timestamp = timestamp.filter(|_| !has_time).unwrap_or(signal.timestamp);
        let same = Signal {
            timestamp,
            ..signal
        };
        known
            .filter(|known| *known == same)
            // A repeated request gets the first response. A different signal under the same id is
            // an error.
            .ok_or(ServiceError::Conflict("another signal has this id"))
    }
}

/// Checks the name of a channel.
fn check_channel(channel: Option<&str>) -> Result<(), ServiceError> {
    channel.map_or(Ok(()), |channel| checks::name("channelId", channel))
}

/// Checks a signal, and adds an id and a time if they are missing.
pub(super) fn checked(new: PublishSignal) -> Result<Signal, ServiceError> {
    for (field, value) in [
        ("signalId", new.signal_id.as_deref()),
        ("channelId", new.channel_id.as_deref()),
        ("providerId", Some(&*new.provider_id)),
        ("providerName", Some(&*new.provider_name)),
    ] {
        value.map_or(Ok(()), |value| checks::name(field, value))?;
    }
    checks::symbol("symbol", &new.symbol)?;
    for (field, price) in [
        ("entryPrice", new.entry_price),
        ("stopLoss", new.stop_loss),
        ("takeProfit", new.take_profit),
    ] {
        price.map_or(Ok(()), |price| checks::above_zero(field, price))?;
    }
    checks::percent("confidence", new.confidence)?;
    let new_id = || Uuid::now_v7().to_string();
    Ok(Signal {
        signal_id: new.signal_id.unwrap_or_else(new_id),
        channel_id: new.channel_id,
        provider_id: new.provider_id,
        provider_name: new.provider_name,
        symbol: new.symbol,
        action: new.action,
        entry_price: new.entry_price,
        stop_loss: new.stop_loss,
        take_profit: new.take_profit,
        confidence: new.confidence,
        timestamp: new.timestamp.unwrap_or_else(Time::now),
    })
}

/// The journal of signals, and the name of the room of all signals.
pub(super) const JOURNAL: &str = RoomKind::Signals.prefix();
/// Maximum number of recent signals in a snapshot.
const NEWEST: usize = 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use roomcast::options::Recovery;
    use roomcast::{Ack, Event, Io, Room, State, testing};
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::Principal;
    use crate::config;
    use crate::service::hooks::Hooks;
    use crate::service::journals::SubscriptionKind as _;
    use crate::service::notifications::Notifications;
    use crate::service::rules::rooms::Followed;
    use crate::store::Store;

    async fn market() -> Market {
        let store = Store::in_memory().await;
        let window = Duration::from_secs(60);
        let journals = Journals::new(store, Hooks::default(), Some(window), window);
        let notifications = Notifications::new(journals.clone(), &config::Notifications::default());
        let (access, config) = (SignalAccess::default(), config::Market::default());
        Market::new(journals, notifications, access, &config).unwrap()
    }

    /// Stores and emits a signal.
    async fn publish(market: &Market, io: &Io, id: &str, channel: &str) {
        let signal = json!({
            "signalId": id, "channelId": channel, "providerId": "p", "providerName": "p", "symbol": "A",
            "action": "buy", "entryPrice": null, "stopLoss": null, "takeProfit": null, "confidence": 1.0,
            "timestamp": Time::now(),
        });
        let append = Append {
            category: Some(channel.into()),
            if_open: IfOpen::Refuse,
            ..Append::new(JOURNAL.into(), id.into(), signal.to_string())
        };
        let appended = market.0.journals.append(&io.of("/"), append).await;
        assert!(matches!(appended, Ok(Appended::Stored(_))), "{appended:?}");
    }

    /// Serves clients that follow channels with `follow`, join their rooms with `join`, and can be
    /// recovered.
    async fn serve(market: &Market) -> testing::TestServer {
        let io = Io::builder()
            .recovery(Recovery::default())
            .state(market.clone())
            .namespace("/", |namespace| {
                namespace
                    .on_connect(async |event: Event, market: State<Market>| {
                        if event.socket.recovered() {
                            market.0.signals.recovered(&event.socket).await;
                        }
                    })
                    .on(
                        "follow",
                        async |event: Event, market: State<Market>, channel: Option<String>| {
                            let signals = &market.0.signals;
                            let channel = channel.as_deref();
                            let followed = signals.subscribe(channel, None, &event.socket).await;
                            Ack(followed.is_ok())
                        },
                    )
                    .on("join", async |event: Event, channel: String| {
                        Ack(event.socket.join(room_of(JOURNAL, Some(&channel))).is_ok())
                    })
            });
        testing::serve(io).await
    }

    fn ids(subscribed: &Value) -> Vec<&str> {
        let signals = subscribed["snapshot"]["signals"].as_array().unwrap().iter();
        signals
            .map(|one| one["signalId"].as_str().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn recovered_socket_gets_snapshots_of_unfollowed_channels() {
        let long = "ü".repeat(128);
        let all = [None, Some("gold"), Some(&*long)];
        for followed in all {
            let market = market().await;
            let server = serve(&market).await;
            let mut ann = server.client().connect().await.unwrap();
            assert!(ann.emit_with_ack::<bool>("follow", followed).await.unwrap());
            let received: Value = ann.event("signals:subscribed").await.unwrap();
            assert!(ids(&received).is_empty());
            // Signals stored from here on are not emitted, because the journal is no longer
            // followed.
            market.0.journals.forget();
            publish(&market, server.io(), "s1", &long).await;
            publish(&market, server.io(), "s2", "gold").await;
            publish(&market, server.io(), "s3", &long).await;
            let mut ann = ann.reconnect().await.unwrap();
            let received: Value = ann.event("signals:subscribed").await.unwrap();
            let expected: &[&str] = match followed {
                None => &["s1", "s2", "s3"],
                Some("gold") => &["s2"],
                Some(_) => &["s1", "s3"],
            };
            assert_eq!(ids(&received), expected, "{followed:?}");
            assert_eq!(received["room"], room_of(JOURNAL, followed).as_str());
            // Updates continue, and another recovery works as well.
            publish(&market, server.io(), "s4", followed.unwrap_or("gold")).await;
            let received: Value = ann.event("signal:new").await.unwrap();
            assert_eq!(received["signalId"], "s4");
            market.0.journals.forget();
            let mut ann = ann.reconnect().await.unwrap();
            let received: Value = ann.event("signals:subscribed").await.unwrap();
            assert_eq!(ids(&received), [expected, &["s4"]].concat(), "{followed:?}");
        }
    }

    #[tokio::test]
    async fn a_channel_with_a_long_name_is_handed_over_by_its_name() {
        let long = "ü".repeat(128);
        let market = market().await;
        let server = serve(&market).await;
        let ann = server.client().connect().await.unwrap();
        let followed = |channel: Option<&str>| {
            let socket = server.io().of("/").socket(ann.id()).unwrap();
            let room = room_of(JOURNAL, channel);
            market
                .0
                .signals
                .followed(&room, &socket, &socket.principal())
        };
        let signals = long.clone();
        for (channel, expected) in [
            (None, Followed::Room("signals".into())),
            (Some("gold"), Followed::Room("signals:gold".into())),
            (Some(&*long), Followed::Channel { signals }),
        ] {
            assert!(ann.emit_with_ack::<bool>("follow", channel).await.unwrap());
            assert!(market.0.signals.follows(&expected, &Principal::new("ann")));
            assert_eq!(followed(channel), Some(expected));
        }
        let socket = server.io().of("/").socket(ann.id()).unwrap();
        market.0.signals.unsubscribe(Some(&long), &socket);
        assert_eq!(followed(Some(&long)), None);
        let (signals, by) = (&market.0.signals, socket.principal());
        let other = signals.followed(&Room::from("signalsx"), &socket, &by);
        assert_eq!(other, None);
        for signals in [String::new(), "ü".repeat(129)] {
            let followed = Followed::Channel { signals };
            assert!(!market.0.signals.follows(&followed, &Principal::new("ann")));
        }
    }

    #[tokio::test]
    async fn recovered_socket_in_an_unknown_channel_is_unsubscribed() {
        let long = "ü".repeat(128);
        let market = market().await;
        let server = serve(&market).await;
        let mut ann = server.client().connect().await.unwrap();
        assert!(ann.emit_with_ack::<bool>("follow", "gold").await.unwrap());
        ann.event::<Value>("signals:subscribed").await.unwrap();
        assert!(ann.emit_with_ack::<bool>("join", &long).await.unwrap());
        let mut ann = ann.reconnect().await.unwrap();
        let received: Value = ann.event("signals:unsubscribed").await.unwrap();
        let room = room_of(JOURNAL, Some(&long));
        assert_eq!(received["room"], room.as_str());
        assert_eq!(server.io().to(&room).count(), 0);
        assert_eq!(server.io().to("signals:gold").count(), 1);
    }
}
