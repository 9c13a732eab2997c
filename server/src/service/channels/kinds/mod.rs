//! The declared kinds of channels, checked and ready to match names.
//!
//! No two kinds match the same name, and none matches a room of the server itself, so that the
//! order of kinds does not matter. `pattern` matches names, and `schema` checks data.

mod explaining;
mod pace;
mod pattern;
#[cfg(feature = "schemas")]
mod schema;
#[cfg(not(feature = "schemas"))]
#[path = "schema/no_schema.rs"]
mod schema;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::history::Bounds;
use super::rights::{Grant, Question, Rule, Rules};
use crate::auth::Principal;
use crate::config::{ChannelHook, ChannelKind};
use crate::service::fault::ServiceError;
use crate::service::rules::content::has_placeholder;
use crate::service::rules::policy;
use crate::service::rules::rooms::RoomKind;
pub(crate) use explaining::undeclared_roles;
use pace::Pace;
pub(in crate::service) use pattern::{Pattern, Values};
use schema::{DataSchema, parse};

/// All declared kinds.
#[derive(Debug, Default)]
pub(crate) struct Kinds(Vec<Arc<Kind>>);

/// A declared kind of channels.
#[derive(Debug)]
pub(super) struct Kind {
    /// The name in the configuration.
    pub(super) name: String,
    pattern: Pattern,
    follow: Rules,
    publish: Rules,
    /// The schemas of events by name. If empty, every event of an application is allowed.
    events: BTreeMap<String, DataSchema>,
    /// Whether events are stored.
    pub(super) is_stored: bool,
    /// Whether followers can learn who else follows.
    pub(super) has_presence: bool,
    /// Whether a channel has only its newest event.
    pub(super) is_last: bool,
    /// The maximum number of stored events.
    pub(super) history_events: u32,
    /// How long an event is stored.
    pub(super) history_age: Duration,
    /// The maximum number of stored events of all channels, and of their bytes.
    pub(super) bounds: Bounds,
    /// The maximum size of an event's data as JSON, in bytes.
    pub(super) max_bytes: usize,
    /// The maximum number of followers of a channel at this server.
    pub(super) max_followers: usize,
    /// What webhooks receive of channels of this kind.
    pub(super) hooks: Vec<ChannelHook>,
    /// Limits the events that are published, if the declaration does.
    pub(super) pace: Option<Pace>,
}

/// A wrong declaration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KindFault(pub(in crate::service) String);

impl fmt::Display for KindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KindFault {}

impl Kinds {
    /// Checks the declared kinds.
    ///
    /// # Errors
    ///
    /// The first fault, with its key and a remedy.
    pub(crate) fn new(declared: &BTreeMap<String, ChannelKind>) -> Result<Self, KindFault> {
        let kinds = declared.iter().map(|(name, kind)| Kind::new(name, kind));
        let kinds: Vec<Arc<Kind>> = kinds
            .map(|kind| kind.map(Arc::new))
            .collect::<Result<_, _>>()?;
        for (at, kind) in kinds.iter().enumerate() {
            kind.check_apart(kinds.iter().skip(at + 1).map(|other| &**other))?;
        }
        Ok(Self(kinds))
    }

    /// Returns the kind that a name belongs to, with the variable parts of the name.
    pub(super) fn find<'a>(&self, name: &'a str) -> Option<(Arc<Kind>, Values<'a>)> {
        let mut kinds = self.0.iter();
        kinds.find_map(|kind| Some((Arc::clone(kind), kind.pattern.matches(name)?)))
    }

    /// Checks that rules ask the backend, and kinds use webhooks, only if the server has them.
    ///
    /// # Errors
    ///
    /// The first kind that does, with its key.
    pub(crate) fn check_served(
        &self,
        by_backend: bool,
        by_webhooks: bool,
    ) -> Result<(), KindFault> {
        for kind in &self.0 {
            let (key, remedy) = if kind.asks() && !by_backend {
                ("follow has the rule `ask`", "set ask.url")
            } else if !kind.hooks.is_empty() && !by_webhooks {
                ("webhooks needs a receiver", "set webhooks.url")
            } else {
                continue;
            };
            return Err(KindFault(format!(
                "channels.{}.{key}: {remedy}, and restart a running server",
                kind.name
            )));
        }
        Ok(())
    }

    /// Returns the token claims that rules read.
    pub(super) fn claims(&self) -> Vec<String> {
        let claims = self.0.iter().flat_map(|kind| kind.follow.claims());
        claims.collect()
    }
}

