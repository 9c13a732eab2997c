//! Sessions of a backend, such as a Node application, identified by its signed cookie.
//!
//! The signature is checked before the backend is queried. Concurrent queries about the same
//! session are combined, and responses are cached. Sessions of connected users are rechecked
//! periodically, so that a logout at the backend ends connections here.

mod cookie;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::{Mutex, RwLock};
use ring::hmac;
use serde::Deserialize;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    AuthFault, Principal, is_name, is_reserved,
    outbound::{Outbound, OutboundFault, Target},
    secret_hash,
};
use crate::breaker::Breaker;
use crate::config;
use crate::metrics::{Inventoried, Inventory};
use roomcast::{Io, internal::LogThrottle};

/// The logins at a backend, which calls them sessions.
pub(crate) struct BackendLogins {
    config: config::Backend,
    /// The keys of the secrets that may sign cookies.
    keys: RwLock<Vec<hmac::Key>>,
    outbound: Outbound,
    breaker: Breaker,
    /// One permit per query.
    queries: Semaphore,
    /// Logins by the hash of the session id. The id itself is stored only in the cookie.
    logins: Mutex<HashMap<String, Arc<BackendLogin>>>,
    log_throttle: LogThrottle,
}

/// A login at the backend, as far as this server knows it.
struct BackendLogin {
    /// The received cookie, which is sent to the backend.
    cookie: String,
    /// Its only permit belongs to the caller that queries the backend. Other callers wait for the
    /// result.
    permit: Semaphore,
    state: Mutex<LoginState>,
}

#[derive(Default)]
struct LoginState {
    /// When a client last connected with this login.
    last_used: Option<Instant>,
    /// The time and the result of the last query.
    last_query: Option<(Instant, Result<User, AuthFault>)>,
    /// The last time at which the backend returned a user, and that user. `None` if it has denied
    /// the session since.
    good: Option<(Instant, User)>,
    /// Whether the backend ever returned a user, so that sockets can be connected with this login.
    was_good: bool,
}

/// The user of a session, as returned by the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    id: String,
    name: Option<String>,
    roles: Vec<String>,
}

/// The response of the backend. Other fields are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BackendAnswer {
    user_id: String,
    name: Option<String>,
    roles: Option<Vec<String>>,
}

fn keys(secrets: &[config::Secret]) -> Vec<hmac::Key> {
    let key =
        |secret: &config::Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    secrets.iter().map(key).collect()
}

impl BackendLogin {
    /// Returns whether a caller besides the map has this login. The map must be locked.
    ///
    /// Such a caller may be about to receive a user. If the login left the map, the user's sockets
    /// would not be rechecked, and would stay connected after a logout.
    fn is_held(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Returns whether a client may be connecting with this login, or queried it recently.
    fn is_recent(&self, now: Instant) -> bool {
        let state = self.state.lock();
        let last_query = state.last_query.as_ref().map(|(time, _)| *time);
        let last = last_query.max(state.last_used);
        last.is_none_or(|last| now.saturating_duration_since(last) < RECENT)
    }
}

impl BackendLogins {
    /// Creates the logins of the configured backend. Returns `None` if no backend is configured.
    ///
    /// # Errors
    ///
    /// If the configured URL is not usable.
    pub(crate) fn new(config: &config::Backend) -> Result<Option<Arc<Self>>, OutboundFault> {
        let Some(url) = config.url.as_deref() else {
            return Ok(None);
        };
        let outbound = Outbound::new(Target {
            section: "auth.backend",
            url,
            ca_file: config.ca_file.as_deref(),
            timeout: config.timeout,
            allow_private: config.allow_private,
        });
        Ok(Some(Arc::new(Self {
            outbound: outbound?,
            keys: RwLock::new(keys(&config.secrets)),
            config: config.clone(),
            breaker: Breaker::new("the backend that knows sessions"),
            queries: Semaphore::new(MAX_QUERIES),
            logins: Mutex::default(),
            log_throttle: LogThrottle::new(LOG_LINES),
        })))
    }

    /// Replaces the secrets that may sign cookies. Connected clients stay connected for as long as
    /// the backend confirms their sessions.
    pub(crate) fn replace_secrets(&self, secrets: &[config::Secret]) {
        *self.keys.write() = keys(secrets);
    }

    /// Returns the name of the cookie.
    pub(super) fn cookie(&self) -> &str {
        &self.config.cookie
    }

