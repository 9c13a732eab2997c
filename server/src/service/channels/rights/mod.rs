//! Rules about who may follow a channel and who may publish to it.
//!
//! A rule sees the principal and the variable parts of the channel's name. `grants` are rights that
//! a backend has given, in tokens or in the answers of `asking`. This module must not know sockets.

mod asking;
mod grants;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::kinds::{Pattern, Values};
use crate::auth::{Principal, roles_of};
pub(crate) use asking::Asker;
pub(super) use asking::Question;
pub(super) use grants::{Grant, TokenGrant, refused};

/// The rules of one key, of which one is enough, each with its text in the configuration.
#[derive(Debug)]
pub(in crate::service) struct Rules(Vec<(Rule, String)>);

/// A rule about who may follow, or who may publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) enum Rule {
    /// All clients, also guests.
    Anyone,
    /// All clients except guests.
    Users,
    /// The user whose id is this part of the name.
    Owner(usize),
    /// Users with this role.
    Role(String),
    /// Users whose token has this claim, with this part of the name or with `true`.
    Claim(String, Option<usize>),
    /// Users with a token for the channel.
    Token,
    /// Clients that the backend allows it.
    Ask,
    /// Users whose sockets a service subscribes, or publishers with the permission.
    Services,
    /// Publishers that may follow.
    Followers,
}

impl Rules {
    /// Parses rules about following. The error states what is wrong, to be appended to the key.
    pub(in crate::service) fn follow(texts: &[String], pattern: &Pattern) -> Result<Self, String> {
        Self::new(texts, pattern, "users", &FOLLOW_RULES)
    }

    /// Parses rules about publishing. The error states what is wrong, to be appended to the key.
    pub(super) fn publish(texts: &[String], pattern: &Pattern) -> Result<Self, String> {
        Self::new(texts, pattern, "services", &PUBLISH_RULES)
    }

    fn new(
        texts: &[String],
        pattern: &Pattern,
        example: &str,
        forms: &[&str],
    ) -> Result<Self, String> {
        if texts.is_empty() {
            return Err(format!("is empty: set it to `{example}`, for example"));
        }
        if texts.len() > MAX_RULES {
            return Err(format!("has more than {MAX_RULES} rules"));
        }
        let rules = texts.iter();
        let rules = rules.map(|text| Ok((Rule::parse(text, pattern, forms)?, text.clone())));
        rules.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the text of the first rule that a condition holds for.
    pub(in crate::service) fn find(&self, mut holds: impl FnMut(&Rule) -> bool) -> Option<&str> {
        let found = self.0.iter().find(|(rule, _)| holds(rule));
        found.map(|(_, text)| &**text)
    }

    /// Returns whether a condition holds for a rule.
    pub(in crate::service) fn any(&self, holds: impl FnMut(&Rule) -> bool) -> bool {
        self.find(holds).is_some()
    }

    /// Returns whether this is one of the rules.
    pub(super) fn has(&self, rule: &Rule) -> bool {
        self.any(|own| own == rule)
    }

    /// Returns the texts of the rules.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|(_, text)| &**text).collect()
    }

    /// Returns the token claims that the rules read.
    pub(in crate::service) fn claims(&self) -> impl Iterator<Item = String> {
        let rules = self.0.iter().map(|(rule, _)| rule);
        rules.filter_map(|rule| {
            if let Rule::Claim(name, _) = rule {
                return Some(name.clone());
            }
            None
        })
    }
}

impl Rule {
    /// Parses a rule of one of these forms. The error states what is wrong, to be appended to the
    /// key.
    fn parse(rule: &str, pattern: &Pattern, forms: &[&str]) -> Result<Self, String> {
        let claim = |text: &str| match text.split_once('=') {
            Some((name, part)) if !name.is_empty() => {
                Some(position(rule, part, pattern).map(|at| Self::Claim(name.into(), Some(at))))
            }
            None if !text.is_empty() => Some(Ok(Self::Claim(text.into(), None))),
            Some(_) | None => None,
        };
        let is_named = |text: &str| text.split(':').next() == rule.split(':').next();
        let parsed = match rule.split_once(':') {
            None | Some(_) if !forms.iter().any(|form| is_named(form)) => None,
            None if rule == "anyone" => Some(Ok(Self::Anyone)),
            None if rule == "users" => Some(Ok(Self::Users)),
            None if rule == "token" => Some(Ok(Self::Token)),
            None if rule == "ask" => Some(Ok(Self::Ask)),
            None if rule == "services" => Some(Ok(Self::Services)),
            None if rule == "followers" => Some(Ok(Self::Followers)),
            Some(("owner", part)) => Some(position(rule, part, pattern).map(Self::Owner)),
            Some(("role", name)) if !name.is_empty() => Some(Ok(Self::Role(name.into()))),
            Some(("claim", text)) => claim(text),
            None | Some(_) => None,
        };
        parsed.unwrap_or_else(|| Err(unknown(rule, forms)))
    }

