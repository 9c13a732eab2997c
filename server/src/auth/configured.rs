//! Keys and token rules as configured.

use std::{
    env, fmt,
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::process::geteuid;

use super::{
    JwtAuthenticator, Keys, KeysError, Revocations, Weakness,
    jwt::{FileError, JwksUrl, KeyRing, UrlFault, WeakSecrets, jwks},
};
use crate::config::{self, Jwt, Profile, Secret, Settings, private_files};

/// Returns the keys that verify tokens: the configured keys, or in development without any the key
/// of this machine's user.
pub(crate) fn ring(settings: &Settings) -> Result<KeyRing, ConfiguredError> {
    let jwt = &settings.auth.jwt;
    let fixed = fixed_or_none(settings)?;
    if !jwt.has_keys() && settings.profile() == Profile::Production {
        tracing::warn!("no token is accepted, since no key is configured: set {SECRET_VARIABLE}");
    }
    for advice in advice(settings) {
        tracing::warn!("{advice}");
    }
    let mut ring = KeyRing::new(fixed);
    if let Some(path) = &jwt.keys_file {
        let file = ring.with_file(path, weak_secrets(settings));
        ring = file.map_err(ConfiguredError::File)?;
    }
    if let Some(url) = &jwt.jwks_url {
        let url = JwksUrl::parse(url, jwt.jwks_ca_file.as_deref()).map_err(ConfiguredError::Url)?;
        ring = ring.with_url(url, jwt.jwks_refresh, jwt.jwks_timeout);
    }
    Ok(ring)
}

/// Checks whether [`ring`] would succeed, without creating a key.
pub(crate) fn check(settings: &Settings) -> Result<(), ConfiguredError> {
    let jwt = &settings.auth.jwt;
    secret(settings)?;
    if settings.profile() == Profile::Production {
        let (ask, hooks) = (&settings.ask, &settings.webhooks);
        for (key, secret) in [
            ("ask.secret", &ask.secret),
            ("ask.previous_secret", &ask.previous_secret),
            ("webhooks.secret", &hooks.secret),
            ("webhooks.previous_secret", &hooks.previous_secret),
        ] {
            if let Some(weakness) = secret.as_ref().and_then(of_hmac) {
                return Err(ConfiguredError::Weak(key, weakness));
            }
        }
        let token = settings.server.metrics_token.as_ref();
        if let Some(weakness) = token.and_then(|token| token_weakness(token.expose().as_bytes())) {
            return Err(ConfiguredError::Weak("server.metrics_token", weakness));
        }
    }
    if let Some(path) = &jwt.keys_file {
        let ring = KeyRing::new(Keys::default()).with_file(path, weak_secrets(settings));
        ring.map_err(ConfiguredError::File)?;
    }
    if let Some(url) = &jwt.jwks_url {
        JwksUrl::parse(url, jwt.jwks_ca_file.as_deref()).map_err(ConfiguredError::Url)?;
    }
    Ok(())
}

/// Fetches the configured key set, if any. Returns its URL without secrets, and the outcome.
pub(crate) async fn fetch(jwt: &Jwt) -> Option<(String, Result<(), String>)> {
    let text = jwt.jwks_url.as_deref()?;
    let url = match JwksUrl::parse(text, jwt.jwks_ca_file.as_deref()) {
        Ok(url) => url,
        Err(fault) => return Some((String::new(), Err(fault.to_string()))),
    };
    let fetched = match tokio::time::timeout(jwt.jwks_timeout, jwks::fetch(&url)).await {
        Ok(Ok(text)) => match Keys::from_public_jwks(&text) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    Some((url.to_string(), fetched))
}

/// Returns the keys that can sign tokens.
pub(crate) fn signing(settings: &Settings) -> Result<Keys, ConfiguredError> {
    let jwt = &settings.auth.jwt;
    // In production, no key is generated: servers would not accept tokens signed with it.
    if !jwt.has_keys() && settings.profile() == Profile::Production {
        return Err(ConfiguredError::NoKey);
    }
    let mut keys = fixed(settings)?;
    if let Some(path) = &jwt.keys_file {
        let file = KeyRing::new(Keys::default()).with_file(path, weak_secrets(settings));
        let file = file.map_err(ConfiguredError::File)?;
        keys = keys.and(Keys::clone(&file.now()));
    }
    Ok(keys)
}

/// Returns the token authenticator for these keys and the configured rules.
pub(crate) fn tokens(
    auth: &config::Auth,
    keys: &Arc<KeyRing>,
    revocations: &Arc<Revocations>,
) -> JwtAuthenticator {
    let mut tokens = JwtAuthenticator::from_ring(Arc::clone(keys))
        .leeway(auth.jwt.leeway)
        .max_bytes(auth.jwt.max_bytes)
        .query(auth.query_token)
        .expiring_lead(auth.expiring_lead)
        .grace(auth.grace)
        .revocations(Arc::clone(revocations));
    if let Some(issuer) = &auth.jwt.issuer {
        tokens = tokens.issuer(issuer);
    }
    if let Some(max) = auth.jwt.max_lifetime {
        tokens = tokens.max_lifetime(max);
    }
    if let Some(audience) = &auth.jwt.audience {
        tokens = tokens.audience(audience);
    }
    tokens
}

/// Returns the configured secret, or in development without keys the key of this machine's user, if
/// it can be read.
pub(crate) fn fixed_or_none(settings: &Settings) -> Result<Keys, ConfiguredError> {
    match fixed(settings) {
        // In development, a server without a home folder still serves guests.
        Err(error @ (ConfiguredError::NoHome | ConfiguredError::Development(_, _))) => {
            tracing::warn!(%error, "no token is accepted");
            Ok(Keys::default())
        }
        fixed => fixed,
    }
}

/// Returns the keys that [`fixed_or_none`] returns at the next start, for a running server. Its
/// keys are not lost if the key of this machine's user cannot be read now.
pub(crate) fn fixed_again(settings: &Settings, running: &KeyRing) -> Result<Keys, ConfiguredError> {
    match running.has_fixed() {
        true => fixed(settings),
        false => fixed_or_none(settings),
    }
}

fn fixed(settings: &Settings) -> Result<Keys, ConfiguredError> {
    let jwt = &settings.auth.jwt;
    if jwt.has_keys() || settings.profile() == Profile::Production {
        return secret(settings);
    }
    let path = development_key_path().ok_or(ConfiguredError::NoHome)?;
    let key = development_key(&path).map_err(|error| ConfiguredError::Development(path, error))?;
    Ok(Keys::from_secret(&key))
}

/// Returns warnings about secrets that are accepted but guessable.
pub(crate) fn advice(settings: &Settings) -> Vec<String> {
    let mut advice = Vec::new();
    if settings.profile() == Profile::Development {
        let (ask, hooks) = (&settings.ask, &settings.webhooks);
        let secret = read_secret(&settings.auth.jwt).ok();
        let weakness = secret.as_ref().and_then(Keys::weakness);
        let all = [
            ("auth.jwt.secret", weakness.map(|(_, weakness)| weakness)),
            ("ask.secret", ask.secret.as_ref().and_then(of_hmac)),
            (
                "ask.previous_secret",
                ask.previous_secret.as_ref().and_then(of_hmac),
            ),
            ("webhooks.secret", hooks.secret.as_ref().and_then(of_hmac)),
            (
                "webhooks.previous_secret",
                hooks.previous_secret.as_ref().and_then(of_hmac),
            ),
        ];
        for (key, weakness) in all {
            let weakness = weakness.map(|weakness| format!("{key}: {weakness}"));
            advice.extend(weakness);
        }
    }
    // Secrets of a backend are shared with it, and cookies need its confirmation. Therefore weak
    // ones are never refused.
    let secrets = &settings.auth.backend.secrets;
    let weak = secrets.iter().find_map(of_hmac);
    advice.extend(weak.map(|weakness| format!("auth.backend.secrets: {weakness}")));
    advice
}

/// Returns why a secret for HMAC-SHA256 is guessable, if it is.
fn of_hmac(secret: &Secret) -> Option<Weakness> {
    Weakness::of("HMAC-SHA256", SHORT, secret.expose().as_bytes())
}

/// Returns why a token is guessable, if it is.
pub(crate) fn token_weakness(token: &[u8]) -> Option<Weakness> {
    Weakness::of("a token", SHORT, token)
}

/// Returns how guessable secrets are treated in the profile.
pub(crate) fn weak_secrets(settings: &Settings) -> WeakSecrets {
    match settings.profile() {
        Profile::Production => WeakSecrets::Refused,
        Profile::Development => WeakSecrets::Warned,
    }
}

/// Reads the configured secret. In production it must not be weak.
fn secret(settings: &Settings) -> Result<Keys, ConfiguredError> {
    let keys = read_secret(&settings.auth.jwt)?;
    match keys.weakness() {
        Some((_, weakness)) if settings.profile() == Profile::Production => {
            Err(ConfiguredError::Weak("auth.jwt.secret", weakness))
        }
        Some(_) | None => Ok(keys),
    }
}

fn read_secret(jwt: &Jwt) -> Result<Keys, ConfiguredError> {
    let Some(secret) = &jwt.secret else {
        return Ok(Keys::default());
    };
    let bytes = secret.expose().as_bytes();
    Keys::from_secret_for(bytes, &jwt.algorithm).map_err(ConfiguredError::Secret)
}

/// Returns the path of the current user's key, for servers in development and for `roomcast token`.
fn development_key_path() -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.filter(|path| path.is_absolute()).or_else(|| {
        let home = PathBuf::from(env::var_os("HOME")?);
        home.is_absolute().then(|| home.join(".local/state"))
    })?;
    Some(state.join("roomcast/development.key"))
}

/// Reads or creates the key. It is random, so that a development server that is reachable from
/// other machines accepts no foreign tokens. Only its user can read it.
fn development_key(path: &Path) -> io::Result<Vec<u8>> {
    if let Some(folder) = private_files::make_folder_of(path)? {
        let reason = format!("every user may replace files in {}", folder.display());
        return Err(io::Error::other(reason));
    }
    if !path.exists() {
        create_development_key(path)?;
    }
    // A key that other users can read lets them sign in as any user, so it is refused and not
    // repaired.
    let metadata = fs::metadata(path)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other("other users can read it"));
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    let key = fs::read(path)?;
    if key.len() < SHORT {
        return Err(io::Error::other("it is too short"));
    }
    Ok(key)
}