    /// Returns the user of the session in a cookie.
    pub(super) async fn user(&self, cookie: &str) -> Result<Principal, AuthFault> {
        // A cookie without a valid signature causes neither a query nor an entry.
        let id = cookie::session_id(cookie, &self.keys.read())?;
        let hash = secret_hash(&id);
        let login = self.login(&hash, cookie)?;
        let user = self.resolve(&login, false).await?;
        let mut principal = Principal::new(user.id);
        if let Some(name) = user.name {
            principal = principal.with_name(name);
        }
        principal.roles = user.roles;
        principal.session = Some(hash);
        Ok(principal)
    }

    /// Checks whether an admitted principal would still be admitted, according to the last query.
    pub(super) fn revalidate(&self, principal: &Principal) -> Result<(), AuthFault> {
        let Some(login) = principal.session.as_ref() else {
            return Ok(());
        };
        // The principal may have a token with a `sid` that is unknown to the backend.
        let Some(login) = self.logins.lock().get(login).cloned() else {
            return Ok(());
        };
        let state = login.state.lock();
        let Some((since, user)) = &state.good else {
            return Err(AuthFault::Revoked);
        };
        if user.id != principal.subject || user.roles != principal.roles {
            return Err(AuthFault::Revoked);
        }
        if since.elapsed() > self.config.outage_grace {
            return Err(AuthFault::LoginExpired);
        }
        Ok(())
    }

    /// Rechecks the logins of connected users periodically. Runs until dropped.
    pub(crate) async fn run_rechecks(self: Arc<Self>, io: Io) {
        let mut rounds = tokio::time::interval(self.config.recheck);
        // After a slow round, the next one is delayed as well instead of starting immediately.
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let sockets = io.of("/").local().sockets();
            let live: HashSet<String> = sockets
                .iter()
                .filter_map(|socket| socket.principal().session.clone())
                .collect();
            drop(sockets);
            // The lock is released before the backend is queried.
            let logins: Vec<_> = {
                let mut logins = self.logins.lock();
                let now = Instant::now();
                // A login without a socket can belong to a client that is connecting.
                logins.retain(|hash, login| {
                    live.contains(hash) || login.is_held() || login.is_recent(now)
                });
                let live = logins.iter().filter(|(hash, _)| live.contains(*hash));
                live.map(|(_, login)| Arc::clone(login)).collect()
            };
            if logins.is_empty() {
                continue;
            }
            let querying = logins.into_iter().map(|login| {
                let all = Arc::clone(&self);
                async move { all.resolve(&login, true).await.map(drop) }
            });
            stream::iter(querying)
                // Limits the number of concurrent queries.
                .buffer_unordered(MAX_QUERIES)
                .for_each(|_| std::future::ready(()))
                .await;
            // The sockets are revalidated after all queries, in one pass instead of one per login.
            io.revalidate();
        }
    }

    fn login(&self, hash: &str, cookie: &str) -> Result<Arc<BackendLogin>, AuthFault> {
        let mut logins = self.logins.lock();
        let last_used = Some(Instant::now());
        if let Some(login) = logins.get(hash) {
            login.state.lock().last_used = last_used;
            return Ok(Arc::clone(login));
        }
        if logins.len() >= self.config.sessions {
            // Any client can get a signed session without a user, so these entries are evicted
            // first.
            logins.retain(|_, login| login.state.lock().was_good || login.is_held());
        }
        if logins.len() >= self.config.sessions {
            // If only good logins and those in use are left, new ones are refused. An evicted login
            // would not be rechecked, and its user would stay connected after a logout.
            return Err(AuthFault::BackendUnavailable);
        }
        let login = Arc::new(BackendLogin {
            cookie: cookie.to_owned(),
            permit: Semaphore::new(1),
            state: Mutex::new(LoginState {
                last_used,
                ..LoginState::default()
            }),
        });
        logins.insert(hash.to_owned(), Arc::clone(&login));
        Ok(login)
    }

    fn cache_duration(&self, answer: &Result<User, AuthFault>) -> Duration {
        match answer {
            Ok(_) => self.config.cache,
            Err(AuthFault::UnknownLogin | AuthFault::UserRecord) => self.config.negative_cache,
            // A failure is cached briefly, so that waiting callers do not repeat the query one
            // after another.
            Err(_) => FAILURE_CACHE,
        }
    }

