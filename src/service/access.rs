//! Who may do what, and who may not any more.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    ServiceError,
    policy::{self, EventPolicy, RoomRule},
};
use crate::{
    auth::{
        Permission, Principal, Revocations, Revoked, Roles,
        authenticator::{self, UseSession},
        session_hash,
    },
    config,
    metrics::{Gauge, Metrics},
    socket::Io,
    store::{Login, Revocation, Store, StoreError, Time},
};

/// Permissions, sessions and revocations of one server. Cloning gives another handle.
#[derive(Clone, Debug)]
pub(crate) struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    roles: Roles,
    revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
    session_max_ttl_s: u64,
    revocation_ttl_s: u64,
}

/// `POST /api/v1/sessions`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewSession {
    pub(crate) user_id: String,
    #[serde(default = "user")]
    pub(crate) roles: Vec<String>,
    pub(crate) ttl_seconds: u64,
    pub(crate) data: Option<Box<RawValue>>,
}

fn user() -> Vec<String> {
    vec!["user".to_owned()]
}

/// A session that was made: the only time its id is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MadeSession {
    session_id: String,
    expires_at: Time,
}

/// `POST /api/v1/revocations`: exactly one of the four.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewRevocation {
    pub(crate) jti: Option<String>,
    pub(crate) session_id: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) until: Option<String>,
}

/// A revocation that was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MadeRevocation {
    kind: &'static str,
    until: Time,
    /// Sockets that were disconnected by it.
    disconnected: usize,
}

impl Access {
    /// Reads what is revoked from the store.
    pub(crate) async fn open(
        store: Store,
        roles: Roles,
        revocations: Arc<Revocations>,
        metrics: Arc<Metrics>,
        config: &config::Auth,
    ) -> Result<Self, StoreError> {
        for row in store.revocations().await? {
            if let Some(revoked) = Revoked::from_parts(&row.kind, row.value)
                && revocations.insert(&revoked, row.until.into()).is_err()
            {
                tracing::error!("the store has more revocations than there may be");
            }
        }
        let access = Self(Arc::new(Inner {
            store,
            roles,
            revocations,
            metrics,
            session_max_ttl_s: config.session_max_ttl_s,
            revocation_ttl_s: config.revocation_ttl_s,
        }));
        access.gauge();
        Ok(access)
    }

    /// Whether a principal may do what an event does: the first line of every service method.
    pub(crate) fn require(&self, by: &Principal, policy: &EventPolicy) -> Result<(), ServiceError> {
        self.require_permission(by, policy.permission)
    }

    /// The same for what is no event.
    pub(crate) fn require_permission(
        &self,
        by: &Principal,
        permission: Permission,
    ) -> Result<(), ServiceError> {
        if self.0.roles.allow(by, permission) {
            return Ok(());
        }
        tracing::info!(
            user = by.subject,
            permission = permission.as_str(),
            "denied: no role of the user grants it"
        );
        Err(ServiceError::Denied("not allowed"))
    }

    /// Whether a principal may do something, without a word about it.
    pub(crate) fn allows(&self, by: &Principal, permission: Permission) -> bool {
        self.0.roles.allow(by, permission)
    }

    /// Whether a principal may call the HTTP API at all.
    pub(crate) fn may_call(&self, by: &Principal) -> bool {
        let permissions = self.0.roles.permissions(by);
        [
            Permission::ApiSessions,
            Permission::ApiRevocations,
            Permission::ApiBlocks,
            Permission::ApiExplain,
        ]
        .into_iter()
        .any(|permission| permissions.has(permission))
    }