/// Reads the schemas of the events of a declared kind, by event.
///
/// # Errors
///
/// The key and the event of a file that cannot be read.
pub(crate) fn schemas_of(
    name: &str,
    declared: &ChannelKind,
) -> Result<BTreeMap<String, Value>, KindFault> {
    let schemas = declared.events.iter().map(|(event, file)| {
        let schema = parse(file)
            .map_err(|wrong| KindFault(format!("channels.{name}.events has `{event}`: {wrong}")))?;
        Ok((event.clone(), schema))
    });
    schemas.collect()
}

impl Kind {
    fn new(name: &str, declared: &ChannelKind) -> Result<Self, KindFault> {
        let fault = |key: &str, fault: &str| KindFault(format!("channels.{name}.{key} {fault}"));
        let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        if name.len() > MAX_NAME || !name.chars().all(is_letter) {
            return Err(KindFault(format!(
                "channels.{name}: the name of a kind has 1 to {MAX_NAME} characters: lowercase \
                 letters, digits, `_` and `-`"
            )));
        }
        let pattern = Pattern::parse(&declared.pattern);
        let pattern = pattern.map_err(|wrong| fault("pattern", &wrong))?;
        let follow = Rules::follow(&declared.follow, &pattern);
        let follow = follow.map_err(|wrong| fault("follow", &wrong))?;
        let publish = Rules::publish(&declared.publish, &pattern);
        let publish = publish.map_err(|wrong| fault("publish", &wrong))?;
        let history = &declared.history;
        if !(1..=MOST_EVENTS).contains(&history.events) {
            return Err(fault("history.events", "must be from 1 to 10000"));
        }
        if history.age < SHORTEST_AGE || history.age > LONGEST_AGE {
            return Err(fault("history.age", "must be from a minute to 366 days"));
        }
        if history.last && history.none {
            return Err(fault("history", "has both `last` and `none`: remove one"));
        }
        if !(1..=MOST_BYTES).contains(&declared.max_bytes) {
            return Err(fault("max_bytes", "must be from 1 to 262144"));
        }
        if declared.max_followers == 0 {
            return Err(fault("max_followers", "must be 1 or more"));
        }
        let mut events = BTreeMap::new();
        for (event, file) in &declared.events {
            if let Some(wrong) = policy::application_event_fault(event) {
                return Err(fault("events", &format!("has `{event}`, which {wrong}")));
            }
            let schema = DataSchema::open(file);
            let schema =
                schema.map_err(|wrong| fault("events", &format!("has `{event}`: {wrong}")))?;
            events.insert(event.clone(), schema);
        }
        Ok(Self {
            name: name.to_owned(),
            pattern,
            follow,
            publish,
            events,
            is_stored: !history.none,
            has_presence: declared.presence,
            is_last: history.last,
            history_events: if history.last { 1 } else { history.events },
            history_age: history.age,
            bounds: Bounds {
                events: declared.max_stored_events,
                bytes: declared.max_stored_bytes,
            },
            max_bytes: declared.max_bytes,
            max_followers: declared.max_followers,
            hooks: declared.webhooks.clone(),
            pace: Pace::new(declared.publishes_per_second),
        })
    }