    /// Returns the user of a login, cached or from the backend. With `is_forced`, only a response
    /// received after this call started counts.
    async fn resolve(&self, login: &BackendLogin, is_forced: bool) -> Result<User, AuthFault> {
        let start = Instant::now();
        let cached = |login: &BackendLogin| {
            let state = login.state.lock();
            let (last_query, answer) = state.last_query.as_ref()?;
            let counts = if is_forced {
                *last_query >= start
            } else {
                *last_query >= start || last_query.elapsed() < self.cache_duration(answer)
            };
            // A result that arrived after this call started always counts.
            counts.then(|| answer.clone())
        };
        if let Some(answer) = cached(login) {
            return answer;
        }
        let querying = async {
            // If this future is dropped, the permit is released and the next caller queries
            // instead.
            let _permit = login.permit.acquire().await;
            if let Some(answer) = cached(login) {
                return answer;
            }
            let answer = self.query(&login.cookie).await;
            let mut state = login.state.lock();
            let now = Instant::now();
            match &answer {
                Ok(user) => {
                    state.good = Some((now, user.clone()));
                    state.was_good = true;
                }
                // A backend failure changes nothing; only a denial ends a login.
                Err(AuthFault::UnknownLogin) => state.good = None,
                Err(_) => {}
            }
            state.last_query = Some((now, answer.clone()));
            answer
        };
        // The first caller has the time of one query. A caller that waits for it has time for its
        // own query as well.
        let answer = timeout(self.config.timeout * 2, querying).await;
        answer.unwrap_or(Err(AuthFault::BackendUnavailable))
    }

    /// Queries the backend.
    async fn query(&self, cookie: &str) -> Result<User, AuthFault> {
        let unavailable = AuthFault::BackendUnavailable;
        // The permit is acquired before the breaker is checked, so that waiting callers notice an
        // open breaker.
        let _permit = self.queries.acquire().await.map_err(|_| unavailable)?;
        let admission = self.breaker.admit().map_err(|_| unavailable)?;
        let value = format!("{}={cookie}", self.config.cookie);
        let mut value = HeaderValue::from_str(&value).map_err(|_| AuthFault::Malformed)?;
        // The cookie is a secret and must not be printed with the headers.
        value.set_sensitive(true);
        let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
        let why = match self.outbound.get(&headers).await {
            Ok((status, text)) if status.is_success() => match read(&text) {
                Ok(user) => {
                    admission.succeeded();
                    return Ok(user);
                }
                // The backend works, and a retry does not change the record. Other users must not
                // wait for the breaker, nor this user forever.
                Err(ResponseFault::Record(field)) => {
                    admission.succeeded();
                    if let Some(more) = self.log_throttle.permit() {
                        tracing::warn!(
                            field,
                            more,
                            "the backend has an invalid user record, refusing the user: correct the record"
                        );
                    }
                    return Err(AuthFault::UserRecord);
                }
                Err(ResponseFault::NoUser) => "its response is not a user record".to_owned(),
            },
            Ok((
                StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::GONE,
                _,
            )) => {
                // A denial means that the backend works, so the breaker stays closed.
                admission.succeeded();
                return Err(AuthFault::UnknownLogin);
            }
            Ok((status, _)) => format!("answered {status}"),
            Err(error) => error.to_string(),
        };
        admission.failed();
        if let Some(more) = self.log_throttle.permit() {
            tracing::warn!(why, more, "could not look up a session at the auth backend");
        }
        Err(unavailable)
    }
}

