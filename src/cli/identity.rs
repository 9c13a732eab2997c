//! The commands `token` and `explain`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    auth::{
        Keys, Revocations, Roles, configured,
        jwt::{self, Minting},
    },
    config::Settings,
    service::{Access, Explanation, Question},
    store::Store,
};

/// Arguments of `token`.
#[derive(Clone, Debug, Args)]
pub(super) struct Token {
    /// The user's id; claim `sub`.
    #[arg(long)]
    sub: String,
    /// A role; may be given several times. Default `user`.
    #[arg(long = "role")]
    roles: Vec<String>,
    /// The user's name; claim `name`.
    #[arg(long)]
    name: Option<String>,
    /// How long it is valid.
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub(super) struct Explain {
    /// The user's id.
    #[arg(long)]
    user: String,
    /// The event that the user sends.
    #[arg(long)]
    event: String,
    /// The room that it is about, as `conversation:ID`.
    #[arg(long)]
    room: Option<String>,
    /// A role of the user; may be given several times. Default: those of the newest session, else
    /// `user`.
    #[arg(long = "role")]
    roles: Vec<String>,
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

/// Prints a token and nothing else.
pub(super) fn token(settings: &Settings, token: &Token) -> ExitCode {
    match mint(settings, token) {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("roomcast: {error}");
            ExitCode::from(2)
        }
    }
}

fn mint(settings: &Settings, token: &Token) -> Result<String, String> {
    let default = ["user".to_owned()];
    let roles = if token.roles.is_empty() {
        &default[..]
    } else {
        &token.roles
    };
    let minter = Minter::new(settings)?;
    minter.mint(&token.sub, token.name.as_deref(), roles, token.ttl)
}

/// Makes tokens by the rules of a configuration.
pub(super) struct Minter<'a> {
    settings: &'a Settings,
    keys: Keys,
}

impl<'a> Minter<'a> {
    /// With the keys of the configuration.
    pub(super) fn new(settings: &'a Settings) -> Result<Self, String> {
        let keys = configured::signing(settings).map_err(|error| error.to_string())?;
        Ok(Self { settings, keys })
    }

    /// A token.
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
        jwt::mint(&self.keys, &claims).ok_or_else(|| {
            "no key that signs: set ROOMCAST_AUTH__JWT__SECRET, the other keys only verify"
                .to_owned()
        })
    }
}

/// Prints why a user may or may not send an event.
pub(super) fn explain(settings: &Settings, explain: Explain) -> ExitCode {
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("roomcast: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(why(settings, explain)) {
        Ok(why) => {
            print!("{why}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("roomcast: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn why(settings: &Settings, explain: Explain) -> Result<Explanation, String> {
    let auth = &settings.auth;
    let roles = Roles::new(&auth.roles, auth.permission_cache, Arc::default());
    let roles = roles.map_err(|error| error.to_string())?;
    let (store, _commits) = Store::open(&settings.store, Arc::default())
        .await
        .map_err(|error| error.to_string())?;
    let revocations = Arc::new(Revocations::new());
    let access = Access::open(store.clone(), roles, revocations, Arc::default(), auth).await;
    let access = access.map_err(|error| error.to_string())?;
    let question = Question {
        user: explain.user,
        event: explain.event,
        room: explain.room,
        roles: explain.roles,
    };
    let why = access.why(None, question).await;
    store.close().await;
    why.map_err(|error| error.to_string())
}
