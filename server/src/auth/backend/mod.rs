//! Sessions of a backend that is asked whose they are: those of a Node application, in its signed cookie.
//!
//! The signature is checked before anybody is asked. Questions about one session that come at the same time are asked once, and an
//! answer counts for a while. Whoever is connected is asked about again and again, so that a logout there ends connections here.

mod cookie;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use ring::hmac;
use serde::Deserialize;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    AuthFault, Principal, is_guest, is_name,
    outbound::{Outbound, OutboundFault, Target},
    secret_hash,
};
use crate::breaker::Breaker;
use crate::config;
use roomcast::{Io, internal::LogThrottle};

/// The logins at a backend, which knows them as sessions.
pub(crate) struct BackendLogins {
    config: config::Backend,
    keys: Vec<hmac::Key>,
    outbound: Outbound,
    breaker: Breaker,
    /// One permit per question.
    questions: Semaphore,
    /// Logins by the hash of the session's id; the id itself is only in the cookie.
    logins: Mutex<HashMap<String, Arc<BackendLogin>>>,
    log_throttle: LogThrottle,
}

/// A login at the backend, as far as this server has asked about it.
struct BackendLogin {
    /// The cookie as it came, with which the backend is asked.
    cookie: String,
    /// The one permit belongs to whoever asks the backend, so that others wait for that answer.
    turn: Semaphore,
    state: Mutex<LoginState>,
}

#[derive(Default)]
struct LoginState {
    /// When it was asked about last, and what was answered.
    asked: Option<(Instant, Result<User, AuthFault>)>,
    /// When the backend named a user last, and whom; none if it has said since then that the session is nobody's.
    good: Option<(Instant, User)>,
    /// Whether it has ever named one, so that somebody may be connected by it.
    was_good: bool,
}

/// The user whose session it is, as the backend names that user.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    id: String,
    name: Option<String>,
    roles: Vec<String>,
}

/// What the backend answers; the rest of it is nobody's business.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BackendAnswer {
    user_id: String,
    name: Option<String>,
    roles: Option<Vec<String>>,
}

impl BackendLogin {
    /// Whether somebody may be about to connect by it, or has just asked.
    fn is_recent(&self) -> bool {
        let state = self.state.lock();
        let asked = state.asked.as_ref();
        asked.is_none_or(|(asked, _)| asked.elapsed() < RECENT)
    }
}

