//! Revocation of tokens, logins, users and roles, and its duration.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::service::rules::bounds::{REVOKED_CHARS, RevokedName, only_one};
use crate::service::{
    authorization::access::{Access, HOUR_S, after},
    authorization::allowed::Allowed,
    cluster::{News, RevokedUntil},
    fault::ServiceError,
    rules::event::Command,
};
use crate::{
    auth::{MAX_REVOCATIONS, Permission, Revoked, is_name, secret_hash},
    store::{Revocation, StoreError, Time, is_rfc3339},
};
use roomcast::{Io, Socket};

/// The body of `POST /api/v1/revocations`: exactly one of the four fields.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = only_one(["jti", "sessionId", "userId", "role"])))]
pub(crate) struct NewRevocation {
    #[schemars(with = "Option<RevokedName>")]
    pub(crate) jti: Option<String>,
    pub(crate) session_id: Option<String>,
    #[schemars(with = "Option<RevokedName>")]
    pub(crate) user_id: Option<String>,
    #[schemars(with = "Option<RevokedName>")]
    pub(crate) role: Option<String>,
    /// A time in the future; any other time is a conflict. Default: until no revoked credentials
    /// could still be accepted.
    #[schemars(with = "Option<Time>")]
    pub(crate) until: Option<String>,
}

impl Command for NewRevocation {
    const PERMISSION: Option<Permission> = Some(Permission::ApiRevocations);
}

/// The command of `DELETE /api/v1/sessions/{id}`.
#[derive(Debug)]
pub(crate) struct EndLogin {
    pub(crate) id: String,
}

impl Command for EndLogin {
    const PERMISSION: Option<Permission> = Some(Permission::ApiLogins);
}

/// A new revocation.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MadeRevocation {
    kind: &'static str,
    /// Null if the revocation does not expire.
    until: Option<Time>,
    /// The number of sockets that the revocation disconnected.
    disconnected: usize,
}

/// The lifetimes of credentials.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Lifetimes {
    /// Maximum seconds from the creation of a token to its expiry. `None` if there is no limit.
    pub(in crate::service) token_s: Option<u64>,
    /// Maximum seconds until an unused login expires.
    pub(in crate::service) login_s: u64,
    /// Maximum seconds by which the issuer's clock may differ from this server's.
    pub(in crate::service) leeway_s: u64,
}

impl Lifetimes {
    /// Returns when the last token expires that could exist now.
    fn tokens(self, now: Timestamp) -> Timestamp {
        // The issuer's clock can be ahead by the leeway, and a token is accepted for another leeway
        // after its expiry.
        let span = self.token_s.map(|span| span + 2 * self.leeway_s);
        span.map_or(NEVER, |span| after(now, span))
    }

    /// Returns when the last token or login expires that could exist now.
    fn all(self, now: Timestamp) -> Timestamp {
        self.tokens(now).max(after(now, self.login_s))
    }
}

impl Access {
    /// Loads the stored revocations into memory.
    pub(in crate::service) async fn restore_revocations(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        let end = inner.lifetimes.all(Timestamp::now());
        for mut row in inner.store.revocations().await? {
            let Some(revoked) = Revoked::from_parts(&row.kind, row.value.clone()) else {
                continue;
            };
            // The revocation dates from before `auth.jwt.max_lifetime` was set. It can expire
            // now.
            if is_endless(row.until.into()) && !is_endless(end) && !revoked.is_of_guests() {
                row.until = end.into();
                inner.store.insert_revocation(row.clone()).await?;
            }
            if inner
                .revocations
                .insert(&revoked, row.until.into())
                .is_err()
            {
                tracing::error!(
                    "the store has more revocations than the limit, some are not in force"
                );
                break;
            }
        }
        Ok(())
    }

    /// Revokes a token, a login, a user or a role, and disconnects the affected sockets.
    pub(crate) async fn revoke(
        &self,
        io: &Io,
        allowed: Allowed<NewRevocation>,
    ) -> Result<MadeRevocation, ServiceError> {
        let (by, new) = allowed.into_parts();
        let NewRevocation {
            jti,
            session_id,
            user_id,
            role,
            until,
        } = new;
        let mut named = [
            jti.map(Revoked::Token),
            session_id.map(|id| Revoked::login(&id)),
            user_id.map(Revoked::User),
            role.map(Revoked::Role),
        ]
        .into_iter()
        .flatten();
        // A request revokes only one item, so that its response is unambiguous.
        let (Some(revoked), None) = (named.next(), named.next()) else {
            let problem = "must be given alone: exactly one of jti, sessionId, userId and role";
            return Err(ServiceError::invalid("jti", problem));
        };
        if !is_name(revoked.value(), REVOKED_CHARS) {
            let problem = "must have 1 to 256 characters";
            return Err(ServiceError::invalid(revoked.kind(), problem));
        }
        let until = until.as_deref().map(parse_future).transpose()?;
        let is_for_good = until.is_none();
        let until = match until {
            Some(until) => until,
            None => self.end_of(io, &revoked).await?,
        };
        let kind = revoked.kind();
        let shown = (!is_endless(until)).then(|| Time::from(until));
        let shown_until = shown.map_or_else(|| "for ever".to_owned(), |until| until.to_string());
        tracing::info!(by = by.subject, ?revoked, until = shown_until, "revoked");
        // The revocation takes effect before the login is deleted. Otherwise the login would be
        // unknown while its sockets are still connected.
        let disconnected = self.revoke_now(io, revoked.clone(), until).await?;
        if let Revoked::Login(hash) = &revoked
            && is_for_good
        {
            // Without its row, the login cannot be used again after the revocation expires.
            self.0.store.delete_login(hash).await?;
        }
        Ok(MadeRevocation {
            kind,
            until: shown,
            disconnected,
        })
    }