/// Creates the key, unless another process has created it meanwhile.
fn create_development_key(path: &Path) -> io::Result<()> {
    let (mut name, mut key) = ([0; 8], [0; 48]);
    getrandom::fill(&mut name).map_err(io::Error::other)?;
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    // Each process writes a file of its own and links it, which is atomic: no process removes the
    // file of another one, and all use the key that was linked first.
    let own = path.with_extension(format!("{:016x}.new", u64::from_ne_bytes(name)));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&own)?;
    let linked = file
        .write_all(&key)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&own, path));
    fs::remove_file(&own)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// The reason why keys are not available.
#[derive(Debug)]
pub(crate) enum ConfiguredError {
    /// A key is needed for signing, but none is configured.
    NoKey,
    /// There is no folder for a development key.
    NoHome,
    /// The development key cannot be used.
    Development(PathBuf, io::Error),
    /// `auth.jwt.secret` or `auth.jwt.algorithm` is invalid.
    Secret(KeysError),
    /// The secret with this configuration key is guessable.
    Weak(&'static str, Weakness),
    /// `auth.jwt.keys_file` is invalid.
    File(FileError),
    /// `auth.jwt.jwks_url` is invalid.
    Url(UrlFault),
}

impl fmt::Display for ConfiguredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => write!(
                f,
                "the production profile signs with a configured key only: set {SECRET_VARIABLE}"
            ),
            Self::NoHome => write!(
                f,
                "there is no home folder for a development key: set {SECRET_VARIABLE}"
            ),
            Self::Development(path, error) => write!(
                f,
                "the development key {}: {error}; correct it, or set {SECRET_VARIABLE}",
                path.display()
            ),
            Self::Secret(error) => write!(f, "auth.jwt.secret: {error}"),
            Self::Weak(key, weakness) => write!(f, "{key}: {weakness}"),
            Self::File(error) => write!(f, "auth.jwt.keys_file: {error}"),
            Self::Url(error) => write!(f, "auth.jwt.jwks_url: {error}"),
        }
    }
}