impl BackendLogins {
    /// The logins at the configured backend; none if no backend is configured.
    ///
    /// # Errors
    ///
    /// If its address cannot be asked.
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
        let key =
            |secret: &config::Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        Ok(Some(Arc::new(Self {
            outbound: outbound?,
            keys: config.secrets.iter().map(key).collect(),
            config: config.clone(),
            breaker: Breaker::new("the backend that knows sessions"),
            questions: Semaphore::new(QUESTIONS),
            logins: Mutex::default(),
            log_throttle: LogThrottle::new(LOG_LINES),
        })))
    }

    /// The name of the cookie.
    pub(super) fn cookie(&self) -> &str {
        &self.config.cookie
    }

    /// The user of the session in a cookie.
    pub(super) async fn user(&self, cookie: &str) -> Result<Principal, AuthFault> {
        // A cookie without a valid signature never becomes a question to the backend, nor an entry
        // here.
        let hash = secret_hash(&cookie::session_id(cookie, &self.keys)?);
        let login = self.login(&hash, cookie)?;
        let user = self.ask(&login, false).await?;
        let mut principal = Principal::new(user.id);
        if let Some(name) = user.name {
            principal = principal.with_name(name);
        }
        principal.roles = user.roles;
        principal.session = Some(hash);
        Ok(principal)
    }

    /// Whether a principal that was let in earlier would still be, as far as the backend was asked.
    pub(super) fn revalidate(&self, principal: &Principal) -> Result<(), AuthFault> {
        let Some(login) = principal.session.as_ref() else {
            return Ok(());
        };
        // The principal may have come by a token with a `sid`, of which the backend was never
        // asked.
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
        if since.elapsed() > self.config.patience {
            return Err(AuthFault::LoginExpired);
        }
        Ok(())
    }

    /// Asks again about the logins of those who are connected, for as long as it is polled.
    pub(crate) async fn keep(self: Arc<Self>, io: Io) {
        let mut rounds = tokio::time::interval(self.config.recheck);
        // After a slow round the backend is not asked again at once to make up for it.
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let sockets = io.of("/").local().sockets().await;
            let live: HashSet<String> = sockets
                .iter()
                .filter_map(|socket| socket.principal().session.clone())
                .collect();
            drop(sockets);
            // The lock is let go of before the backend is asked, since nobody may wait for that
            // under it.
            let logins: Vec<_> = {
                let mut logins = self.logins.lock();
                // A login without a socket may belong to somebody who is just connecting.
                logins.retain(|hash, login| live.contains(hash) || login.is_recent());
                let live = logins.iter().filter(|(hash, _)| live.contains(*hash));
                live.map(|(_, login)| Arc::clone(login)).collect()
            };
            if logins.is_empty() {
                continue;
            }
            let asking = logins.into_iter().map(|login| {
                let all = Arc::clone(&self);
                async move { all.ask(&login, true).await.map(drop) }
            });
            stream::iter(asking)
                // The sessions of all sockets would otherwise be asked about at the same moment.
                .buffer_unordered(QUESTIONS)
                .for_each(|_| std::future::ready(()))
                .await;
            // The sockets are looked at after all answers are there, which takes one pass over them
            // instead of one for each login.
            io.revalidate();
        }
    }

    fn login(&self, hash: &str, cookie: &str) -> Result<Arc<BackendLogin>, AuthFault> {
        let mut logins = self.logins.lock();
        if let Some(login) = logins.get(hash) {
            return Ok(Arc::clone(login));
        }
        if logins.len() >= self.config.sessions {
            // Anybody can get a signed session that belongs to nobody, so these give way first.
            logins.retain(|_, login| login.state.lock().was_good);
        }
        if logins.len() >= self.config.sessions {
            // With only good logins left, newcomers have to wait: one that is thrown out is not
            // asked about any more, and its user would stay after a logout.
            return Err(AuthFault::BackendUnavailable);
        }
        let login = Arc::new(BackendLogin {
            cookie: cookie.to_owned(),
            turn: Semaphore::new(1),
            state: Mutex::default(),
        });
        logins.insert(hash.to_owned(), Arc::clone(&login));
        Ok(login)
    }

    fn counts_for(&self, answer: &Result<User, AuthFault>) -> Duration {
        match answer {
            Ok(_) => self.config.cache,
            Err(AuthFault::UnknownLogin | AuthFault::UserRecord) => self.config.negative_cache,
            // A failure counts for a moment, so that those who came meanwhile do not ask one after
            // the other.
            Err(_) => FAILURE_COUNTS,
        }
    }

    /// The user of a login: the one that is known, or else the one that the backend names. With `anew` the backend is
    /// asked even if a user was known before.
    async fn ask(&self, login: &BackendLogin, anew: bool) -> Result<User, AuthFault> {
        let came = Instant::now();
        let known = |login: &BackendLogin| {
            let state = login.state.lock();
            let (asked, answer) = state.asked.as_ref()?;
            let counts = if anew {
                *asked >= came
            } else {
                *asked >= came || asked.elapsed() < self.counts_for(answer)
            };
            // An answer to a question that was asked after this caller came counts in any case.
            counts.then(|| answer.clone())
        };
        if let Some(answer) = known(login) {
            return answer;
        }
        let asking = async {
            // If this future is dropped, the permit is given back and the next caller asks instead.
            let _turn = login.turn.acquire().await;
            if let Some(answer) = known(login) {
                return answer;
            }
            let answer = self.question(&login.cookie).await;
            let mut state = login.state.lock();
            let now = Instant::now();
            match &answer {
                Ok(user) => {
                    state.good = Some((now, user.clone()));
                    state.was_good = true;
                }
                // A backend that does not answer changes nothing: only its word ends a login.
                Err(AuthFault::UnknownLogin) => state.good = None,
                Err(_) => {}
            }
            state.asked = Some((now, answer.clone()));
            answer
        };
        // Whoever asks first has the time of one question, who comes behind it waits for that one and not for others.
        let answer = timeout(self.config.timeout * 2, asking).await;
        answer.unwrap_or(Err(AuthFault::BackendUnavailable))
    }

    /// Asks the backend.
    async fn question(&self, cookie: &str) -> Result<User, AuthFault> {
        let unavailable = AuthFault::BackendUnavailable;
        // The place comes before the breaker, so that an open breaker is seen by those who have
        // waited for one.
        let _place = self.questions.acquire().await.map_err(|_| unavailable)?;
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
                // The backend works, and asking again does not change the record: other users must
                // not wait for the breaker, nor this one for ever.
                Err(Unusable::Record(field)) => {
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
                Err(Unusable::NoUser) => "what it says is no user".to_owned(),
            },
            Ok((
                StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::GONE,
                _,
            )) => {
                // The backend works if it says no, so the breaker stays closed.
                admission.succeeded();
                return Err(AuthFault::UnknownLogin);
            }
            Ok((status, _)) => format!("answered {status}"),
            Err(error) => error.to_string(),
        };
        admission.failed();
        if let Some(more) = self.log_throttle.permit() {
            tracing::warn!(why, more, "the backend does not say whose a session is");
        }
        Err(unavailable)
    }
}