    /// Revokes a user who is erased, until no credentials of the user could still be accepted.
    /// Returns the number of disconnected sockets of this server.
    pub(in crate::service) async fn revoke_user(
        &self,
        io: &Io,
        user: &str,
    ) -> Result<usize, ServiceError> {
        let revoked = Revoked::User(user.to_owned());
        let until = self.end_of(io, &revoked).await?;
        self.revoke_now(io, revoked, until).await
    }

    /// Returns the default expiry of a revocation: when no revoked credentials could still be
    /// accepted.
    async fn end_of(&self, io: &Io, revoked: &Revoked) -> Result<Timestamp, ServiceError> {
        let now = Timestamp::now();
        let lifetimes = self.0.lifetimes;
        Ok(match revoked {
            Revoked::Token(id) => {
                // A socket that was authenticated with the token knows its expiry.
                let sockets = io.of("/").sockets();
                let mut principals = sockets.iter().map(Socket::principal);
                let holder = principals.find(|principal| principal.token_id.as_ref() == Some(id));
                let end = holder.and_then(|principal| principal.expires_at);
                let end = end.map(|end| after(Time::from(end).into(), lifetimes.leeway_s + HOUR_S));
                let tokens = lifetimes.tokens(now);
                end.map_or(tokens, |end| end.min(tokens))
            }
            Revoked::Login(hash) => match self.0.store.login(hash).await? {
                Some(login) => self.end_of_login(login.expires_at.into()),
                // The hash belongs to a `sid` in tokens of an external issuer.
                None => lifetimes.tokens(now),
            },
            // Guests have no tokens, and can reconnect at any time.
            guests if guests.is_of_guests() => NEVER,
            Revoked::User(_) | Revoked::Role(_) => lifetimes.all(now),
        })
    }

    /// Returns until when a login that is now ended must stay revoked.
    fn end_of_login(&self, expires_at: Timestamp) -> Timestamp {
        let now = Timestamp::now();
        let tokens = self.0.lifetimes.tokens(now);
        // The id of a login is a secret that tokens contain only if an issuer uses it as `sid`.
        let tokens = if is_endless(tokens) { now } else { tokens };
        expires_at.max(after(now, HOUR_S)).max(tokens)
    }

    /// Ends a login and disconnects its sockets.
    pub(crate) async fn end_login(
        &self,
        io: &Io,
        allowed: Allowed<EndLogin>,
    ) -> Result<(), ServiceError> {
        let (by, EndLogin { id }) = allowed.into_parts();
        let hash = secret_hash(&id);
        // The login is revoked before it is deleted, so that a connection that is being
        // authenticated with it is caught.
        let Some(login) = self.0.store.login(&hash).await? else {
            return Err(ServiceError::NotFound("no such session"));
        };
        let until = self.end_of_login(login.expires_at.into());
        self.revoke_now(io, Revoked::Login(hash.clone()), until)
            .await?;
        self.0.store.delete_login(&hash).await?;
        tracing::info!(by = by.subject, user = login.user_id, "session ended");
        Ok(())
    }

    /// Revokes immediately, and returns after the revocation is stored.
    async fn revoke_now(
        &self,
        io: &Io,
        revoked: Revoked,
        until: Timestamp,
    ) -> Result<usize, ServiceError> {
        let inner = &self.0;
        // The guard lives until the row is stored. It keeps an older stored row of this revocation
        // from being applied in the meantime.
        let _own = inner.own.begin(&revoked);
        let inserted = inner.revocations.insert(&revoked, until);
        let is_full = inserted.is_err() || inner.revocations.len() > MAX_REVOCATIONS / 10 * 9;
        if is_full {
            tracing::warn!(
                revocations = inner.revocations.len(),
                "the revocation list is almost full: set auth.jwt.max_lifetime so that entries expire"
            );
        }
        inserted.map_err(|_| {
            ServiceError::Conflict(
                "the revocation list is full: set auth.jwt.max_lifetime so that entries expire",
            )
        })?;
        self.gauge();
        match &revoked {
            Revoked::User(user) => inner.roles.forget(|subject, _| subject == user),
            Revoked::Role(role) if !revoked.is_of_guests() => {
                // Only users with the role are evicted, because recomputing the permissions of all
                // users would delay all their events.
                inner.roles.forget(|_, roles| roles.contains(role));
            }
            // The owner of a token or a login is not known here.
            Revoked::Token(_) | Revoked::Login(_) | Revoked::Role(_) => {
                inner.roles.forget(|_, _| true);
            }
        }
        // Sockets are disconnected before the row is stored: a slow database must not keep a stolen
        // token alive.
        let disconnected = io.revalidate();
        let row = Revocation {
            kind: revoked.kind().to_owned(),
            value: revoked.value().to_owned(),
            until: until.into(),
        };
        inner.store.insert_revocation(row.clone()).await?;
        // The feed has the revocation as well, but a server without a database connection cannot
        // read it.
        if let Some(announcer) = inner.announcer.get() {
            announcer.announce(News::Revoked(RevokedUntil {
                kind: row.kind,
                value: row.value,
                until: row.until,
            }));
        }
        Ok(disconnected)
    }
}

