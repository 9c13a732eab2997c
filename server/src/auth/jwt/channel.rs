//! The claim of tokens for channels, which a backend gives to one user.

use serde::Deserialize;
use serde_json::Value;

use crate::auth::AuthFault;

/// The claim `channel`: the channels, or the patterns of channels, for which the user has a right.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelRights {
    /// To follow, and to read the events.
    pub(crate) follow: Option<String>,
    /// To publish.
    pub(crate) publish: Option<String>,
    /// To read the events without following.
    pub(crate) history: Option<String>,
}

impl ChannelRights {
    /// Returns the rights of a claim. A claim without any right is one of the application's own.
    ///
    /// # Errors
    ///
    /// If a claim with a right has another form. Such a token is good for nothing.
    pub(super) fn of(claim: &Value) -> Result<Option<Self>, AuthFault> {
        let fields = claim.as_object();
        let has = |right| fields.is_some_and(|fields| fields.contains_key(right));
        if !["follow", "publish", "history"].into_iter().any(has) {
            return Ok(None);
        }
        let rights = Self::deserialize(claim).map_err(|_| AuthFault::ChannelClaim)?;
        let Self {
            follow,
            publish,
            history,
        } = &rights;
        if follow.is_none() && publish.is_none() && history.is_none() {
            return Err(AuthFault::ChannelClaim);
        }
        Ok(Some(rights))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_claim_with_rights_makes_a_token_one_for_channels() {
        let rights = ChannelRights::of(&json!({"follow": "orders:7:42"}));
        let rights = rights.unwrap().unwrap();
        assert_eq!(rights.follow.as_deref(), Some("orders:7:42"));
        assert_eq!((rights.publish, rights.history), (None, None));
        for own in [
            json!("orders:7:42"),
            json!({}),
            json!({"name": "x"}),
            json!(["orders:7:42", null, null]),
        ] {
            assert_eq!(ChannelRights::of(&own), Ok(None), "{own}");
        }
        for wrong in [
            json!({"follow": true}),
            json!({"follow": null}),
            json!({"follow": ["orders:7:1", "orders:7:2"]}),
            json!({"follow": "orders:7:42", "name": "x"}),
        ] {
            assert_eq!(
                ChannelRights::of(&wrong),
                Err(AuthFault::ChannelClaim),
                "{wrong}"
            );
        }
    }
}
