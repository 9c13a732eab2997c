//! Rights of one user in one channel that a backend has given, in a token or in an answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::asking::Question;
use crate::auth::jwt::ChannelRights;
use crate::auth::{AuthFault, Principal, Revocations};
use crate::service::channels::NO_CHANNEL;
use crate::service::channels::kinds::Pattern;
use crate::service::fault::ServiceError;
use crate::service::rules::emissions::channels::EndReason;
use crate::service::rules::rooms::MovedGrant;

/// What a backend allows a user in one channel.
#[derive(Clone)]
pub(in crate::service::channels) enum Grant {
    Token(TokenGrant),
    /// To follow, for as long as the answer holds.
    Answer(Arc<Question>),
    /// To follow, because a service has subscribed the socket of this user.
    Service(String),
}

/// What a token allows in one channel.
#[derive(Clone, Debug)]
pub(in crate::service::channels) struct TokenGrant {
    follow: bool,
    publish: bool,
    history: bool,
    /// When the token ends.
    until: SystemTime,
    /// The user of the token, with the token's id.
    of: Arc<Principal>,
    /// A revocation ends the rights earlier.
    revocations: Arc<Revocations>,
}

impl Grant {
    /// Returns whether a user may follow.
    pub(in crate::service::channels) fn may_follow(&self, by: &Principal) -> bool {
        match self {
            Self::Token(token) => token.follow && token.is_valid(),
            Self::Answer(question) => question.allows() && question.is_about(by),
            Self::Service(user) => !by.guest && *user == *by.subject,
        }
    }

    /// Returns whether the right to follow has not ended, for whichever user.
    pub(in crate::service::channels) fn is_in_force(&self) -> bool {
        match self {
            Self::Token(token) => token.follow && token.is_valid(),
            Self::Answer(question) => question.allows(),
            Self::Service(_) => true,
        }
    }

    pub(in crate::service::channels) fn may_publish(&self) -> bool {
        matches!(self, Self::Token(token) if token.publish && token.is_valid())
    }

    pub(in crate::service::channels) fn may_read(&self) -> bool {
        matches!(self, Self::Token(token) if token.history && token.is_valid())
    }

    /// Returns when the right ends, unless it is renewed. `None` if it has no end.
    pub(in crate::service::channels) fn until(&self) -> Option<SystemTime> {
        match self {
            Self::Token(token) => Some(token.until),
            Self::Answer(question) => Some(question.until()),
            Self::Service(_) => None,
        }
    }

    /// Returns what another server needs to check the grant, or `None` if it asks the backend.
    pub(in crate::service::channels) fn moved(&self) -> Option<MovedGrant> {
        match self {
            // Without the right to follow, the token would only be refused.
            Self::Token(token) => token.follow.then(|| MovedGrant::Token {
                until: token.until,
                roles: token.of.roles.clone(),
                token_id: token.of.token_id.clone(),
                session: token.of.session.clone(),
            }),
            Self::Answer(_) => None,
            Self::Service(_) => Some(MovedGrant::Service),
        }
    }

    /// Returns the grant that a user has brought from another server.
    pub(in crate::service::channels) fn from_moved(
        moved: &MovedGrant,
        by: &Principal,
        revocations: &Arc<Revocations>,
    ) -> Self {
        match moved {
            MovedGrant::Token {
                until,
                roles,
                token_id,
                session,
            } => {
                let mut of = Principal::new(&*by.subject);
                of.roles.clone_from(roles);
                of.token_id.clone_from(token_id);
                of.session.clone_from(session);
                Self::Token(TokenGrant {
                    follow: true,
                    // Requests that publish or read bring their own token.
                    publish: false,
                    history: false,
                    until: *until,
                    of: Arc::new(of),
                    revocations: Arc::clone(revocations),
                })
            }
            MovedGrant::Service => Self::Service(by.subject.clone()),
        }
    }

    /// Returns the error for a user who may not follow with this grant.
    pub(in crate::service::channels) fn lost(&self) -> ServiceError {
        match self {
            // The answer has ended or was revoked. The client may repeat its request.
            Self::Answer(question) if !question.denies() => ServiceError::no_answer(Duration::ZERO),
            Self::Token(_) | Self::Answer(_) | Self::Service(_) => NO_CHANNEL,
        }
    }

    /// Returns why a user who had the right may no longer follow.
    pub(in crate::service::channels) fn end_reason(&self) -> EndReason {
        match self {
            Self::Token(token) if token.follow && token.is_over() => EndReason::Expired,
            Self::Token(_) | Self::Service(_) => EndReason::Forbidden,
            Self::Answer(question) if question.denies() => EndReason::Forbidden,
            // The backend decides again when the client subscribes again.
            Self::Answer(_) => EndReason::Interrupted,
        }
    }
}

impl TokenGrant {
    /// Returns what a verified token allows a user in a channel.
    ///
    /// # Errors
    ///
    /// If the token is for another user or another channel.
    pub(in crate::service::channels) fn new(
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
}

/// Returns the error for a token that is refused. Its parts are not named, because that would
/// reveal to an attacker which part of a forged token is correct.
pub(in crate::service::channels) fn refused(fault: AuthFault) -> ServiceError {
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

    fn grant(follow: &str, by: &Principal) -> Result<TokenGrant, String> {
        let of = Principal::new("7").with_expiry(SystemTime::now() + Duration::from_secs(60));
        let rights = ChannelRights {
            follow: Some(follow.to_owned()),
            publish: None,
            history: None,
        };
        let grant = TokenGrant::new((of, rights), by, "orders:7:42", &Arc::default());
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
        let token = Grant::Token(of_ann.clone());
        assert!(token.may_follow(&ann) && !token.may_publish() && !token.may_read());
        for other in [Principal::new("8"), Principal::guest("7", "Guest")] {
            let refused = grant("orders:7:42", &other).unwrap_err();
            assert_eq!(refused, "token is for another user");
        }
        let moved = token.moved().unwrap();
        let at_other = Grant::from_moved(&moved, &ann, &Arc::default());
        assert!(at_other.may_follow(&ann) && at_other.until() == token.until());
        assert_eq!(at_other.moved(), Some(moved));
        let ended = Grant::Token(TokenGrant {
            until: SystemTime::now(),
            ..of_ann
        });
        assert!(!ended.may_follow(&ann) && !ended.is_in_force());
        assert_eq!(ended.end_reason(), EndReason::Expired);
    }
}
