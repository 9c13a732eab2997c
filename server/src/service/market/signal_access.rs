//! Access rules for channels of signals.

use serde_json::{Map, Value};

use crate::auth::{Principal, roles_of};
use crate::config::{self, SignalAudience, SignalRule};
use crate::service::journals::CategoryRule;

/// Returns who may follow signals, or `None` if every client may.
pub(super) fn rule(config: &config::Market) -> Option<CategoryRule> {
    let access = SignalAccess::new(config);
    let is_open = access.0.is_empty();
    let rule = move |by: &Principal, channel: Option<&str>| access.allows(by, channel);
    (!is_open).then(|| Box::new(rule) as CategoryRule)
}

/// The rules of `market.signal_access`.
struct SignalAccess(Vec<SignalRule>);

impl SignalAccess {
    fn new(config: &config::Market) -> Self {
        Self(config.signal_rules())
    }

    /// Returns whether a user may follow a channel. All signals (`None`) require that every rule
    /// allows the user.
    fn allows(&self, by: &Principal, channel: Option<&str>) -> bool {
        let mut rules = self.0.iter();
        match channel {
            Some(name) => rules
                .find(|rule| rule.is_about(name))
                .is_none_or(|rule| fits(&rule.who, by, channel)),
            None => rules.all(|rule| fits(&rule.who, by, None)),
        }
    }
}

fn fits(who: &SignalAudience, by: &Principal, channel: Option<&str>) -> bool {
    match who {
        SignalAudience::Everyone => true,
        SignalAudience::Users => !by.guest,
        SignalAudience::Role(role) => roles_of(by).any(|own| own == role),
        SignalAudience::Claim(name) => claim(by, name).is_some_and(|claim| names(&claim, channel)),
    }
}

/// Returns a claim of the user's token, or a field of the login session's data.
fn claim(by: &Principal, name: &str) -> Option<Value> {
    let data: Map<String, Value> = serde_json::from_str(by.data.as_deref()?).ok()?;
    data.get(name).cloned()
}

/// Returns whether a claim grants a channel, or all channels.
fn names(claim: &Value, channel: Option<&str>) -> bool {
    let is_meant = |text: &str| text == ALL || channel == Some(text);
    match claim {
        Value::Bool(is_granted) => *is_granted,
        Value::String(text) => is_meant(text),
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).any(is_meant),
        Value::Null | Value::Number(_) | Value::Object(_) => false,
    }
}

/// The value of a claim that grants every channel.
const ALL: &str = "*";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(data: &Value) -> Principal {
        let mut by = Principal::new("ann").with_role("user");
        by.data = Some(data.to_string().into());
        by
    }

    #[test]
    fn first_matching_rule_decides_and_all_signals_require_every_rule() {
        let rules = [
            "gold=role:premium",
            "vip-*=claim:channels",
            "open=everyone",
            "*=users",
        ];
        let access = SignalAccess::new(&config::Market {
            signal_access: rules.map(str::to_owned).to_vec(),
            ..config::Market::default()
        });
        let none = Principal::new("bob").with_role("user");
        let premium = Principal::new("carl").with_role("premium");
        let vip = with(&json!({"channels": ["vip-1"]}));
        let guest = Principal::guest("guest:1", "Guest");
        let mut both = with(&json!({"channels": "*"}));
        both.roles.push("premium".into());
        for (by, allowed) in [
            (&none, ["open", "oil"].as_slice()),
            (&premium, &["gold", "open", "oil"]),
            (&vip, &["vip-1", "open", "oil"]),
            (&guest, &["open"]),
            (&both, &["gold", "vip-1", "vip-2", "open", "oil"]),
        ] {
            for channel in ["gold", "vip-1", "vip-2", "open", "oil"] {
                let expected = allowed.contains(&channel);
                assert_eq!(
                    access.allows(by, Some(channel)),
                    expected,
                    "{} {channel}",
                    by.subject
                );
            }
            assert_eq!(
                access.allows(by, None),
                allowed.len() == 5,
                "{}",
                by.subject
            );
        }
        let open = SignalAccess::new(&config::Market::default());
        assert!(open.allows(&guest, None) && open.allows(&guest, Some("gold")));
    }

    #[test]
    fn a_claim_is_true_or_names_the_channel() {
        for (claim, expected) in [
            (json!(true), true),
            (json!("gold"), true),
            (json!("*"), true),
            (json!(["oil", "gold"]), true),
            (json!(["*"]), true),
            (json!(false), false),
            (json!("oil gold"), false),
            (json!(["oil", 7]), false),
            (json!([["gold"]]), false),
            (json!({"gold": true}), false),
            (json!(1), false),
            (Value::Null, false),
        ] {
            let who = SignalAudience::Claim("channels".into());
            let by = with(&json!({ "channels": claim }));
            assert_eq!(fits(&who, &by, Some("gold")), expected, "{claim}");
            assert!(!fits(&who, &with(&json!({"other": true})), Some("gold")));
        }
    }
}