/// The reason why a response contains no usable user.
#[derive(Debug, PartialEq, Eq)]
enum ResponseFault {
    /// The response is not a user record, for example the page of a proxy. A later response may be
    /// one.
    NoUser,
    /// This field of the user record is invalid, and remains invalid until the record is corrected.
    Record(&'static str),
}

/// Parses the user in a response. All fields must be valid.
fn read(text: &str) -> Result<User, ResponseFault> {
    let answer: BackendAnswer = serde_json::from_str(text).map_err(|_| {
        let answer: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let is_record = answer.is_some_and(|answer| answer.get("userId").is_some());
        if is_record {
            ResponseFault::Record("types of userId, name and roles")
        } else {
            ResponseFault::NoUser
        }
    })?;
    let roles = answer.roles.unwrap_or_else(|| vec!["user".to_owned()]);
    if !is_name(&answer.user_id, MAX_USER) || is_reserved(&answer.user_id) {
        return Err(ResponseFault::Record("userId"));
    }
    let name = answer.name.as_ref();
    if name.is_some_and(|name| !is_name(name, MAX_NAME)) {
        return Err(ResponseFault::Record("name"));
    }
    if roles.len() > MAX_ROLES || !roles.iter().all(|role| is_name(role, MAX_ROLE)) {
        return Err(ResponseFault::Record("roles"));
    }
    Ok(User {
        id: answer.user_id,
        name: answer.name,
        roles,
    })
}

/// Maximum number of concurrent queries.
const MAX_QUERIES: usize = 64;
/// Cache time of a failed query.
const FAILURE_CACHE: Duration = Duration::from_millis(500);
/// Retention time of a login without a connection. It must exceed the time to connect.
const RECENT: Duration = Duration::from_secs(90);
/// Maximum characters of a user id, as in tokens.
const MAX_USER: usize = 128;
/// Maximum characters of a name, as in tokens.
const MAX_NAME: usize = 256;
/// Maximum number of roles, as in tokens.
const MAX_ROLES: usize = 32;
/// Maximum characters of a role, as in tokens.
const MAX_ROLE: usize = 64;
/// Log lines before they are limited to one per second.
const LOG_LINES: u32 = 20;

impl Inventoried for Arc<BackendLogins> {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("logins at the backend", &self.logins.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(sessions: usize) -> Arc<BackendLogins> {
        let config = config::Backend {
            url: Some("http://127.0.0.1:1/me".into()),
            secrets: vec!["secret".to_owned().into()],
            sessions,
            allow_private: true,
            ..config::Backend::default()
        };
        BackendLogins::new(&config).unwrap().unwrap()
    }

    #[test]
    fn login_that_is_being_queried_is_not_evicted_if_the_map_is_full() {
        let logins = logins(1);
        let queried = logins.login("a", "cookie").unwrap();
        let refused = logins.login("b", "cookie").map(drop);
        assert!(matches!(refused, Err(AuthFault::BackendUnavailable)));
        assert!(Arc::ptr_eq(&queried, &logins.logins.lock()["a"]));
        drop(queried);
        assert!(logins.login("b", "cookie").is_ok());
        assert!(!logins.logins.lock().contains_key("a"), "it has no user");
    }

    #[test]
    fn login_is_recent_after_each_use_also_of_a_cached_user() {
        let logins = logins(1);
        let begin = Instant::now();
        drop(logins.login("a", "cookie").unwrap());
        let login = Arc::clone(&logins.logins.lock()["a"]);
        assert!(login.is_held());
        assert!(login.is_recent(begin + RECENT / 2));
        assert!(!login.is_recent(Instant::now() + RECENT));
        login.state.lock().last_query = Some((begin, Err(AuthFault::UnknownLogin)));
        login.state.lock().last_used = None;
        assert!(!login.is_recent(begin + RECENT));
        drop(logins.login("a", "cookie").unwrap());
        let used = login.state.lock().last_used.expect("it was used");
        assert!(used >= begin);
        assert!(login.is_recent(used + RECENT / 2));
    }

    #[test]
    fn backend_responses_with_invalid_fields_are_refused() {
        let ann = User {
            id: "ann".into(),
            name: Some("Ann".into()),
            roles: vec!["coach".into()],
        };
        let text = r#"{"userId":"ann","name":"Ann","roles":["coach"],"theme":"dark"}"#;
        assert_eq!(read(text), Ok(ann));
        let roles = read(r#"{"userId":"ann"}"#).unwrap().roles;
        assert_eq!(roles, ["user"]);
        let many = format!(r#"{{"userId":"ann","roles":{:?}}}"#, vec!["x"; 33]);
        for wrong in ["", "null", "[]", "{}", "<html>", r#"{"error":"busy"}"#] {
            assert_eq!(read(wrong), Err(ResponseFault::NoUser), "{wrong}");
        }
        let types = "types of userId, name and roles";
        for (wrong, field) in [
            (r#"{"userId":7}"#, types),
            (r#"{"userId":""}"#, "userId"),
            (r#"{"userId":"guest:1"}"#, "userId"),
            (r#"{"userId":"a\u0000"}"#, "userId"),
            (r#"{"userId":"ann","userId":"bob"}"#, types),
            (r#"{"userId":"ann","name":""}"#, "name"),
            (r#"{"userId":"ann","name":"Ann\u0007"}"#, "name"),
            (r#"{"userId":"ann","roles":"admin"}"#, types),
            (r#"{"userId":"ann","roles":["\u200b"]}"#, "roles"),
            (&many, "roles"),
        ] {
            assert_eq!(read(wrong), Err(ResponseFault::Record(field)), "{wrong}");
        }
    }
}
