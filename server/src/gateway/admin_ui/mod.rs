//! The namespace for the admin UI of the authors of Socket.IO (`@socket.io/admin-ui`).
//!
//! Its protocol belongs to the UI, so its events have no rows in the catalogue. The acts of
//! operators are services, with their permissions and records.

mod feed;
mod password;
mod sessions;
mod statistics;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{json, value::to_raw_value};
use tokio::time::{MissedTickBehavior, interval};

use self::feed::Feed;
pub(crate) use self::password::{HashFault, check_hash};
use self::password::{Login, LoginFault};
use self::sessions::Sessions;
use self::statistics::{Counts, ServerStatistics};
use super::limits;
use crate::auth::Principal;
use crate::config::{self, AdminUiMode, Profile, Secret};
use crate::limit::{Class, Users};
use crate::metrics::{Inventoried, Inventory};
use crate::service::ServiceError;
use crate::service::api::{Admin, Emit, RoomChange, UiAct, UiDisconnect};
use roomcast::{
    Args, Authenticate, Builder, Connect, Event, Io, Namespace, NamespaceBuilder, NoAck, Refusal,
    Socket, handler::ServerSide,
};

/// The namespace of the admin UI. Clones share it.
#[derive(Clone)]
pub(crate) struct AdminUi(Arc<AdminUiInner>);

struct AdminUiInner {
    section: config::AdminUi,
    login: Login,
    sessions: Sessions,
    feed: Arc<Feed>,
    users: Arc<Users>,
    admin: Admin,
}

impl Inventoried for AdminUi {
    fn report(&self, inventory: &mut Inventory) {
        self.0.login.report(inventory);
        self.0.sessions.report(inventory);
    }
}

/// What the UI sends when it connects: a name and a password, or the session of an earlier login.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    session_id: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl AdminUi {
    /// Creates the namespace, or returns `None` if it is disabled.
    pub(crate) fn new(
        section: &config::AdminUi,
        profile: Profile,
        users: Arc<Users>,
        admin: Admin,
    ) -> Option<Self> {
        let hash = section.password_hash.as_ref();
        let hash = hash.filter(|_| section.enabled)?;
        let is_development = section.mode == AdminUiMode::Development;
        let shows_args = is_development && profile == Profile::Development;
        Some(Self(Arc::new(AdminUiInner {
            login: Login::new(&section.username, hash),
            sessions: Sessions::default(),
            feed: Arc::new(Feed::new(&section.namespace, shows_args)),
            section: section.clone(),
            users,
            admin,
        })))
    }

    /// Registers the namespace.
    pub(crate) fn register(&self, io: Builder) -> Builder {
        let feed = Arc::clone(&self.0.feed);
        let io = match self.0.section.mode {
            AdminUiMode::Development => io.on_event(move |event| feed.watch(event)),
            AdminUiMode::Production => io,
        };
        io.namespace(&self.0.section.namespace, |namespace| {
            let (full, entering) = (self.clone(), self.clone());
            let feed = Arc::clone(&self.0.feed);
            let namespace = namespace
                .authenticate(Operators(self.clone()))
                .middleware(move |connect: Connect| std::future::ready(full.admit(&connect)))
                .on_connect(move |event: Event| {
                    let ui = entering.clone();
                    async move { ui.entered(&event.socket).await }
                })
                .on_server_side(WATCHED, move |_: ServerSide| {
                    feed.watched_elsewhere();
                    std::future::ready(NoAck)
                });
            if self.0.section.read_only {
                return namespace;
            }
            ACTS.iter()
                .fold(namespace, |namespace, act| self.on(namespace, act))
        })
    }

    /// Registers an act of operators.
    fn on(&self, namespace: NamespaceBuilder, act: &'static str) -> NamespaceBuilder {
        let ui = self.clone();
        namespace.on(act, move |event: Event| {
            let ui = ui.clone();
            async move {
                let acted = ui.act(act, &event).await;
                if let Err(refusal) = &acted {
                    // The UI shows no refusals.
                    let reason = refusal.reason();
                    roomcast::throttled_log!(info, act, reason, "refused an act in the admin UI");
                }
                acted
            }
        })
    }

    async fn act(&self, act: &str, event: &Event) -> Result<(), Refusal> {
        limits::take(&self.0.users, Class::Changes, event)?;
        let act = parsed(act, event.args())?;
        Ok(self.0.admin.act_in_ui(&event.socket, act).await?)
    }

    fn admit(&self, connect: &Connect) -> Result<(), Refusal> {
        let connected = connect.io().of(connect.namespace()).local().count();
        if connected >= MAX_UIS {
            return Err(Refusal::new("RATE_LIMITED", "too many admin UIs"));
        }
        Ok(())
    }

    /// Replaces the password. If it differs, all sessions of this server end, and its UIs are
    /// disconnected.
    pub(crate) fn replace_password(&self, hash: &Secret, io: &Io) {
        let AdminUiInner {
            login,
            sessions,
            section,
            ..
        } = &*self.0;
        if login.replace(hash, || sessions.clear()) {
            io.of(&section.namespace).local().disconnect();
        }
    }

    /// Notes that a socket of the chat has new credentials, with which its name may have changed.
    pub(crate) fn refreshed(&self, socket: &Socket) {
        if self.0.section.mode == AdminUiMode::Development {
            self.0.feed.changed(socket);
        }
    }

    /// Sends a UI what it shows first.
    async fn entered(&self, socket: &Socket) {
        let by = socket.principal();
        let session = by.data.as_deref().unwrap_or_default();
        // The password may have been replaced since the login.
        if !self.0.sessions.has(session) {
            socket.disconnect();
            return;
        }
        emit(socket, "session", session);
        let section = &self.0.section;
        let mut features = vec!["AGGREGATED_EVENTS"];
        if !section.read_only {
            features.extend(FEATURES);
        }
        let is_development = section.mode == AdminUiMode::Development;
        if is_development {
            features.push("ALL_EVENTS");
        }
        emit(socket, "config", json!({"supportedFeatures": features}));
        let io = socket.io();
        let now = Counts::now(io);
        emit(socket, "server_stats", ServerStatistics::of(io, &now, &now));
        if is_development {
            match self.0.admin.sockets_for_ui(&by).await {
                Ok(sockets) => emit(socket, "all_sockets", (sockets,)),
                Err(error) => tracing::info!(%error, "the admin UI receives no sockets"),
            }
        }
    }

    /// Sends the figures of this server to the UIs of all servers, for as long as it is polled.
    pub(crate) async fn run(self, io: Io) {
        let namespace = io.of(&self.0.section.namespace);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Counts::now(&io);
        loop {
            ticks.tick().await;
            if self.0.feed.is_watched_here(&io)
                && let Err(error) = namespace.server_side_emit(WATCHED, ())
            {
                tracing::debug!(%error, "could not notify other servers of an admin UI");
            }
            let now = Counts::now(&io);
            if self.0.feed.is_watched(&io) {
                let statistics = ServerStatistics::of(&io, &before, &now);
                emit(&namespace, "server_stats", statistics);
            }
            before = now;
        }
    }
}

