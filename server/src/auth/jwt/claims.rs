//! The claims of a token, parsed strictly and checked one by one.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::channel::ChannelRights;
use super::{Rules, decoded, part};
use crate::auth::{AuthFault, Principal, is_name, is_reserved, secret_hash};

/// The claims that are read. All others are ignored.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: Option<String>,
    name: Option<String>,
    roles: Option<Vec<String>>,
    jti: Option<String>,
    sid: Option<String>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
    iss: Option<String>,
    aud: Option<Audience>,
    channel: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn has(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

impl Claims {
    /// Parses the second part of a token.
    ///
    /// # Errors
    ///
    /// Names the first claim that has the wrong type.
    pub(super) fn parse(encoded: &str) -> Result<Self, AuthFault> {
        part(encoded).ok_or_else(|| Self::fault_in(encoded))
    }

    /// Returns why claims cannot be parsed. Only these are parsed with their paths.
    fn fault_in(encoded: &str) -> AuthFault {
        let json = decoded(encoded).unwrap_or_default();
        let mut json = serde_json::Deserializer::from_slice(&json);
        let located = serde_path_to_error::deserialize::<_, Self>(&mut json);
        let path = located.err().map(|error| error.path().to_string());
        match path
            .as_deref()
            .and_then(|path| path.split(['.', '[']).next())
        {
            Some("sub") => AuthFault::Subject,
            Some("name") => AuthFault::NameClaim,
            Some("roles") => AuthFault::RolesClaim,
            Some("jti") => AuthFault::TokenIdClaim,
            Some("sid") => AuthFault::SessionClaim,
            Some("iss") => AuthFault::Issuer,
            Some("aud") => AuthFault::Audience,
            _ => AuthFault::Claims,
        }
    }

    /// Returns the rights in channels, if this is a token for channels and not for a user.
    pub(super) fn channel_rights(&self) -> Result<Option<ChannelRights>, AuthFault> {
        self.channel.as_ref().map_or(Ok(None), ChannelRights::of)
    }

    /// Returns the user of the token if the token is currently valid.
    pub(super) fn check(self, rules: &Rules, now: Timestamp) -> Result<Principal, AuthFault> {
        let leeway = i64::try_from(rules.leeway.as_secs()).unwrap_or(i64::MAX);
        let now = now.as_second();
        let exp = seconds(self.exp.as_ref().ok_or(AuthFault::NoExpiry)?)?;
        // RFC 7519, 4.1.4: "on or after which the JWT MUST NOT be accepted".
        if exp.saturating_add(leeway) <= now {
            return Err(AuthFault::Expired);
        }
        if let Some(nbf) = &self.nbf
            && seconds(nbf)?.saturating_sub(leeway) > now
        {
            return Err(AuthFault::NotYetValid);
        }
        if let Some(max) = rules.max_lifetime {
            let iat = self.iat.as_ref().and_then(|iat| seconds(iat).ok());
            let iat = iat.ok_or(AuthFault::NoIssuedAt)?;
            let max = i64::try_from(max.as_secs()).unwrap_or(i64::MAX);
            // A token with a later `iat` would be valid for longer than the maximum from now.
            if exp.saturating_sub(iat) > max || iat.saturating_sub(leeway) > now {
                return Err(AuthFault::TooLongLived);
            }
        }
        // Several applications can share keys. Only issuer and audience distinguish their tokens.
        if rules.issuer.is_some() && self.iss != rules.issuer {
            return Err(AuthFault::Issuer);
        }
        if let Some(audience) = &rules.audience
            && !self.aud.is_some_and(|aud| aud.has(audience))
        {
            return Err(AuthFault::Audience);
        }
        // An issuer must not create tokens for guests, whose ids have a reserved prefix, or for the
        // author of the messages of erased users.
        let is_user = |sub: &String| is_name(sub, MAX_SUBJECT) && !is_reserved(sub);
        let subject = self.sub.filter(is_user);
        let subject = subject.ok_or(AuthFault::Subject)?;
        let roles = self.roles.unwrap_or_else(|| vec![DEFAULT_ROLE.to_owned()]);
        for (text, fault) in [
            (&self.name, AuthFault::NameClaim),
            (&self.jti, AuthFault::TokenIdClaim),
            (&self.sid, AuthFault::SessionClaim),
        ] {
            if text.as_ref().is_some_and(|text| !is_name(text, MAX_TEXT)) {
                return Err(fault);
            }
        }
        if roles.len() > MAX_ROLES || !roles.iter().all(|role| is_name(role, MAX_ROLE)) {
            return Err(AuthFault::RolesClaim);
        }
        // The leeway is not added here, because the grace of the socket covers it.
        let expires_at = Timestamp::from_second(exp).unwrap_or(Timestamp::MAX);
        let mut principal = Principal::new(subject).with_expiry(expires_at.into());
        if let Some(name) = self.name {
            principal = principal.with_name(name);
        }
        principal.roles = roles;
        principal.token_id = self.jti;
        principal.session = self.sid.as_deref().map(secret_hash);
        Ok(principal)
    }
}

/// Parses a `NumericDate` (RFC 7519, 2), which must be a number. Values beyond the range saturate.
fn seconds(value: &Value) -> Result<i64, AuthFault> {
    let number = value.as_number().ok_or(AuthFault::NotANumber)?;
    if let Some(seconds) = number.as_i64() {
        return Ok(seconds);
    }
    // The conversion saturates and truncates the fraction.
    Ok(number.as_f64().ok_or(AuthFault::NotANumber)? as i64)
}

/// The role of a user whose token has no `roles`.
const DEFAULT_ROLE: &str = "user";
/// Maximum characters of a user id.
const MAX_SUBJECT: usize = 128;
/// Maximum characters of a name, and of the ids of a token and of its session.
const MAX_TEXT: usize = 256;
const MAX_ROLES: usize = 32;
const MAX_ROLE: usize = 64;
