//! Rights in one channel that a backend has given to one user in a token.

use std::sync::Arc;
use std::time::SystemTime;

use super::pattern::Pattern;
use crate::auth::jwt::ChannelRights;
use crate::auth::{AuthFault, Principal, Revocations};
use crate::service::fault::ServiceError;

/// What a token allows in one channel.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    follow: bool,
    publish: bool,
    history: bool,
    /// When the token ends.
    pub(super) until: SystemTime,
    /// The user of the token, with the token's id.
    of: Arc<Principal>,
    /// A revocation ends the rights earlier.
    revocations: Arc<Revocations>,
}

impl Grant {
    /// Returns what a verified token allows a user in a channel.
    ///
    /// # Errors
    ///
    /// If the token is for another user or another channel.
    pub(super) fn new(
        (of, rights): (Principal, ChannelRights),
        by: &Principal,
        channel: &str,
        revocations: &Arc<Revocations>,
    ) -> Result<Self, ServiceError> {
        // The id of a guest is not verified.
        if by.guest || of.subject != by.subject {
            return Err(ServiceError::invalid("token", "is for another user"));
        }
        let covers = |pattern: &Option<String>| {
            let pattern = pattern.as_deref().map(Pattern::parse);
            pattern.is_some_and(|pattern| pattern.is_ok_and(|one| one.matches(channel).is_some()))
        };
        let grant = Self {
            follow: covers(&rights.follow),
            publish: covers(&rights.publish),
            history: covers(&rights.history),
            // Every token has an end.
            until: of.expires_at.unwrap_or(SystemTime::UNIX_EPOCH),
            of: Arc::new(of),
            revocations: Arc::clone(revocations),
        };
        if grant.is_over() {
            return Err(refused(AuthFault::Expired));
        }
        if !grant.follow && !grant.publish && !grant.history {
            return Err(ServiceError::invalid("token", "is for another channel"));
        }
        Ok(grant)
    }

    fn is_over(&self) -> bool {
        self.until <= SystemTime::now()
    }

    fn is_valid(&self) -> bool {
        !self.is_over() && !self.revocations.covers(&self.of)
    }

    pub(super) fn may_follow(&self) -> bool {
        self.follow && self.is_valid()
    }

    pub(super) fn may_publish(&self) -> bool {
        self.publish && self.is_valid()
    }

    pub(super) fn may_read(&self) -> bool {
        self.history && self.is_valid()
    }

    /// Returns whether the right to follow has ended with the token.
    pub(super) fn has_ended(&self) -> bool {
        self.follow && self.is_over()
    }
}

/// Returns the error for a token that is refused. Its parts are not named, because that would
/// reveal to an attacker which part of a forged token is correct.
pub(super) fn refused(fault: AuthFault) -> ServiceError {
    let problem = if fault == AuthFault::Expired {
        "has expired"
    } else if fault == AuthFault::NoExpiry {
        "has no exp"
    } else if fault == AuthFault::Purpose {
        "has no claim channel with a right"
    } else {
        "is not valid"
    };
    ServiceError::invalid("token", problem)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn grant(follow: &str, by: &Principal) -> Result<Grant, String> {
        let of = Principal::new("7").with_expiry(SystemTime::now() + Duration::from_secs(60));
        let rights = ChannelRights {
            follow: Some(follow.to_owned()),
            publish: None,
            history: None,
        };
        let grant = Grant::new((of, rights), by, "orders:7:42", &Arc::default());
        grant.map_err(|error| error.to_string())
    }

    #[test]
    fn token_is_for_one_user_and_the_channels_of_a_pattern() {
        let ann = Principal::new("7");
        for (pattern, allowed) in [
            ("orders:7:42", true),
            ("orders:7:{order}", true),
            ("orders:{customer}:{order}", true),
            ("orders:8:42", false),
            ("orders:7", false),
            ("{any}", false),
            ("orders:7:*", false),
            ("", false),
        ] {
            let found = grant(pattern, &ann);
            assert_eq!(found.is_ok(), allowed, "{pattern}: {found:?}");
        }
        let of_ann = grant("orders:7:42", &ann).unwrap();
        assert!(of_ann.may_follow() && !of_ann.may_publish() && !of_ann.may_read());
        for other in [Principal::new("8"), Principal::guest("7", "Guest")] {
            let refused = grant("orders:7:42", &other).unwrap_err();
            assert_eq!(refused, "token is for another user");
        }
        let ended = Grant {
            until: SystemTime::now(),
            ..of_ann
        };
        assert!(ended.has_ended() && !ended.may_follow());
    }
}