    /// Checks that no name belongs to this kind and to another one, or to the server itself.
    fn check_apart<'a>(&self, others: impl Iterator<Item = &'a Self>) -> Result<(), KindFault> {
        let Self { name, pattern, .. } = self;
        let own = RoomKind::patterns().map(|room| (Pattern::of_room(room), None));
        let others = others.map(|other| (other.pattern.clone(), Some(&other.name)));
        for (other, declared_as) in own.chain(others) {
            let Some(common) = pattern.common_name(&other) else {
                continue;
            };
            let place = match declared_as {
                Some(other_name) => format!("channels.{other_name}.pattern `{other}`"),
                None => format!("the server's own channels `{other}`"),
            };
            return Err(KindFault(format!(
                "channels.{name}.pattern `{pattern}` overlaps with {place}: both match `{common}`. \
                 Begin it with another text, such as `{name}:`"
            )));
        }
        Ok(())
    }

    /// Returns whether a user may follow the channel with these parts, perhaps with a token.
    pub(super) fn may_follow(
        &self,
        by: &Principal,
        values: &Values<'_>,
        grant: Option<&Grant>,
    ) -> bool {
        let is_granted = grant.is_some_and(|grant| grant.may_follow(by) && self.takes(grant));
        is_granted || self.follow.any(|rule| rule.allows(by, values))
    }

    /// Returns whether such a grant can give the right to follow.
    pub(super) fn takes(&self, grant: &Grant) -> bool {
        let rule = match grant {
            Grant::Token(_) => Rule::Token,
            Grant::Answer(_) => Rule::Ask,
            Grant::Service(_) => Rule::Services,
        };
        self.follow.has(&rule)
    }

    /// Returns whether the backend decides about users whom no other rule allows to follow.
    pub(super) fn asks(&self) -> bool {
        self.follow.has(&Rule::Ask)
    }

    /// Returns whether services may publish.
    pub(super) fn is_for_services(&self) -> bool {
        self.publish.has(&Rule::Services)
    }

    /// Returns what the backend is asked about a user and the channel with these parts.
    pub(super) fn question(&self, channel: &str, values: &Values<'_>, by: &Principal) -> Question {
        let parts = self.pattern.variables().zip(values.iter().copied());
        Question::new(channel, &self.name, parts, by)
    }

    /// Returns whether a user may read the channel with these parts without following it.
    pub(super) fn may_read(
        &self,
        by: &Principal,
        values: &Values<'_>,
        grant: Option<&Grant>,
    ) -> bool {
        let is_granted = grant.is_some_and(|grant| grant.may_read() && self.takes(grant));
        is_granted || self.may_follow(by, values, grant)
    }

    /// Returns whether a user may publish to the channel with these parts. `is_service` is whether
    /// the user has the permission of services.
    pub(super) fn may_publish(
        &self,
        by: &Principal,
        values: &Values<'_>,
        is_service: bool,
        grant: Option<&Grant>,
    ) -> bool {
        let may_follow = || self.may_follow(by, values, grant);
        let has_token = grant.is_some_and(Grant::may_publish);
        self.publish.any(|rule| {
            has_token && *rule == Rule::Token
                || rule.allows_publishing(by, values, is_service, may_follow)
        })
    }

    /// Checks that an event is declared, and its data. `data` is JSON.
    pub(super) fn check_event(&self, event: &str, data: &str) -> Result<(), ServiceError> {
        if data.len() > self.max_bytes {
            let problem = format!("has more than {} bytes", self.max_bytes);
            return Err(ServiceError::invalid("data", problem));
        }
        let schema = self.events.get(event);
        if schema.is_none() && !self.events.is_empty() {
            let problem = "is not declared for this channel";
            return Err(ServiceError::invalid("event", problem));
        }
        // Lone surrogates and numbers beyond the range of a double make some clients fail to parse
        // the whole event.
        let data: Value = serde_json::from_str(data).map_err(|_| {
            let problem = "has numbers or characters that some clients cannot read, or is nested \
                           too deeply";
            ServiceError::invalid("data", problem)
        })?;
        if has_placeholder(&data) {
            let problem = "has binary data, or a placeholder of binary data";
            return Err(ServiceError::invalid("data", problem));
        }
        schema.map_or(Ok(()), |schema| schema.check(&data))
    }
}

