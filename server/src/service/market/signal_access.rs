//! Who may follow channels of signals, by the rules of declared channels.

use crate::auth::Principal;
use crate::config::SignalChannel;
use crate::service::channels::{KindFault, Pattern, Rule, Rules};
use crate::service::journals::CategoryRule;

/// The entries of `market.signals`.
#[derive(Debug, Default)]
pub(crate) struct SignalAccess(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    channel: String,
    /// Whether `channel` is a prefix of channel names.
    is_prefix: bool,
    follow: Rules,
}

impl SignalAccess {
    /// Checks the entries.
    ///
    /// # Errors
    ///
    /// The first fault, with its key and a remedy.
    pub(crate) fn new(declared: &[SignalChannel]) -> Result<Self, KindFault> {
        if declared.len() > MAX_ENTRIES {
            let fault = format!("market.signals has more than {MAX_ENTRIES} entries");
            return Err(KindFault(fault));
        }
        let entries = declared.iter().enumerate().map(|(n, entry)| {
            let fault = |wrong| KindFault(format!("market.signals[{n}].{wrong}"));
            Entry::new(entry).map_err(fault)
        });
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the token claims that rules read.
    pub(crate) fn claims(&self) -> Vec<String> {
        let entries = self.0.iter();
        entries.flat_map(|entry| entry.follow.claims()).collect()
    }

    /// Returns who may follow signals, or `None` if every client may.
    pub(super) fn rule(self) -> Option<CategoryRule> {
        let is_open = self.0.is_empty();
        (!is_open)
            .then(|| Box::new(move |by: &_, channel: Option<&_>| self.allows(by, channel)) as _)
    }

    /// Returns whether a user may follow a channel. All signals (`None`) require that every entry
    /// allows the user.
    fn allows(&self, by: &Principal, channel: Option<&str>) -> bool {
        let mut entries = self.0.iter();
        match channel {
            Some(name) => entries
                .find(|entry| entry.is_about(name))
                .is_none_or(|entry| entry.allows(by, channel)),
            None => entries.all(|entry| entry.allows(by, None)),
        }
    }
}

impl Entry {
    /// Checks an entry. The error states what is wrong, to be appended to its place.
    fn new(declared: &SignalChannel) -> Result<Self, String> {
        let SignalChannel { channel, follow } = declared;
        let prefix = channel.strip_suffix('*');
        let name = prefix.unwrap_or(channel);
        if channel.is_empty() || name.contains('*') {
            return Err(
                "channel must be the name of a channel, or a prefix followed by `*`".into(),
            );
        }
        let pattern = Pattern::parse("{channel}")?;
        let follow = Rules::follow(follow, &pattern).map_err(|wrong| format!("follow {wrong}"))?;
        let of_grants = |rule: &_| {
            use Rule::{Ask, Services, Token};
            matches!(rule, Token | Ask | Services)
        };
        if let Some(rule) = follow.find(of_grants) {
            return Err(format!(
                "follow has `{rule}`, which only declared channels have: signals have `anyone`, \
                 `users`, `owner:{{channel}}`, `role:NAME`, `claim:NAME` and \
                 `claim:NAME={{channel}}`"
            ));
        }
        Ok(Self {
            channel: name.to_owned(),
            is_prefix: prefix.is_some(),
            follow,
        })
    }

    /// Returns whether the entry applies to a channel.
    fn is_about(&self, channel: &str) -> bool {
        if self.is_prefix {
            channel.starts_with(&self.channel)
        } else {
            channel == self.channel
        }
    }

    /// Returns whether a user may follow a channel of the entry, or all of them.
    fn allows(&self, by: &Principal, channel: Option<&str>) -> bool {
        let values = channel.into_iter().collect();
        self.follow
            .any(|rule| rule.allows_all(by) || rule.allows(by, &values))
    }
}

/// The maximum number of entries.
const MAX_ENTRIES: usize = 100;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with(data: &Value) -> Principal {
        let mut by = Principal::new("ann").with_role("user");
        by.data = Some(data.to_string().into());
        by
    }