    /// Makes a session, with an id that nobody can guess or choose.
    pub(crate) async fn make_session(
        &self,
        by: &Principal,
        new: NewSession,
    ) -> Result<MadeSession, ServiceError> {
        self.require_permission(by, Permission::ApiSessions)?;
        is_name(&new.user_id, MAX_USER_ID)
            .then_some(())
            .ok_or_else(|| ServiceError::invalid("userId", "must have 1 to 128 characters"))?;
        if new.roles.len() > MAX_ROLES || !new.roles.iter().all(|role| is_name(role, MAX_ROLE)) {
            return Err(ServiceError::invalid(
                "roles",
                "must be up to 32 short texts",
            ));
        }
        let max = self.0.session_max_ttl_s;
        if !(1..=max).contains(&new.ttl_seconds) {
            let problem = format!("must be from 1 to {max}");
            return Err(ServiceError::invalid("ttlSeconds", problem));
        }
        if new
            .data
            .as_ref()
            .is_some_and(|data| data.get().len() > MAX_DATA_BYTES || !data.get().starts_with('{'))
        {
            let problem = "must be an object of at most 4096 bytes";
            return Err(ServiceError::invalid("data", problem));
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the operating system gives random bytes");
        let session_id = URL_SAFE_NO_PAD.encode(random);
        let now = Timestamp::now();
        let expires_at = after(now, new.ttl_seconds).into();
        let login = Login {
            id_hash: session_hash(&session_id),
            user_id: new.user_id,
            roles: new.roles,
            data: new.data.map(|data| data.get().to_owned()),
            ttl_s: new.ttl_seconds,
            created_at: now.into(),
            expires_at,
        };
        tracing::info!(by = by.subject, user = login.user_id, "session made");
        self.0.store.insert_login(login).await?;
        Ok(MadeSession {
            session_id,
            expires_at,
        })
    }

    /// Ends a session, and with it the sockets that came by it.
    pub(crate) async fn end_session(
        &self,
        io: &Io,
        by: &Principal,
        id: &str,
    ) -> Result<(), ServiceError> {
        self.require_permission(by, Permission::ApiSessions)?;
        let hash = session_hash(id);
        // Revoked first: who is just being let in by it is found by that.
        let Some(login) = self.0.store.login(&hash).await? else {
            return Err(ServiceError::NotFound("no such session"));
        };
        let until = login.expires_at.max(after(Timestamp::now(), HOUR_S).into());
        self.revoke_now(io, Revoked::Session(hash.clone()), until)
            .await?;
        self.0.store.delete_login(&hash).await?;
        tracing::info!(by = by.subject, user = login.user_id, "session ended");
        Ok(())
    }

    /// Revokes a token, a session, a user or a role, and disconnects whoever it is about.
    pub(crate) async fn revoke(
        &self,
        io: &Io,
        by: &Principal,
        new: NewRevocation,
    ) -> Result<MadeRevocation, ServiceError> {
        self.require_permission(by, Permission::ApiRevocations)?;
        let NewRevocation {
            jti,
            session_id,
            user_id,
            role,
            until,
        } = new;
        let mut named = [
            jti.map(Revoked::Token),
            session_id.map(|id| Revoked::session(&id)),
            user_id.map(Revoked::User),
            role.map(Revoked::Role),
        ]
        .into_iter()
        .flatten();
        let (Some(revoked), None) = (named.next(), named.next()) else {
            let problem = "must be there alone: one of jti, sessionId, userId and role";
            return Err(ServiceError::invalid("jti", problem));
        };
        if !is_name(revoked.value(), MAX_VALUE) {
            let problem = "must have 1 to 256 characters";
            return Err(ServiceError::invalid(revoked.kind(), problem));
        }
        let until = self.until(&revoked, until.as_deref()).await?;
        let kind = revoked.kind();
        tracing::info!(by = by.subject, ?revoked, %until, "revoked");
        let disconnected = self.revoke_now(io, revoked, until).await?;
        Ok(MadeRevocation {
            kind,
            until,
            disconnected,
        })
    }

    /// Until when something is revoked if nobody says: as long as it would live.
    async fn until(&self, revoked: &Revoked, until: Option<&str>) -> Result<Time, ServiceError> {
        let now = Timestamp::now();
        if let Some(until) = until {
            let parsed = until.parse::<Timestamp>().ok();
            return match parsed.filter(|until| *until > now) {
                Some(until) => Ok(until.into()),
                None => Err(ServiceError::invalid(
                    "until",
                    "must be an RFC 3339 time to come",
                )),
            };
        }
        let default = after(now, self.0.revocation_ttl_s).into();
        if let Revoked::Session(hash) = revoked
            && let Some(login) = self.0.store.login(hash).await?
        {
            // As long as it can be prolonged, no longer than any session.
            return Ok(after(now, login.ttl_s).max(login.expires_at.into()).into());
        }
        Ok(default)
    }

    /// Takes effect at once, and is stored before that is said.
    async fn revoke_now(
        &self,
        io: &Io,
        revoked: Revoked,
        until: Time,
    ) -> Result<usize, ServiceError> {
        let inner = &self.0;
        inner
            .revocations
            .insert(&revoked, until.into())
            .map_err(|_| ServiceError::Conflict("too much is revoked already"))?;
        self.gauge();
        match &revoked {
            Revoked::User(user) => inner.roles.forget(|subject, _| subject == user),
            Revoked::Role(role) => inner.roles.forget(|_, roles| roles.contains(role)),
            // Whose it is is not known here.
            Revoked::Token(_) | Revoked::Session(_) => inner.roles.forget(|_, _| true),
        }
        let disconnected = io.revalidate();
        let row = Revocation {
            kind: revoked.kind().to_owned(),
            value: revoked.value().to_owned(),
            until,
        };
        inner.store.insert_revocation(row).await?;
        Ok(disconnected)
    }

    /// Uses sessions: what the authenticator asks.
    pub(crate) fn sessions(store: Store) -> UseSession {
        Arc::new(move |hash| {
            let store = store.clone();
            Box::pin(async move { use_session(&store, &hash).await.map_err(drop) })
        })
    }

    /// Forgets what has ended, from time to time, for as long as it is polled.
    pub(crate) async fn sweep(self) {
        let mut interval = tokio::time::interval(SWEEP);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.0.revocations.sweep();
            self.0.roles.sweep();
            self.gauge();
            if let Err(error) = self.0.store.sweep_logins(Time::now()).await {
                tracing::debug!(%error, "ended sessions could not be swept");
            }
        }
    }

