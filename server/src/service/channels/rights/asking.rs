//! Asks the configured backend whether a user may follow a channel.
//!
//! Equal questions share one answer, for as long as the answer says. The answer of a question that
//! a subscription uses is renewed before it ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use uuid::Uuid;

use crate::auth::outbound::{Outbound, OutboundFault, Target};
use crate::auth::{Principal, roles_of};
use crate::breaker::Breaker;
use crate::config;
use crate::metrics::{Counter, Inventoried, Inventory, Metrics};
use crate::service::fault::ServiceError;
use crate::service::hooks::Signer;
use crate::service::journals::write;
use roomcast::internal::LogThrottle;

/// Asks the backend, and remembers its answers.
pub(crate) struct Asker(Arc<AskerInner>);

struct AskerInner {
    config: config::Ask,
    outbound: Outbound,
    breaker: Breaker,
    signer: RwLock<Signer>,
    /// Limits concurrent requests about new questions.
    requests: Semaphore,
    /// Limits concurrent renewals, which new questions must not delay.
    renewals: Semaphore,
    questions: Mutex<Questions>,
    /// Tells tasks that an answer ends earlier than it would have.
    changed: watch::Sender<()>,
    metrics: Arc<Metrics>,
    log_throttle: LogThrottle,
}

#[derive(Default)]
struct Questions {
    /// By the body of the request.
    known: HashMap<String, Arc<Question>>,
    /// Whether answers that nothing uses may be forgotten early. That takes time, so it happens at
    /// most once between two searches for answers to renew.
    may_evict: bool,
    /// Whether a task renews answers. It ends when there are no more questions.
    is_renewed: bool,
}

/// A question, with its latest answer.
pub(in crate::service::channels) struct Question {
    channel: String,
    user: String,
    roles: Vec<String>,
    body: String,
    /// One permit: a question is asked by one caller at a time.
    asking: Semaphore,
    latest: Mutex<Option<Answer>>,
    /// When the last request has failed, and why.
    failed: Mutex<Option<(Instant, ServiceError)>>,
    /// Whether a task renews the answer.
    is_renewing: AtomicBool,
    /// Whether a service has revoked the answer. A later caller asks another question.
    is_void: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    may_follow: bool,
    until: SystemTime,
    /// When the answer is renewed, if it is used.
    renewal: SystemTime,
    /// From when on it counts for new requests only if the backend does not answer: it might end
    /// while they are handled.
    last_use: SystemTime,
}

/// What is asked, as JSON.
#[derive(Serialize)]
struct Body<'a> {
    channel: &'a str,
    kind: &'a str,
    parts: BTreeMap<&'a str, &'a str>,
    user: User<'a>,
}

#[derive(Serialize)]
struct User<'a> {
    id: &'a str,
    name: &'a str,
    roles: Vec<&'a str>,
    guest: bool,
}

/// The answer of the backend.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Reply {
    follow: bool,
    /// In seconds.
    expires_in: u64,
}

impl Question {
    /// Returns whether a user may follow `channel`, of a kind and with these parts of its name.
    pub(in crate::service::channels) fn new<'a>(
        channel: &str,
        kind: &str,
        parts: impl Iterator<Item = (&'a str, &'a str)>,
        by: &Principal,
    ) -> Self {
        let body = write(&Body {
            channel,
            kind,
            parts: parts.collect(),
            user: User {
                id: &by.subject,
                name: &by.name,
                roles: roles_of(by).collect(),
                guest: by.guest,
            },
        });
        Self {
            channel: channel.to_owned(),
            user: by.subject.clone(),
            roles: by.roles.clone(),
            body,
            asking: Semaphore::new(1),
            latest: Mutex::default(),
            failed: Mutex::default(),
            is_renewing: AtomicBool::new(false),
            is_void: AtomicBool::new(false),
        }
    }

    /// Returns whether the question is about a channel, and about a user if one is given.
    pub(in crate::service::channels) fn is_of(&self, channel: &str, user: Option<&str>) -> bool {
        self.channel == channel && user.is_none_or(|user| self.user == user)
    }

    /// Returns whether the question is about this user with the same roles.
    pub(super) fn is_about(&self, by: &Principal) -> bool {
        self.user == by.subject && self.roles == by.roles
    }

    fn answer(&self) -> Option<Answer> {
        let is_void = self.is_void.load(Ordering::Acquire);
        self.latest.lock().filter(|_| !is_void)
    }

    /// Returns the answer if it holds at a time.
    fn holding(&self, now: SystemTime) -> Option<Answer> {
        self.answer().filter(|answer| now < answer.until)
    }

    /// Returns whether the answer allows to follow.
    pub(in crate::service::channels) fn allows(&self) -> bool {
        let answer = self.holding(SystemTime::now());
        answer.is_some_and(|answer| answer.may_follow)
    }

    /// Returns whether the answer is that the user may not follow.
    pub(in crate::service::channels) fn denies(&self) -> bool {
        let answer = self.holding(SystemTime::now());
        answer.is_some_and(|answer| !answer.may_follow)
    }

    /// Returns when the answer ends, unless it is renewed.
    pub(in crate::service::channels) fn until(&self) -> SystemTime {
        let answer = self.answer();
        answer.map_or(SystemTime::UNIX_EPOCH, |answer| answer.until)
    }
}