    /// Returns whether the rule allows a user to follow the channel with these parts. Tokens and
    /// answers are checked elsewhere.
    pub(in crate::service) fn allows(&self, by: &Principal, values: &Values<'_>) -> bool {
        match self {
            Self::Anyone => true,
            Self::Users => !by.guest,
            // The identity of a guest is not verified.
            Self::Owner(part) => {
                !by.guest && values.get(*part).is_some_and(|value| *value == by.subject)
            }
            Self::Role(role) => roles_of(by).any(|own| own == role),
            Self::Claim(name, part) => {
                let value = part.map(|part| values.get(part).copied().unwrap_or_default());
                claim(by, name).is_some_and(|claim| grants(&claim, value))
            }
            Self::Token | Self::Ask | Self::Services | Self::Followers => false,
        }
    }

    /// Returns whether the rule allows a user to follow every channel of a pattern. A claim with the
    /// value `true` or `*` stands for all parts.
    pub(in crate::service) fn allows_all(&self, by: &Principal) -> bool {
        let Self::Claim(name, Some(_)) = self else {
            return self.allows(by, &Values::new());
        };
        let is_all = |claim: &Value| grants(claim, None) || grants(claim, Some("*"));
        claim(by, name).as_ref().is_some_and(is_all)
    }

    /// Returns whether the rule allows a user to publish. `is_service` is whether the caller has
    /// the permission, `may_follow` whether it may follow the channel.
    pub(super) fn allows_publishing(
        &self,
        by: &Principal,
        values: &Values<'_>,
        is_service: bool,
        may_follow: impl FnOnce() -> bool,
    ) -> bool {
        match self {
            Self::Services => is_service,
            Self::Followers => may_follow(),
            Self::Anyone
            | Self::Users
            | Self::Owner(_)
            | Self::Role(_)
            | Self::Claim(..)
            | Self::Token
            | Self::Ask => self.allows(by, values),
        }
    }
}

/// Returns a claim of the user's token, or a field of the login session's data.
pub(super) fn claim(by: &Principal, name: &str) -> Option<Value> {
    let data: Map<String, Value> = serde_json::from_str(by.data.as_deref()?).ok()?;
    data.get(name).cloned()
}

/// Returns whether a claim is `true`, or if there is a value, whether it is that value or a list
/// with it. A whole number counts as its decimal digits.
fn grants(claim: &Value, value: Option<&str>) -> bool {
    let Some(value) = value else {
        return *claim == Value::Bool(true);
    };
    let is_value = |claim: &Value| match claim {
        Value::String(text) => text == value,
        Value::Number(number) => !number.is_f64() && number.to_string() == value,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    match claim.as_array() {
        Some(claims) => claims.iter().any(is_value),
        None => is_value(claim),
    }
}

/// Returns the position of the part that a rule names in braces.
fn position(rule: &str, part: &str, pattern: &Pattern) -> Result<usize, String> {
    let name = part
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let position = name.and_then(|name| pattern.position(name));
    position.ok_or_else(|| {
        let known: BTreeSet<String> = pattern
            .variables()
            .map(|name| format!("{{{name}}}"))
            .collect();
        let nearest = nearest(part, known.iter().map(String::as_str));
        let remedy = match nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "the pattern has no variable part".to_owned(),
        };
        format!("has `{rule}`, and `{part}` is no part of the pattern: {remedy}")
    })
}

fn unknown(rule: &str, known: &[&str]) -> String {
    let nearest = nearest(rule, known.iter().copied()).unwrap_or_default();
    format!("has the unknown rule `{rule}`: did you mean `{nearest}`?")
}

/// Returns the most similar of some texts.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let similarities = known.map(|known| (strsim::jaro_winkler(known, text), known));
    let nearest = similarities.max_by(|(one, _), (other, _)| one.total_cmp(other));
    nearest.map(|(_, known)| known)
}

