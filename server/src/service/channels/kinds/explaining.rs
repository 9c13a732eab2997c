//! Which rule of a kind decides about a user, and which rules may match no user.

use std::collections::BTreeMap;

use super::{Kinds, Worded};
use crate::auth::Principal;
use crate::config::Role;
use crate::service::channels::rights::{FollowRule, PublishRule, nearest};
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
        let (key, (deciding, texts)) = if event == CHANNEL_PUBLISH.policy().event {
            let may_follow = || kind.may_follow(by, &values, None);
            let allows = |rule: &PublishRule| rule.allows(by, &values, is_service, may_follow);
            ("publish", decide(&kind.publish, allows))
        } else {
            let allows = |rule: &FollowRule| rule.allows(by, &values);
            ("follow", decide(&kind.follow, allows))
        };
        let place = format!("channels.{}.{key}", kind.name);
        if let Some(rule) = deciding {
            return (true, format!("`{rule}` in {place}"));
        }
        let mut asked = texts.clone();
        if texts.contains(&"followers") {
            asked.extend(kind.follow.iter().map(|one| &*one.text));
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
        let texts = texts.join("`, `");
        (
            false,
            format!("none of `{texts}` in {place} allows it{note}"),
        )
    }

    /// Returns a warning for each rule about a role that is not declared. Tokens may have such a
    /// role, so the rule is not refused, but its name may be misspelled.
    pub(crate) fn undeclared_roles(&self, declared: &BTreeMap<String, Role>) -> Vec<String> {
        let rules = self.0.iter().flat_map(|kind| {
            let follow = kind.follow.iter().map(|one| ("follow", &one.text));
            let publish = kind.publish.iter().map(|one| ("publish", &one.text));
            let rules = follow.chain(publish);
            rules.map(|(key, text)| (&kind.name, key, text))
        });
        let warnings = rules.filter_map(|(kind, key, text)| {
            let role = text.strip_prefix("role:")?;
            if declared.contains_key(role) {
                return None;
            }
            let similar = nearest(role, declared.keys().map(String::as_str))
                .filter(|nearest| strsim::jaro_winkler(nearest, role) > SIMILAR)
                .map(|nearest| format!("did you mean `role:{nearest}`? Otherwise "))
                .unwrap_or_default();
            Some(format!(
                "channels.{kind}.{key} has `{text}`, a role that is not declared: {similar}add \
                 [auth.roles.{role}]"
            ))
        });
        warnings.collect()
    }
}

/// Minimum similarity of a role whose name was probably meant.
const SIMILAR: f64 = 0.8;

/// Returns the text of the first rule that allows, if there is one, and those of all rules.
fn decide<R>(rules: &[Worded<R>], allows: impl Fn(&R) -> bool) -> (Option<&str>, Vec<&str>) {
    let deciding = rules.iter().find(|one| allows(&one.rule));
    let texts = rules.iter().map(|one| &*one.text).collect();
    (deciding.map(|one| &*one.text), texts)
}