/// The maximum number of characters of a kind's name.
const MAX_NAME: usize = 64;
const MOST_EVENTS: u32 = 10_000;
const SHORTEST_AGE: Duration = Duration::from_secs(60);
const LONGEST_AGE: Duration = Duration::from_secs(366 * 86_400);
/// The largest data of an event. With its frame it stays far below the limit of a client's queue.
const MOST_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, SignalChannel};

    fn orders() -> ChannelKind {
        ChannelKind {
            pattern: "orders:{customer}:{order}".into(),
            follow: vec!["owner:{customer}".into(), "role:support".into()],
            ..ChannelKind::default()
        }
    }

    fn kinds(declared: &[(&str, ChannelKind)]) -> Result<Kinds, String> {
        let declared = declared.iter();
        let declared = declared.map(|(name, kind)| ((*name).to_owned(), kind.clone()));
        Kinds::new(&declared.collect()).map_err(|fault| fault.to_string())
    }

    /// Returns the fault of a changed declaration.
    fn fault(change: impl FnOnce(&mut ChannelKind)) -> String {
        let mut kind = orders();
        change(&mut kind);
        kinds(&[("orders", kind)]).unwrap_err()
    }

    #[test]
    fn name_belongs_to_one_kind_and_its_rules_decide() {
        let open = ChannelKind {
            pattern: "news".into(),
            follow: vec!["anyone".into()],
            publish: vec!["followers".into()],
            ..orders()
        };
        let kinds = kinds(&[("news", open), ("orders", orders())]).unwrap();
        let (ann, bob) = (Principal::new("7"), Principal::new("8"));
        let (found, values) = kinds.find("orders:7:42").unwrap();
        assert!(found.may_follow(&ann, &values, None) && !found.may_follow(&bob, &values, None));
        assert!(
            found.may_publish(&bob, &values, true, None)
                && !found.may_publish(&ann, &values, false, None)
        );
        let (found, values) = kinds.find("news").unwrap();
        assert!(
            found.may_follow(&bob, &values, None) && found.may_publish(&bob, &values, false, None)
        );
        assert!(kinds.find("news:7").is_none() && kinds.find("trades:7").is_none());
    }

    #[test]
    fn rules_about_undeclared_roles_cause_warnings() {
        let kind = ChannelKind {
            follow: ["role:coach", "role:suport", "role:clerk"]
                .map(Into::into)
                .into(),
            publish: vec!["role:suport".into(), "services".into()],
            ..orders()
        };
        let mut settings = Settings::default();
        let roles = &mut settings.auth.roles;
        roles.insert("support".into(), crate::config::Role::default());
        settings.channels.insert("orders".into(), kind);
        settings.market.signals = vec![SignalChannel {
            channel: "gold".into(),
            follow: vec!["role:user".into(), "role:gold".into()],
        }];
        let misspelled = "a role that is not declared: did you mean `role:support`? Otherwise add \
            [auth.roles.suport]";
        assert_eq!(
            undeclared_roles(&settings),
            [
                format!("channels.orders.follow has `role:suport`, {misspelled}"),
                "channels.orders.follow has `role:clerk`, a role that is not declared: add \
                 [auth.roles.clerk]"
                    .to_owned(),
                format!("channels.orders.publish has `role:suport`, {misspelled}"),
                "market.signals[0].follow has `role:gold`, a role that is not declared: add \
                 [auth.roles.gold]"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn faults_name_the_key_and_a_remedy() {
        for (expected, found) in [
            (
                "channels.orders.pattern is missing",
                fault(|kind| kind.pattern.clear()),
            ),
            (
                "channels.orders.follow is empty",
                fault(|kind| kind.follow.clear()),
            ),
            (
                "channels.orders.publish is empty",
                fault(|kind| kind.publish.clear()),
            ),
            (
                "channels.orders.follow has `owner:{custmer}`, and `{custmer}` is no part of the \
                 pattern: did you mean `{customer}`?",
                fault(|kind| kind.follow.push("owner:{custmer}".into())),
            ),
            (
                "channels.orders.publish has the unknown rule `service`: did you mean `services`?",
                fault(|kind| kind.publish = vec!["service".into()]),
            ),
            (
                "channels.orders.follow has more than 32 rules",
                fault(|kind| kind.follow = vec!["users".into(); 33]),
            ),
            (
                "channels.orders.history.events must be from 1 to 10000",
                fault(|kind| kind.history.events = 0),
            ),
            (
                "channels.orders.history.age must be from a minute to 366 days",
                fault(|kind| kind.history.age = Duration::from_secs(59)),
            ),
            (
                "channels.orders.max_bytes must be from 1 to 262144",
                fault(|kind| kind.max_bytes = (256 << 10) + 1),
            ),
            (
                "channels.orders.pattern `trades:{id}` overlaps with the server's own channels \
                 `trades:{userId}`: both match `trades:id`.",
                fault(|kind| {
                    kind.pattern = "trades:{id}".into();
                    kind.follow = vec!["users".into()];
                }),
            ),
        ] {
            assert!(found.starts_with(expected), "{found}");
        }
        let found = kinds(&[("Orders", orders())]).unwrap_err();
        assert!(
            found.starts_with("channels.Orders: the name of a kind"),
            "{found}"
        );
    }

    #[test]
    fn overlapping_kinds_are_refused_with_a_common_name() {
        let archive = ChannelKind {
            pattern: "orders:archive:{year}".into(),
            follow: vec!["users".into()],
            ..ChannelKind::default()
        };
        let found = kinds(&[("archive", archive), ("orders", orders())]).unwrap_err();
        assert_eq!(
            found,
            "channels.archive.pattern `orders:archive:{year}` overlaps with \
             channels.orders.pattern `orders:{customer}:{order}`: both match \
             `orders:archive:year`. Begin it with another text, such as `archive:`"
        );
    }

    #[test]
    fn claims_of_all_rules_are_listed() {
        let mut kind = orders();
        kind.follow = ["claim:customers={customer}", "users", "claim:staff"]
            .map(str::to_owned)
            .into();
        let kinds = kinds(&[("orders", kind)]).unwrap();
        assert_eq!(kinds.claims(), ["customers", "staff"]);
    }
}