/// Admits operators with the name and the password of the configuration.
struct Operators(AdminUi);

impl Authenticate for Operators {
    async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
        let AdminUiInner {
            section,
            login,
            sessions,
            admin,
            ..
        } = &*self.0.0;
        let offer: Offer = connect.auth().map_err(|_| wrong("no credentials"))?;
        let mut principal = Principal::new(format!("admin-ui:{}", section.username));
        principal.roles = vec![section.role.clone()];
        let known = offer.session_id.filter(|id| sessions.has(id));
        let session = if let Some(id) = known {
            id
        } else {
            let (Some(username), Some(password)) = (offer.username, offer.password) else {
                return Err(wrong("no name and password, or an unknown session"));
            };
            let address = connect.handshake().address().ip();
            let create = || sessions.create();
            let checked = login.check(address, &username, password, create).await;
            let created = checked.map_err(|fault| match fault {
                LoginFault::Wrong => wrong("wrong name or password of the admin UI"),
                LoginFault::TooMany => {
                    let message = "too many attempts, try again in a minute";
                    Refusal::new("RATE_LIMITED", message)
                }
            })?;
            created.ok_or_else(|| wrong("no randomness for a session"))?
        };
        principal.data = Some(session.into());
        let principal = Arc::new(principal);
        admin.may_enter(&principal)?;
        self.revalidate(&principal)?;
        Ok(Arc::unwrap_or_clone(principal))
    }

    fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        let checked = self.0.0.admin.recheck(principal);
        checked.map_err(|_| wrong("the operator or its role is revoked"))
    }
}

/// Returns the refusal whose message the UI recognizes.
fn wrong(reason: &'static str) -> Refusal {
    Refusal::new("UNAUTHENTICATED", "invalid credentials").because(reason)
}