/// Parses a time in the future.
fn parse_future(text: &str) -> Result<Timestamp, ServiceError> {
    let until = text.parse::<Timestamp>().ok();
    let until = until.filter(|_| is_rfc3339(text));
    let until = until.ok_or_else(|| ServiceError::invalid("until", "must be an RFC 3339 time"))?;
    if until <= Timestamp::now() {
        return Err(ServiceError::Unfit {
            field: "until".into(),
            problem: "must be a future time",
        });
    }
    Ok(until)
}

/// Returns whether a time is [`NEVER`], also after it was stored and read.
fn is_endless(time: Timestamp) -> bool {
    Time::from(time) >= Time::from(NEVER)
}

/// The expiry of revocations that do not expire.
const NEVER: Timestamp = Timestamp::MAX;

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        auth::{Principal, Revocations, Roles},
        config,
        store::Store,
    };

    const LEEWAY_S: u64 = 30;

    fn lifetimes(token_s: Option<u64>) -> Lifetimes {
        Lifetimes {
            token_s,
            login_s: 100,
            leeway_s: LEEWAY_S,
        }
    }

    #[test]
    fn revocation_outlives_every_possible_token_and_login() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (token_s, tokens, all) in [
            (None, NEVER, NEVER),
            (Some(10), at(70), at(100)),
            (Some(3600), at(3660), at(3660)),
        ] {
            assert_eq!(lifetimes(token_s).tokens(now), tokens);
            assert_eq!(lifetimes(token_s).all(now), all);
        }
    }

    #[tokio::test]
    async fn endless_revocations_get_an_end_if_token_lifetime_is_limited() {
        let store = Store::in_memory().await;
        let soon: Time = after(Timestamp::now(), 7).into();
        for (value, until) in [
            ("ann", NEVER.into()),
            ("bob", soon),
            ("guest:1", NEVER.into()),
        ] {
            let (kind, value) = ("user".to_owned(), value.to_owned());
            let row = Revocation { kind, value, until };
            store.insert_revocation(row).await.unwrap();
        }
        let mut auth = config::Auth::default();
        auth.jwt.max_lifetime = Some(Duration::from_secs(3600));
        for _restart in 0..2 {
            let revocations = Arc::new(Revocations::new());
            let roles = Roles::new(&auth.roles, 1, Arc::default()).unwrap();
            let opened = Access::open(
                store.clone(),
                roles,
                Arc::clone(&revocations),
                Arc::default(),
                &auth,
            );
            opened.await.unwrap();
            assert!(revocations.covers(&Principal::new("ann")));
            let rows = store.revocations().await.unwrap();
            let end = after(Timestamp::now(), auth.session_max_ttl.as_secs() + 60);
            assert!(
                rows[0].until > soon && rows[0].until <= end.into(),
                "{rows:?}"
            );
            assert_eq!(rows[1].until, soon);
            // Revocations of guests do not expire.
            assert!(is_endless(rows[2].until.into()), "{rows:?}");
        }
    }

    #[tokio::test]
    async fn guest_revocation_has_no_end_although_tokens_expire() {
        let store = Store::in_memory().await;
        let mut auth = config::Auth::default();
        auth.jwt.max_lifetime = Some(Duration::from_secs(3600));
        let roles = Roles::new(&auth.roles, 1, Arc::default()).unwrap();
        let access = Access::open(store, roles, Arc::default(), Arc::default(), &auth).await;
        let io = Io::builder().namespace("/", |namespace| namespace);
        let (access, io) = (access.unwrap(), io.build().unwrap());
        for (revoked, is_endless_then) in [
            (Revoked::Role("guest".into()), true),
            (Revoked::User("guest:1".into()), true),
            (Revoked::Role("user".into()), false),
            (Revoked::User("ann".into()), false),
        ] {
            let end = access.end_of(&io, &revoked).await.unwrap();
            assert_eq!(is_endless(end), is_endless_then, "{revoked:?}");
        }
    }

    #[test]
    fn endless_revocations_are_recognized_after_storing() {
        let stored: Time = Time::from(NEVER).to_string().parse().unwrap();
        assert!(is_endless(stored.into()));
        assert!(!is_endless(after(Timestamp::now(), 366 * 86_400 * 100)));
    }
}