impl Asker {
    /// Creates it, if the configuration names a backend.
    ///
    /// # Errors
    ///
    /// If requests to the URL are impossible or not allowed.
    pub(crate) fn new(
        config: &config::Ask,
        metrics: Arc<Metrics>,
    ) -> Result<Option<Self>, OutboundFault> {
        let Some(url) = config.url.as_deref() else {
            return Ok(None);
        };
        let outbound = Outbound::new(Target {
            section: "ask",
            url,
            ca_file: config.ca_file.as_deref(),
            timeout: config.timeout,
            allow_private: config.allow_private,
        })?;
        Ok(Some(Self(Arc::new(AskerInner {
            outbound,
            breaker: Breaker::new("the backend that decides who follows channels"),
            signer: RwLock::new(signer(config)),
            requests: Semaphore::new(config.concurrent),
            renewals: Semaphore::new(config.concurrent),
            questions: Mutex::default(),
            changed: watch::Sender::default(),
            metrics,
            log_throttle: LogThrottle::new(LOG_LINES),
            config: config.clone(),
        }))))
    }

    /// Replaces the secrets that sign requests.
    pub(in crate::service::channels) fn replace_secrets(&self, config: &config::Ask) {
        *self.0.signer.write() = signer(config);
    }

    /// Returns a receiver that learns when an answer ends earlier than it would have.
    pub(in crate::service::channels) fn changed(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Returns the question with an answer that holds, from the backend if there is none yet.
    ///
    /// # Errors
    ///
    /// If the backend gives no valid answer.
    pub(in crate::service::channels) async fn ask(
        &self,
        question: Question,
    ) -> Result<Arc<Question>, ServiceError> {
        let begin = Instant::now();
        let question = self.shared(question);
        let is_answered = |now| {
            let answer = question.holding(now);
            answer.is_some_and(|answer| now < answer.last_use)
        };
        if is_answered(SystemTime::now()) {
            return Ok(question);
        }
        let requests = Some(&self.0.requests);
        let answering = self.0.answer(&question, begin, requests, is_answered);
        let answered = answering.await;
        // An answer that still holds counts if there is no other one. One that was revoked while it
        // was sent does not.
        match question.holding(SystemTime::now()) {
            Some(_) => Ok(question),
            None => Err(answered
                .err()
                .unwrap_or_else(|| ServiceError::no_answer(PAUSE))),
        }
    }

    /// Makes the answers about a channel void: those about one user, or all.
    pub(in crate::service::channels) fn revoke(&self, is_meant: impl Fn(&Question) -> bool) {
        let mut questions = self.0.questions.lock();
        let before = questions.known.len();
        questions.known.retain(|_, question| {
            let is_meant = is_meant(question);
            if is_meant {
                question.is_void.store(true, Ordering::Release);
            }
            !is_meant
        });
        let is_any = questions.known.len() < before;
        drop(questions);
        if is_any {
            self.0.changed.send_replace(());
        }
    }

    /// Returns the known question that is equal, or adds this one.
    fn shared(&self, question: Question) -> Arc<Question> {
        let mut questions = self.0.questions.lock();
        if let Some(known) = questions.known.get(&question.body) {
            return Arc::clone(known);
        }
        let question = Arc::new(question);
        let is_full = questions.known.len() >= self.0.config.cached;
        if is_full && std::mem::take(&mut questions.may_evict) {
            questions.known.retain(|_, one| Arc::strong_count(one) > 1);
        }
        // Questions in use are always known, so that their answers can be renewed and revoked.
        let body = question.body.clone();
        questions.known.insert(body, Arc::clone(&question));
        if !std::mem::replace(&mut questions.is_renewed, true) {
            tokio::spawn(Self(Arc::clone(&self.0)).renew());
        }
        question
    }

    /// Renews the answers in use, and forgets others after their end.
    async fn renew(self) {
        loop {
            {
                let mut questions = self.0.questions.lock();
                let now = SystemTime::now();
                questions.known.retain(|_, question| {
                    let is_used = Arc::strong_count(question) > 1;
                    let answer = question.holding(now);
                    if is_used && answer.is_some_and(|answer| answer.renewal <= now + TICK) {
                        self.renew_one(question);
                    }
                    // A caller may wait for the first answer.
                    is_used || answer.is_some()
                });
                questions.may_evict = true;
                if questions.known.is_empty() {
                    questions.is_renewed = false;
                    return;
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Asks a question again, unless that is going on. A failure is repeated until the answer ends.
    fn renew_one(&self, question: &Arc<Question>) {
        let failed = question.failed.lock().as_ref().map(|(at, _)| at.elapsed());
        if failed.is_some_and(|since| since < PAUSE)
            || question.is_renewing.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let (inner, question) = (Arc::clone(&self.0), Arc::clone(question));
        tokio::spawn(async move {
            // One task for each question that is due.
            let _permit = inner.renewals.acquire().await;
            let begin = Instant::now();
            let known = question.holding(SystemTime::now());
            let is_renewed = |now| {
                let answer = question.holding(now);
                let until = |answer: Option<Answer>| answer.map(|answer| answer.until);
                until(answer) != until(known)
            };
            let _ = inner.answer(&question, begin, None, is_renewed).await;
            question.is_renewing.store(false, Ordering::Release);
        });
    }
}

impl Inventoried for Asker {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("questions about channels", &self.0.questions.lock().known);
    }
}

impl AskerInner {
    /// Lets the backend answer a question, with a permit of `requests`, unless another caller has
    /// done so meanwhile. Callers that have waited for a failed request share the failure.
    async fn answer(
        &self,
        question: &Question,
        begin: Instant,
        requests: Option<&Semaphore>,
        is_answered: impl Fn(SystemTime) -> bool,
    ) -> Result<(), ServiceError> {
        let asking = async {
            let _permit = question.asking.acquire().await;
            if is_answered(SystemTime::now()) {
                return Ok(());
            }
            if let Some((_, error)) = question
                .failed
                .lock()
                .as_ref()
                .filter(|(at, _)| *at >= begin)
            {
                return Err(error.clone());
            }
            let _permit = match requests {
                Some(requests) => Some(requests.acquire().await),
                None => None,
            };
            let replied = self.request(&question.body).await;
            let reply = replied.inspect_err(|error| {
                *question.failed.lock() = Some((Instant::now(), error.clone()));
            })?;
            let now = SystemTime::now();
            let lasts = Duration::from_secs(reply.expires_in);
            // Answers that were given together are renewed one after the other.
            let (random, _, _, _) = Uuid::new_v4().as_fields();
            let life = 0.5 + 0.4 * f64::from(random) / f64::from(u32::MAX);
            let until = now + lasts;
            let before = question.latest.lock().replace(Answer {
                may_follow: reply.follow,
                until,
                renewal: now + lasts.mul_f64(life),
                last_use: now + lasts.mul_f64(0.9),
            });
            // Tasks that end subscriptions wait until the end of the answer before.
            let is_shorter =
                |before: Answer| before.may_follow && (!reply.follow || until < before.until);
            if before.is_some_and(is_shorter) {
                self.changed.send_replace(());
            }
            Ok(())
        };
        // The first caller has the time of one request. Others also wait for it.
        let answered = timeout(self.config.timeout * 2, asking).await;
        answered.unwrap_or_else(|_| Err(ServiceError::no_answer(PAUSE)))
    }

    async fn request(&self, body: &str) -> Result<Reply, ServiceError> {
        let admission = self.breaker.admit().map_err(ServiceError::no_answer)?;
        let time = Timestamp::now().as_second();
        let signature = self.signer.read().header(time, body);
        // The signature consists of digits and a few letters, so it is a valid header value.
        let signature = HeaderValue::from_str(&signature).ok();
        let headers: HeaderMap = signature
            .map(|value| (SIGNATURE, value))
            .into_iter()
            .collect();
        let answered = self.outbound.post(&headers, body.as_bytes().to_vec()).await;
        // A client chooses the name of a channel, and must not close the way for all others with one
        // that the backend does not understand.
        let is_failure = match &answered {
            Ok((status, _)) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Err(_) => true,
        };
        if is_failure {
            admission.failed();
        } else {
            admission.succeeded();
        }
        let reply = match answered {
            Ok((StatusCode::OK, text)) => Reply::parse(&text),
            Ok((status, _)) => Err(format!("answered {status}")),
            Err(error) => Err(error.to_string()),
        };
        match reply {
            Ok(reply) => {
                self.metrics.count(match reply.follow {
                    true => Counter::ChannelAsksAllowed,
                    false => Counter::ChannelAsksDenied,
                });
                Ok(reply)
            }
            Err(why) => {
                self.metrics.count(Counter::ChannelAsksFailed);
                if let Some(more) = self.log_throttle.permit() {
                    tracing::warn!(why, more, "the backend of channels gave no valid answer");
                }
                Err(ServiceError::no_answer(PAUSE))
            }
        }
    }
}

impl Reply {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |error| format!("answered wrongly: {error}");
        // A list is not an object.
        let object: Map<String, Value> = serde_json::from_str(text).map_err(wrong)?;
        let reply = Self::deserialize(Value::Object(object)).map_err(wrong)?;
        if !(1..=LONGEST).contains(&reply.expires_in) {
            return Err(format!(
                "answered wrongly: expiresIn must be 1 to {LONGEST}"
            ));
        }
        Ok(reply)
    }
}

fn signer(config: &config::Ask) -> Signer {
    Signer::new([&config.secret, &config.previous_secret])
}

const SIGNATURE: HeaderName = HeaderName::from_static("roomcast-signature");
/// The longest time for which an answer holds, in seconds.
const LONGEST: u64 = 3600;
/// The time between a failure and the next request, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// The interval between searches for answers to renew. No answer lasts shorter than four times that.
const TICK: Duration = Duration::from_millis(200);
/// The maximum number of log lines about failures per second.
const LOG_LINES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_reply_counts() {
        let reply = Reply::parse(r#"{"follow":true,"expiresIn":3600}"#).unwrap();
        assert!(reply.follow);
        for wrong in [
            "",
            "true",
            r#"[true,60]"#,
            r#"{"follow":true}"#,
            r#"{"expiresIn":60}"#,
            r#"{"follow":"yes","expiresIn":60}"#,
            r#"{"follow":true,"expiresIn":0}"#,
            r#"{"follow":true,"expiresIn":3601}"#,
            r#"{"follow":true,"expiresIn":1.5}"#,
            r#"{"follow":true,"expiresIn":60,"publish":true}"#,
            r#"{"follow":true,"expiresIn":60} {}"#,
        ] {
            assert!(Reply::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn answer_holds_until_its_end_or_a_revocation() {
        let by = Principal::new("7");
        let question = Question::new("orders:7", "orders", [("customer", "7")].into_iter(), &by);
        assert!(
            question.body.contains(r#""parts":{"customer":"7"}"#),
            "{}",
            question.body
        );
        assert!(!question.allows() && !question.denies());
        let now = SystemTime::now();
        let lasts = |may_follow, seconds| Answer {
            may_follow,
            until: now + Duration::from_secs(seconds),
            renewal: now,
            last_use: now,
        };
        *question.latest.lock() = Some(lasts(true, 60));
        assert!(question.allows() && !question.denies());
        *question.latest.lock() = Some(lasts(false, 60));
        assert!(!question.allows() && question.denies());
        *question.latest.lock() = Some(lasts(true, 0));
        assert!(!question.allows() && !question.denies());
        *question.latest.lock() = Some(lasts(true, 60));
        question.is_void.store(true, Ordering::Release);
        assert!(!question.allows() && !question.denies());
    }
}