    fn access(entries: &[(&str, &[&str])]) -> Result<SignalAccess, String> {
        let entries = entries.iter().map(|(channel, follow)| SignalChannel {
            channel: (*channel).to_owned(),
            follow: follow.iter().map(|&rule| rule.to_owned()).collect(),
        });
        SignalAccess::new(&entries.collect::<Vec<_>>()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn first_matching_entry_decides_and_all_signals_require_every_entry() {
        let access = access(&[
            ("gold", &["role:premium"]),
            ("vip-*", &["claim:channels={channel}"]),
            ("open", &["anyone"]),
            ("a:=b", &["owner:{channel}", "role:premium"]),
            ("*", &["users"]),
        ])
        .unwrap();
        assert_eq!(access.claims(), ["channels"]);
        let none = Principal::new("bob").with_role("user");
        let premium = Principal::new("carl").with_role("premium");
        let vip = with(&json!({"channels": ["vip-1"]}));
        let guest = Principal::guest("guest:1", "Guest");
        let owner = Principal::new("a:=b").with_role("user");
        let mut both = with(&json!({"channels": "*"}));
        both.roles.push("premium".into());
        for (by, allowed) in [
            (&none, ["open", "oil"].as_slice()),
            (&premium, &["gold", "open", "a:=b", "oil"]),
            (&vip, &["vip-1", "open", "oil"]),
            (&guest, &["open"]),
            (&owner, &["open", "a:=b", "oil"]),
            (&both, &["gold", "vip-1", "vip-2", "open", "a:=b", "oil"]),
        ] {
            for channel in ["gold", "vip-1", "vip-2", "open", "a:=b", "oil"] {
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
                allowed.len() == 6,
                "{}",
                by.subject
            );
        }
        let open = SignalAccess::default();
        assert!(open.allows(&guest, None) && open.allows(&guest, Some("gold")));
        assert!(open.rule().is_none() && access.rule().is_some());
    }

    #[test]
    fn claim_is_true_or_names_the_channel_or_all() {
        let by_channel = access(&[("*", &["claim:channels={channel}"])]).unwrap();
        let by_flag = access(&[("*", &["claim:channels"])]).unwrap();
        for (claim, one, all) in [
            (json!(true), true, true),
            (json!("gold"), true, false),
            (json!("*"), true, true),
            (json!(["oil", "gold"]), true, false),
            (json!(["*"]), true, true),
            (json!(false), false, false),
            (json!("oil gold"), false, false),
            (json!(["oil", 7]), false, false),
            (json!([["gold"]]), false, false),
            (json!({"gold": true}), false, false),
            (json!(1), false, false),
            (Value::Null, false, false),
        ] {
            let by = with(&json!({ "channels": claim }));
            let found = [Some("gold"), None].map(|channel| by_channel.allows(&by, channel));
            assert_eq!(found, [one, all], "{claim}");
            let found = [Some("gold"), None].map(|channel| by_flag.allows(&by, channel));
            assert_eq!(found, [claim == true; 2], "{claim}");
        }
        assert!(!by_channel.allows(&with(&json!({"other": true})), Some("gold")));
    }

    #[test]
    fn faults_name_the_key_and_a_remedy() {
        let possible = "which only declared channels have: signals have `anyone`, `users`, \
            `owner:{channel}`, `role:NAME`, `claim:NAME` and `claim:NAME={channel}`";
        for (channel, follow, expected) in [
            (
                "gold",
                vec!["token"],
                format!("follow has `token`, {possible}"),
            ),
            (
                "gold",
                vec!["users", "ask"],
                format!("follow has `ask`, {possible}"),
            ),
            (
                "gold",
                vec!["services"],
                format!("follow has `services`, {possible}"),
            ),
            (
                "gold",
                vec![],
                "follow is empty: set it to `users`, for example".into(),
            ),
            (
                "gold",
                vec!["user"],
                "follow has the unknown rule `user`: did you mean `users`?".into(),
            ),
            (
                "gold",
                vec!["claim:channels={chanel}"],
                "follow has `claim:channels={chanel}`, and `{chanel}` is no part of the pattern: \
                 did you mean `{channel}`?"
                    .into(),
            ),
            (
                "gold",
                vec!["users"; 33],
                "follow has more than 32 rules".into(),
            ),
            (
                "",
                vec!["users"],
                "channel must be the name of a channel".into(),
            ),
            (
                "g*d",
                vec!["users"],
                "channel must be the name of a channel".into(),
            ),
        ] {
            let found = access(&[("oil", &["users"]), (channel, &follow)]).unwrap_err();
            let expected = format!("market.signals[1].{expected}");
            assert!(found.starts_with(&expected), "{found}");
        }
        let many = vec![("oil", ["users"].as_slice()); MAX_ENTRIES + 1];
        let found = access(&many).unwrap_err();
        assert_eq!(found, "market.signals has more than 100 entries");
    }
}
