//! The commands `token` and `explain`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::output::{errln, fail, out, outln};
use crate::{
    auth::{
        AuthFault, JwtAuthenticator, Keys, Revocations, Roles, configured,
        jwt::{self, KeyRing, Minting},
    },
    config::Settings,
    service::{Access, ExplainQuery, Explanation, Kinds, channel_events::CHANNEL_SUBSCRIBE},
    store::Store,
};

/// Arguments of `token`.
#[derive(Clone, Debug, Args)]
pub(super) struct Token {
    /// Id of the user; claim `sub`.
    #[arg(long)]
    sub: String,
    /// Role of the user; may be repeated. Default `user`.
    #[arg(long = "role")]
    roles: Vec<String>,
    /// Name of the user; claim `name`.
    #[arg(long)]
    name: Option<String>,
    /// Validity of the token.
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,
    /// Accept roles that are not configured here, for servers that have other roles.
    #[arg(long)]
    any_role: bool,
    /// Print the token as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub(super) struct Explain {
    /// Id of the user.
    #[arg(long)]
    user: String,
    /// Event that the user sends. Default with `--channel`: `channel:subscribe`.
    #[arg(long, required_unless_present = "channel")]
    event: Option<String>,
    /// Room that the event is about, as `conversation:ID`.
    #[arg(long)]
    room: Option<String>,
    /// Name of the channel that the event is about.
    #[arg(long, conflicts_with_all = ["room", "message"])]
    channel: Option<String>,
    /// Id of the message that the event is about.
    #[arg(long)]
    message: Option<Uuid>,
    /// Role of the user; may be repeated. Default: roles of the newest session, or `user`.
    #[arg(long = "role")]
    roles: Vec<String>,
    /// Print the explanation as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime_serde::re::humantime::parse_duration(text);
    let duration = duration.map_err(|error| error.to_string())?;
    if duration.as_secs() == 0 || duration > TEN_YEARS {
        return Err("must be from one second to ten years".into());
    }
    Ok(duration)
}

const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Prints a token.
pub(super) fn token(settings: &Settings, token: &Token) -> ExitCode {
    match mint(settings, token) {
        Ok(minted) => {
            if token.json {
                let minted = json!({"token": minted, "expiresInS": token.ttl.as_secs()});
                outln!("{minted:#}");
            } else {
                outln!("{minted}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => fail(token.json, error, 2),
    }
}

fn mint(settings: &Settings, token: &Token) -> Result<String, String> {
    let minter = Minter::new(settings)?;
    settings.check()?;
    for advice in configured::advice(settings) {
        errln!("roomcast: {advice}");
    }
    let is_unknown = |role: &&String| !settings.auth.roles.contains_key(*role);
    if let Some(role) = token.roles.iter().find(is_unknown)
        && !token.any_role
    {
        let known: Vec<_> = settings.auth.roles.keys().map(String::as_str).collect();
        return Err(format!(
            "no role `{role}` is configured; there are {}: correct it, or give --any-role if \
             the servers have other roles",
            known.join(", ")
        ));
    }
    let default = ["user".to_owned()];
    let roles = if token.roles.is_empty() {
        &default[..]
    } else {
        &token.roles
    };
    minter.mint(&token.sub, token.name.as_deref(), roles, token.ttl)
}

/// Creates tokens according to a configuration.
pub(super) struct Minter<'a> {
    settings: &'a Settings,
    keys: Keys,
    /// Verifies tokens as servers with this configuration do.
    tokens: JwtAuthenticator,
}

impl<'a> Minter<'a> {
    /// Creates a minter that signs with the configured keys.
    pub(super) fn new(settings: &'a Settings) -> Result<Self, String> {
        let keys = configured::signing(settings).map_err(|error| error.to_string())?;
        let ring = Arc::new(KeyRing::new(keys.clone()));
        Ok(Self {
            settings,
            keys,
            tokens: configured::tokens(&settings.auth, &ring, &Arc::default()),
        })
    }

    /// Creates a token that servers accept, or returns why they would refuse it.
    pub(super) fn mint(
        &self,
        sub: &str,
        name: Option<&str>,
        roles: &[String],
        ttl: Duration,
    ) -> Result<String, String> {
        let now = Timestamp::now().as_second();
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let jti = Uuid::new_v4().to_string();
        let jwt = &self.settings.auth.jwt;
        let claims = Minting {
            sub,
            name,
            roles,
            jti: &jti,
            iss: jwt.issuer.as_deref(),
            aud: jwt.audience.as_deref(),
            iat: now,
            exp: now.saturating_add(ttl),
        };
        let minted = jwt::mint(&self.keys, &claims).ok_or_else(|| {
            "no signing key: set ROOMCAST_AUTH__JWT__SECRET, the other keys only verify".to_owned()
        })?;
        match self.tokens.verify(&minted).now_or_never() {
            Some(Err(AuthFault::TooLongLived)) => {
                let max = jwt.max_lifetime.unwrap_or_default();
                let max = humantime_serde::re::humantime::format_duration(max);
                Err(format!(
                    "auth.jwt.max_lifetime lets tokens live {max}: give a shorter --ttl"
                ))
            }
            Some(Err(AuthFault::Subject)) => {
                let rule = "--sub must have 1 to 128 characters, none of them control or invisible, \
                            and not begin with guest:";
                Err(rule.to_owned())
            }
            Some(Err(fault)) => Err(format!("servers would refuse this token: {fault}")),
            Some(Ok(_)) | None => Ok(minted),
        }
    }
}

/// Prints why a user may or may not send an event. The exit code is 0 if the user may.
pub(super) fn explain(settings: &Settings, explain: Explain) -> ExitCode {
    let prints_json = explain.json;
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(prints_json, error, 1),
    };
    match runtime.block_on(why(settings, explain)) {
        Ok(why) => {
            if prints_json {
                let why = json!(why);
                outln!("{why:#}");
            } else {
                out!("{why}");
            }
            if why.allowed {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(REFUSED)
            }
        }
        Err(error) => fail(prints_json, error, 1),
    }
}

/// The exit code of `explain` if the user must not send the event.
const REFUSED: u8 = 3;

async fn why(settings: &Settings, explain: Explain) -> Result<Explanation, String> {
    let auth = &settings.auth;
    let roles = Roles::new(&auth.roles, auth.permission_cache, Arc::default());
    let roles = roles.map_err(|error| error.to_string())?;
    let (store, _commits) = Store::open(&settings.store.unmigrated(), Arc::default())
        .await
        .map_err(|error| error.to_string())?;
    let revocations = Arc::new(Revocations::new());
    let access = Access::open(store.clone(), roles, revocations, Arc::default(), auth).await;
    let access = access.map_err(|error| error.to_string())?;
    let kinds = match explain.channel {
        Some(_) => Kinds::new(&settings.channels).map_err(|fault| fault.to_string())?,
        None => Kinds::default(),
    };
    let channels =
        |by: &_, event: &_, channel: &_, is_service| kinds.explain(by, event, channel, is_service);
    let channel = explain.channel.map(|channel| format!("channel:{channel}"));
    let question = ExplainQuery {
        user: explain.user,
        event: explain
            .event
            .unwrap_or_else(|| CHANNEL_SUBSCRIBE.policy().event.to_owned()),
        room: channel.or(explain.room),
        message: explain.message,
        roles: explain.roles,
    };
    let why = access.why(None, &channels, question).await;
    store.close().await;
    why.map_err(|error| error.to_string())
}