impl std::error::Error for ConfiguredError {}

const SECRET_VARIABLE: &str = "ROOMCAST_AUTH__JWT__SECRET";
/// Minimum bytes of a secret for HS256.
const SHORT: usize = 32;

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    #[test]
    fn development_key_is_created_once_and_readable_only_by_its_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/development.key");
        let key = development_key(&path).unwrap();
        assert_eq!((key.len(), development_key(&path).unwrap()), (48, key));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(development_key(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(development_key(&path).is_err());
    }

    #[test]
    fn concurrent_starts_use_one_development_key() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("development.key");
            let start = Barrier::new(8);
            let keys: Vec<Vec<u8>> = thread::scope(|scope| {
                let read = || {
                    start.wait();
                    development_key(&path).unwrap()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(read)).collect();
                threads.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn key_set_urls_are_https_or_loopback() {
        for (url, fault) in [
            ("http://id.example/jwks", Some(UrlFault::NotSecure)),
            ("http://127.0.0.1.example/jwks", Some(UrlFault::NotSecure)),
            ("ftp://id.example/jwks", Some(UrlFault::NotAUrl)),
            ("jwks.json", Some(UrlFault::NotAUrl)),
            (
                "http://user:pass@127.0.0.1/jwks",
                Some(UrlFault::Credentials),
            ),
            ("http://127.0.0.1:1/jwks?key=hidden", None),
            ("http://[::1]/jwks", None),
            ("http://localhost:8080/jwks", None),
        ] {
            assert_eq!(JwksUrl::parse(url, None).err(), fault, "{url}");
        }
        let shown = JwksUrl::parse("http://127.0.0.1:1/jwks?key=hidden", None).unwrap();
        assert_eq!(shown.to_string(), "http://127.0.0.1:1/jwks");
    }

    #[test]
    fn authority_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let parse = || JwksUrl::parse("https://id.example/jwks", Some(&path)).map(drop);
        assert!(matches!(parse(), Err(UrlFault::Authorities(_, _))));
        fs::write(&path, "no certificate").unwrap();
        assert!(matches!(parse(), Err(UrlFault::Authorities(_, _))));
        let key = rcgen::generate_simple_self_signed(["id.example".to_owned()]).unwrap();
        fs::write(&path, key.cert.pem()).unwrap();
        assert_eq!(parse(), Ok(()));
    }
}