    fn gauge(&self) {
        let metrics = &self.0.metrics;
        let change = self.0.revocations.len() as i64 - metrics.gauge(Gauge::Revocations);
        metrics.shift(Gauge::Revocations, change);
    }

    /// Why somebody may or may not send an event, about a room if it is about one.
    pub(crate) async fn explain(
        &self,
        by: &Principal,
        io: Option<&Io>,
        question: Question,
    ) -> Result<Explanation, ServiceError> {
        self.require_permission(by, Permission::ApiExplain)?;
        self.why(io, question).await
    }

    /// The same for whoever has the configuration and the store in hand.
    pub(crate) async fn why(
        &self,
        io: Option<&Io>,
        question: Question,
    ) -> Result<Explanation, ServiceError> {
        let asked = match io.and_then(|io| live(io, &question.user)) {
            Some(principal) => (Principal::clone(&principal), "the user's connection"),
            None => self.offline(&question).await?,
        };
        self.judge(&asked.0, asked.1, question).await
    }

    /// Somebody who is not connected: by the roles that are named, the newest session, or the role
    /// that tokens have by default.
    async fn offline(
        &self,
        question: &Question,
    ) -> Result<(Principal, &'static str), ServiceError> {
        let mut principal = Principal::new(question.user.clone());
        if question.user.starts_with("guest:") {
            return Ok((Principal::guest(question.user.clone(), ""), "its id"));
        }
        if !question.roles.is_empty() {
            principal.roles.clone_from(&question.roles);
            return Ok((principal, "the question"));
        }
        let now = Time::now();
        let logins = self.0.store.logins_of(&question.user).await?;
        if let Some(login) = logins.into_iter().rfind(|login| login.expires_at > now) {
            principal.roles = login.roles;
            principal.session = Some(login.id_hash);
            return Ok((principal, "the user's newest session"));
        }
        principal.roles = user();
        Ok((principal, "the default of tokens"))
    }

    async fn judge(
        &self,
        asked: &Principal,
        roles_from: &'static str,
        question: Question,
    ) -> Result<Explanation, ServiceError> {
        let inner = &self.0;
        let mut roles = asked.roles.clone();
        if asked.guest {
            roles.push("guest".into());
        }
        let mut explanation = Explanation {
            allowed: false,
            rule: String::new(),
            user: question.user,
            event: question.event,
            room: question.room,
            roles,
            roles_from,
            does: None,
            permission: None,
            limit: None,
            payload: None,
        };
        if let Some(revoked) = inner.revocations.covering(asked) {
            explanation.rule = match &revoked {
                Revoked::User(_) => "the user is revoked".into(),
                Revoked::Role(role) => format!("the role `{role}` is revoked"),
                Revoked::Token(_) => "the token is revoked".into(),
                Revoked::Session(_) => "the session is revoked".into(),
            };
            return Ok(explanation);
        }
        let Some(policy) = policy::find(&explanation.event) else {
            explanation.rule = "no such event".into();
            return Ok(explanation);
        };
        explanation.does = Some(policy.does);
        explanation.payload = Some((policy.payload)());
        explanation.permission = Some(policy.permission.as_str());
        explanation.limit = Some(policy.class.as_str());
        let granted = explanation.roles.iter().map(String::as_str);
        let Some(rule) = inner.roles.rule(granted, policy.permission) else {
            let granting = inner.roles.granting(policy.permission).join(", ");
            let needed = policy.permission.as_str();
            explanation.rule = format!("none of the roles grants {needed}; these do: {granting}");
            return Ok(explanation);
        };
        explanation.rule = rule.to_string();
        explanation.allowed = true;
        if let Some(room) = explanation.room.as_deref() {
            let holds = self.holds(asked, policy.room, room).await?;
            let rule = policy.room.as_str();
            explanation.allowed = holds;
            explanation.rule = if holds {
                format!("{}; and {rule}: the user is one", explanation.rule)
            } else {
                format!("{rule}: the user is none, or there is no such conversation")
            };
        }
        Ok(explanation)
    }
}