/// Why an answer has no usable user.
#[derive(Debug, PartialEq, Eq)]
enum Unusable {
    /// The answer is no user record, such as the page of a proxy. The next answer may be one.
    NoUser,
    /// This field of the user record is invalid, and stays invalid until the record is corrected.
    Record(&'static str),
}

/// Reads the user in an answer, if all of it is what it should be.
fn read(text: &str) -> Result<User, Unusable> {
    let answer: BackendAnswer = serde_json::from_str(text).map_err(|_| {
        let answer: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let is_record = answer.is_some_and(|answer| answer.get("userId").is_some());
        if is_record {
            Unusable::Record("types of userId, name and roles")
        } else {
            Unusable::NoUser
        }
    })?;
    let roles = answer.roles.unwrap_or_else(|| vec!["user".to_owned()]);
    if !is_name(&answer.user_id, MAX_USER) || is_guest(&answer.user_id) {
        return Err(Unusable::Record("userId"));
    }
    let name = answer.name.as_ref();
    if name.is_some_and(|name| !is_name(name, MAX_NAME)) {
        return Err(Unusable::Record("name"));
    }
    if roles.len() > MAX_ROLES || !roles.iter().all(|role| is_name(role, MAX_ROLE)) {
        return Err(Unusable::Record("roles"));
    }
    Ok(User {
        id: answer.user_id,
        name: answer.name,
        roles,
    })
}

/// Questions that are under way.
const QUESTIONS: usize = 64;
/// How long it counts that there was no answer.
const FAILURE_COUNTS: Duration = Duration::from_millis(500);
/// How long a login is remembered without a connection: longer than it takes to connect.
const RECENT: Duration = Duration::from_secs(90);
/// Characters of a user's id, its name and a role, as in tokens.
const MAX_USER: usize = 128;
const MAX_NAME: usize = 256;
const MAX_ROLES: usize = 32;
const MAX_ROLE: usize = 64;
/// Lines of the log at once, before it is one a second.
const LOG_LINES: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_user_as_a_whole_or_nobody() {
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
            assert_eq!(read(wrong), Err(Unusable::NoUser), "{wrong}");
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
            assert_eq!(read(wrong), Err(Unusable::Record(field)), "{wrong}");
        }
    }
}