/// The maximum number of rules of one key.
const MAX_RULES: usize = 32;
/// The forms of rules about following.
const FOLLOW_RULES: [&str; 8] = [
    "anyone",
    "users",
    "owner:{part}",
    "role:NAME",
    "claim:NAME={part}",
    "token",
    "ask",
    "services",
];
/// The forms of rules about publishing.
const PUBLISH_RULES: [&str; 5] = [
    "services",
    "followers",
    "owner:{part}",
    "role:NAME",
    "token",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn follow(rule: &str) -> Result<Rule, String> {
        let pattern = Pattern::parse("orders:{customer}:{order}").unwrap();
        Rule::parse(rule, &pattern, &FOLLOW_RULES)
    }

    fn with(data: &Value) -> Principal {
        let mut by = Principal::new("7").with_role("user");
        by.data = Some(data.to_string().into());
        by
    }

    #[test]
    fn rules_about_following_compare_the_user_with_the_name() {
        let ann = Principal::new("7").with_role("user");
        let bob = Principal::new("8").with_role("support");
        let guest = Principal::guest("7", "Guest");
        let data = with(&json!({"customer": "7", "staff": true}));
        for (rule, allowed) in [
            ("anyone", [true, true, true, true]),
            ("users", [true, true, false, true]),
            ("owner:{customer}", [true, false, false, true]),
            ("owner:{order}", [false, false, false, false]),
            ("role:support", [false, true, false, false]),
            ("role:guest", [false, false, true, false]),
            ("claim:customer={customer}", [false, false, false, true]),
            ("claim:customer={order}", [false, false, false, false]),
            ("claim:staff", [false, false, false, true]),
            ("claim:customer", [false, false, false, false]),
        ] {
            let rule = follow(rule).unwrap();
            let values = vec!["7", "42"];
            for (by, allowed) in [&ann, &bob, &guest, &data].into_iter().zip(allowed) {
                assert_eq!(rule.allows(by, &values), allowed, "{rule:?} {}", by.subject);
            }
        }
    }

    #[test]
    fn claim_is_the_part_or_a_list_with_it() {
        let rule = follow("claim:orders={order}").unwrap();
        for (claim, expected) in [
            (json!("42"), true),
            (json!(42), true),
            (json!(["1", "42"]), true),
            (json!([42]), true),
            (json!(true), false),
            (json!("*"), false),
            (json!(42.5), false),
            (json!([["42"]]), false),
            (json!({"42": true}), false),
            (Value::Null, false),
        ] {
            let by = with(&json!({"orders": claim}));
            assert_eq!(rule.allows(&by, &vec!["7", "42"]), expected, "{claim}");
        }
    }

    #[test]
    fn wrong_rules_are_refused_with_the_nearest_right_one() {
        let pattern = Pattern::parse("orders:{customer}:{order}").unwrap();
        for (rule, nearest) in [
            ("user", "did you mean `users`?"),
            ("any", "did you mean `anyone`?"),
            ("", "did you mean"),
            ("role:", "did you mean `role:NAME`?"),
            ("claim:", "did you mean `claim:NAME={part}`?"),
            ("owner:{custmer}", "did you mean `{customer}`?"),
            ("owner:customer", "did you mean `{customer}`?"),
            ("claim:o={ordr}", "did you mean `{order}`?"),
        ] {
            let fault = follow(rule).unwrap_err();
            assert!(fault.contains(nearest), "{rule}: {fault}");
        }
        for (rule, nearest) in [
            ("service", "did you mean `services`?"),
            ("anyone", "did you mean"),
            ("claim:x={ordr}", "did you mean"),
            ("owner:{ordr}", "did you mean `{order}`?"),
        ] {
            let fault = Rule::parse(rule, &pattern, &PUBLISH_RULES).unwrap_err();
            assert!(fault.contains(nearest), "{rule}: {fault}");
        }
        let none = Pattern::parse("news").unwrap();
        let fault = Rule::parse("owner:{x}", &none, &FOLLOW_RULES).unwrap_err();
        assert!(fault.contains("no variable part"), "{fault}");
    }

    #[test]
    fn rules_about_publishing_use_the_permission_and_the_right_to_follow() {
        let pattern = Pattern::parse("orders:{customer}").unwrap();
        let ann = Principal::new("7").with_role("user");
        for (rule, is_service, may_follow, allowed) in [
            ("services", true, false, true),
            ("services", false, true, false),
            ("followers", false, true, true),
            ("followers", true, false, false),
            ("owner:{customer}", false, false, true),
            ("role:user", false, false, true),
            ("role:admin", true, true, false),
        ] {
            let rule = Rule::parse(rule, &pattern, &PUBLISH_RULES).unwrap();
            let found = rule.allows_publishing(&ann, &vec!["7"], is_service, || may_follow);
            assert_eq!(found, allowed, "{rule:?}");
        }
    }
}