impl Access {
    /// Whether a rule about a room holds for somebody. Who wrote a message is not asked: a room does
    /// not say which one it is.
    async fn holds(
        &self,
        asked: &Principal,
        rule: RoomRule,
        room: &str,
    ) -> Result<bool, ServiceError> {
        if rule == RoomRule::Anyone {
            return Ok(true);
        }
        let Ok(id) = room.strip_prefix("conversation:").unwrap_or(room).parse() else {
            return Ok(false);
        };
        let Some(found) = self.0.store.membership(id, &asked.subject).await? else {
            return Ok(false);
        };
        Ok(match rule {
            RoomRule::Owner => {
                found.conversation.owner_id.as_ref() == Some(&asked.subject)
                    || self.allows(asked, Permission::ChatModerate)
            }
            RoomRule::Member | RoomRule::Author | RoomRule::Anyone => true,
        })
    }
}

/// Somebody who is connected now.
fn live(io: &Io, user: &str) -> Option<Arc<Principal>> {
    io.of("/").principal_of(user)
}

async fn use_session(
    store: &Store,
    hash: &str,
) -> Result<Option<authenticator::Session>, StoreError> {
    let Some(login) = store.login(hash).await? else {
        return Ok(None);
    };
    let now = Timestamp::now();
    let mut expires_at: Timestamp = login.expires_at.into();
    let prolonged = after(now, login.ttl_s);
    // Not for every second: each is a change that is stored.
    let worth = SignedDuration::from_secs(i64::try_from(login.ttl_s / 20).unwrap_or(0));
    if expires_at > now && prolonged.duration_since(expires_at) >= worth {
        let prolonged = Time::from(prolonged);
        // A store that cannot write is no reason to keep somebody out.
        match store.touch_login(hash, prolonged).await {
            Ok(true) => expires_at = prolonged.into(),
            Ok(false) => return Ok(None),
            Err(_) => {}
        }
    }
    Ok(Some(authenticator::Session {
        user_id: login.user_id,
        roles: login.roles,
        expires_at,
        data: login.data,
    }))
}

/// `GET /api/v1/explain`, and the command.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Question {
    pub(crate) user: String,
    pub(crate) event: String,
    pub(crate) room: Option<String>,
    /// The user's roles, where they cannot be known; only the command asks so.
    #[serde(skip)]
    pub(crate) roles: Vec<String>,
}

/// Why.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    pub(crate) allowed: bool,
    /// The rule that decides.
    pub(crate) rule: String,
    user: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    roles: Vec<String>,
    /// How the roles are known.
    roles_from: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    permission: Option<&'static str>,
    /// The limit that it counts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
    /// What the event does.
    #[serde(skip_serializing_if = "Option::is_none")]
    does: Option<&'static str>,
    /// The JSON schema of its argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<schemars::Schema>,
}

/// For people.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = if self.allowed { "allowed" } else { "refused" };
        writeln!(f, "{answer}: {}", self.rule)?;
        writeln!(f, "user:    {}", self.user)?;
        writeln!(
            f,
            "roles:   {} (from {})",
            self.roles.join(", "),
            self.roles_from
        )?;
        writeln!(f, "event:   {}", self.event)?;
        if let Some(does) = self.does {
            writeln!(f, "does:    {does}")?;
        }
        if let Some(room) = &self.room {
            writeln!(f, "room:    {room}")?;
        }
        if let (Some(permission), Some(limit)) = (self.permission, self.limit) {
            writeln!(f, "needs:   {permission}")?;
            writeln!(f, "limit:   {limit}")?;
        }
        Ok(())
    }
}

fn is_name(text: &str, max: usize) -> bool {
    !text.is_empty()
        && text.chars().take(max + 1).count() <= max
        && !text.chars().any(char::is_control)
}

/// So many seconds later, or at the end of time.
fn after(time: Timestamp, seconds: u64) -> Timestamp {
    let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Characters of a user's id.
const MAX_USER_ID: usize = 128;
const MAX_ROLES: usize = 32;
const MAX_ROLE: usize = 64;
/// Characters of what is revoked.
const MAX_VALUE: usize = 256;
const MAX_DATA_BYTES: usize = 4096;
const HOUR_S: u64 = 3600;
/// How often what has ended is forgotten.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(60);