/// Parses an act. Its first argument is a namespace.
fn parsed(act: &str, args: &Args) -> Result<UiAct, Refusal> {
    if args.get::<String>(0)? != "/" {
        let problem = "must be /: sockets of other namespaces are not managed here";
        return Err(invalid("[0]", problem).into());
    }
    if act == "emit" {
        let filter: Option<String> = args.get(1)?;
        let values = (3..args.len()).map(|i| {
            let value: serde_json::Value = args.get(i)?;
            let raw = to_raw_value(&value);
            Ok::<_, Refusal>(raw.map_err(|_| invalid(format!("[{i}]"), "is not JSON"))?)
        });
        return Ok(UiAct::Emit(Emit {
            event: args.get(2)?,
            args: values.collect::<Result<_, _>>()?,
            everyone: filter.is_none(),
            rooms: filter.into_iter().collect(),
            ..Emit::default()
        }));
    }
    // The UI always names a room or a socket here. A missing one would mean everybody.
    let whom: Option<String> = args.get(2)?;
    let whom = whom.ok_or_else(|| invalid("[2]", "is missing"));
    Ok(match act {
        "join" => UiAct::Join(RoomChange {
            room: args.get(1)?,
            whom: whom?,
        }),
        "leave" => {
            let room: String = args.get(1)?;
            // To clear a room, the UI names only the room.
            let whom = whom.unwrap_or_else(|_| room.clone());
            UiAct::Leave(RoomChange { room, whom })
        }
        _ => UiAct::Disconnect(UiDisconnect {
            whom: whom?,
            closes: args.get(1)?,
        }),
    })
}

fn invalid(field: impl Into<Cow<'static, str>>, problem: &'static str) -> ServiceError {
    ServiceError::Invalid {
        field: field.into(),
        problem: problem.into(),
    }
}

/// A receiver of events for the UI.
trait Receiver {
    fn receive(&self, event: &str, args: impl Serialize);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the events of the UI have no rows"
)]
impl Receiver for Socket {
    fn receive(&self, event: &str, args: impl Serialize) {
        self.emit(event, args);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the events of the UI have no rows"
)]
impl Receiver for Namespace {
    fn receive(&self, event: &str, args: impl Serialize) {
        self.emit(event, args);
    }
}

/// Sends an event of the UI.
fn emit(to: &impl Receiver, event: &str, args: impl Serialize) {
    to.receive(event, args);
}

/// The acts of operators.
const ACTS: [&str; 4] = ["emit", "join", "leave", "_disconnect"];
/// The features of the UI that need these acts.
const FEATURES: [&str; 7] = [
    "EMIT",
    "JOIN",
    "LEAVE",
    "DISCONNECT",
    "MJOIN",
    "MLEAVE",
    "MDISCONNECT",
];
/// The event between servers that one of them has a UI.
const WATCHED: &str = "roomcast:admin-ui:watched";
/// The interval of `server_stats`. After 10 s without it, the UI shows a server as unhealthy.
const INTERVAL: Duration = Duration::from_secs(2);
/// The maximum number of UIs per server.
const MAX_UIS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use roomcast::Parser;

    fn act(name: &str, args: &'static str) -> Result<UiAct, Refusal> {
        let args = Args::document(Parser::Json, args.into()).unwrap();
        parsed(name, &args.items(0).unwrap())
    }

    #[test]
    fn acts_of_the_ui_are_parsed_and_never_mean_everybody() {
        let UiAct::Emit(emit) = act("emit", r#"["/", null, "news", {"a": 1}]"#).unwrap() else {
            panic!("not an emit")
        };
        assert!(emit.everyone && emit.rooms.is_empty() && emit.args.len() == 1);
        let UiAct::Leave(cleared) = act("leave", r#"["/", "lobby"]"#).unwrap() else {
            panic!("not a leave")
        };
        assert_eq!((&*cleared.room, &*cleared.whom), ("lobby", "lobby"));
        let UiAct::Disconnect(one) = act("_disconnect", r#"["/", true, "id"]"#).unwrap() else {
            panic!("not a disconnect")
        };
        assert!(one.closes && one.whom == "id");
        for (name, args) in [
            ("_disconnect", r#"["/", true]"#),
            ("_disconnect", r#"["/admin", true, "id"]"#),
            ("_disconnect", r#"["/", "yes", "id"]"#),
            ("join", r#"["/", "room"]"#),
            ("emit", r#"["/", 7, "news"]"#),
            ("emit", r#"["/"]"#),
            ("emit", "[]"),
        ] {
            assert!(act(name, args).is_err(), "{name} {args}");
        }
    }
}
