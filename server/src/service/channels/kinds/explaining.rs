//! Which rule of a kind decides about a user, and which rules may match no user.

use super::Kinds;
use crate::auth::Principal;
use crate::config::Settings;
use crate::service::channels::rights::{Rule, nearest};
use crate::service::rules::commands::channels::CHANNEL_PUBLISH;

impl Kinds {
    /// Returns whether a user may send an event about a channel, and the rule that decides. A token
    /// of a request is not known.
    pub(crate) fn explain(
        &self,
        by: &Principal,
        event: &str,
        channel: &str,
        is_service: bool,
    ) -> (bool, String) {
        let Some((kind, values)) = self.find(channel) else {
            return (false, "no kind of channels has this name".to_owned());
        };
        let (key, deciding, mut asked) = if event == CHANNEL_PUBLISH.policy().event {
            let may_follow = || kind.may_follow(by, &values, None);
            let allows = |rule: &Rule| rule.allows_publishing(by, &values, is_service, may_follow);
            ("publish", kind.publish.find(allows), kind.publish.texts())
        } else {
            let allows = |rule: &Rule| rule.allows(by, &values);
            ("follow", kind.follow.find(allows), kind.follow.texts())
        };
        let place = format!("channels.{}.{key}", kind.name);
        if let Some(rule) = deciding {
            return (true, format!("`{rule}` in {place}"));
        }
        let texts = asked.join("`, `");
        if asked.contains(&"followers") {
            asked.extend(kind.follow.texts());
        }
        let note = if asked.contains(&"ask") {
            "; the backend may"
        } else if asked.contains(&"token") {
            "; a token of the request may"
        } else if by.data.is_none() && asked.iter().any(|text| text.starts_with("claim:")) {
            "; the claims of the user's token are not known"
        } else {
            ""
        };
        (
            false,
            format!("none of `{texts}` in {place} allows it{note}"),
        )
    }
}

/// Returns a warning for each rule about a role that is not declared. Tokens may have such a role,
/// so the rule is not refused, but its name may be misspelled.
pub(crate) fn undeclared_roles(settings: &Settings) -> Vec<String> {
    let kinds = settings.channels.iter().flat_map(|(name, kind)| {
        let keys = [("follow", &kind.follow), ("publish", &kind.publish)];
        keys.map(|(key, rules)| (format!("channels.{name}.{key}"), rules))
    });
    let signals = settings.market.signals.iter().enumerate();
    let signals = signals.map(|(n, one)| (format!("market.signals[{n}].follow"), &one.follow));
    let declared = &settings.auth.roles;
    let mut warnings = Vec::new();
    for (key, rules) in kinds.chain(signals) {
        for text in rules {
            let role = text.strip_prefix("role:");
            let Some(role) = role.filter(|role| !declared.contains_key(*role)) else {
                continue;
            };
            let similar = nearest(role, declared.keys().map(String::as_str))
                .filter(|nearest| strsim::jaro_winkler(nearest, role) > SIMILAR)
                .map(|nearest| format!("did you mean `role:{nearest}`? Otherwise "))
                .unwrap_or_default();
            warnings.push(format!(
                "{key} has `{text}`, a role that is not declared: {similar}add [auth.roles.{role}]"
            ));
        }
    }
    warnings
}

/// Minimum similarity of a role whose name was probably meant.
const SIMILAR: f64 = 0.8;
