//! Commands that call a running server: `audit`, `call`, `channel`, `emit`, `stream`, `sockets`,
//! `nodes`, `export-user`, `erase-user`, `trace`, `log-level` and `health`. They use its HTTP API
//! or, for `emit`, optionally the adapter.

mod channel;
mod health;
mod operator;
mod routes;
mod stream;
mod trace;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use form_urlencoded::byte_serialize;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json, value::RawValue};

pub(super) use self::channel::{ChannelArguments, channel};
pub(super) use self::health::{HealthArguments, health};
pub(super) use self::operator::operator;
pub(super) use self::routes::RouteCommand;
pub(super) use self::stream::{StreamArguments, stream};
pub(super) use self::trace::{TraceArguments, trace};
use super::database::audit::{AuditTable, DatabaseAct};
use super::identity::Minter;
use super::output::{errln, outln};
use crate::{
    auth::jwt::{
        JwksUrl, UrlFault,
        jwks::{RequestBody, exchange, whole_body},
    },
    config::Settings,
    service::api::Emit,
};

/// The server to call, and the caller's credentials.
#[derive(Clone, Debug, Args)]
pub(super) struct Server {
    /// URL of the server: `https`, or `http` on this machine. Default: the address on which the
    /// configured server listens.
    #[arg(long)]
    url: Option<String>,
    /// PEM file with the trusted certificate authorities. Default: those that this machine trusts.
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Token of the caller. Default: a token signed with the configured key, valid for a minute or
    /// the duration of the trace.
    #[arg(long, env = "ROOMCAST_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Arguments of `emit`.
#[derive(Clone, Debug, Args)]
pub(super) struct EmitArguments {
    /// Room whose members receive the event; `*` for everyone.
    room: String,
    /// Name of the event.
    event: String,
    /// Arguments of the event, each as JSON.
    #[arg(value_parser = as_json)]
    args: Vec<Box<RawValue>>,
    /// Milliseconds in which clients may acknowledge the event; the acknowledgements are printed.
    #[arg(long)]
    ack: Option<u64>,
    /// Publish through an adapter instead of a server: `redis://…`, `redis-streams://…`,
    /// `postgres://…`, `nats://…` or any other value of `adapter.url`. `configured`, or no value at
    /// the end of the command, is the configured adapter, for example in `ROOMCAST_ADAPTER__URL`,
    /// so that no password appears in the process list.
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = CONFIGURED,
          conflicts_with_all = ["url", "token", "cacert", "ack"])]
    adapter: Option<String>,
    /// Publish through the adapter without sealing, to servers with
    /// `adapter.trust = "shared-with-node"` and to Node servers. Otherwise the event is sealed with
    /// `adapter.secret`, or with the secrets in the PostgreSQL of `store.url`.
    #[arg(long, requires = "adapter")]
    unsealed: bool,
    #[command(flatten)]
    server: Server,
}

/// Arguments of `call`.
#[derive(Clone, Debug, Args)]
pub(super) struct CallArguments {
    /// HTTP method: GET, POST, PUT, PATCH or DELETE.
    method: Method,
    /// Path of the route after `/api/v1`, with its query: `/sockets?userId=ann`.
    #[arg(value_parser = path)]
    path: String,
    /// Body of the request, as JSON.
    #[arg(value_parser = as_json)]
    body: Option<Box<RawValue>>,
    /// `Idempotency-Key`, with which the request can be repeated safely.
    #[arg(long)]
    key: Option<String>,
    /// Role in the token that is signed for the call.
    #[arg(long, default_value = SERVICE, conflicts_with = "token")]
    role: String,
    #[command(flatten)]
    server: Server,
}

fn path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_path
        .then(|| text.to_owned())
        .ok_or_else(|| "a path begins with / and has no spaces".to_owned())
}

fn as_json(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.to_owned()).map_err(|error| format!("not JSON: {error}"))
}

/// Calls any route of the HTTP API, and prints the response.
pub(super) fn call(settings: &Settings, arguments: CallArguments) -> ExitCode {
    run(async {
        let caller = Caller::with_role(settings, &arguments.server, &arguments.role)?;
        let body = arguments
            .body
            .map_or_else(String::new, |body| body.get().to_owned());
        let key = arguments.key.as_deref();
        let answer = caller
            .call_under(key, arguments.method, &arguments.path, body)
            .await?;
        // Some routes return no body.
        if answer.is_null() {
            Ok(())
        } else {
            print(&answer)
        }
    })
}

/// Publishes an event, and prints the outcome.
pub(super) fn emit(settings: &Settings, arguments: EmitArguments) -> ExitCode {
    run(async {
        let is_for_all = arguments.room == EVERYONE;
        let event = Emit {
            event: arguments.event,
            args: arguments.args,
            rooms: if is_for_all {
                Vec::new()
            } else {
                vec![arguments.room]
            },
            everyone: is_for_all,
            ack_timeout: arguments.ack,
            ..Emit::default()
        };
        match &arguments.adapter {
            Some(url) => {
                let seals = !arguments.unsealed;
                // No server records what goes through the adapter. Only PostgreSQL can be written
                // beside a server.
                let request = json!({"event": event.event, "rooms": event.rooms});
                let act = DatabaseAct::begin(settings, "emit", &request)?;
                let mut table = AuditTable::Skip;
                if settings.store.is_postgres() {
                    act.store(settings).await?;
                    table = AuditTable::Insert;
                }
                let sent = through_adapter(settings, url, seals, &event).await;
                let recorded = act.end(settings, sent.is_ok(), &Value::Null, table).await;
                sent?;
                recorded.map_err(|error| {
                    format!(
                        "the event was sent, and could not be recorded in the audit log: {error}"
                    )
                })
            }
            None => {
                let body = serde_json::to_string(&event).map_err(|error| error.to_string())?;
                let caller = Caller::new(settings, &arguments.server)?;
                let answer = caller.call(Method::POST, "/emit", body).await?;
                print(&answer)
            }
        }
    })
}

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
async fn through_adapter(
    settings: &Settings,
    url: &str,
    seals: bool,
    event: &Emit,
) -> Result<(), String> {
    use crate::service::{
        api::prepare,
        cluster::{Sealing, check_url, emitter, url as configured_url},
    };

    let prepared = prepare(event).map_err(|error| error.to_string())?;
    let url = match url {
        CONFIGURED => configured_url(settings).ok_or("adapter.url: no adapter is configured")?,
        url => url,
    };
    check_url(settings, url).map_err(|error| error.to_string())?;
    let sealing = match seals {
        true => Sealing::for_emitter(settings).await,
        false => Ok(Sealing::default()),
    };
    let sealing = sealing.map_err(|error| super::chain(&error))?;
    let emitter = emitter(settings, url, &sealing).map_err(|error| error.to_string())?;
    let emission = match prepared.rooms.is_empty() {
        true => emitter.of("/"),
        false => emitter.to(prepared.rooms),
    };
    let sent = emission.emit(&event.event, prepared.args);
    sent.map_err(|error| error.to_string())?;
    // A message is lost if there is no connection within five seconds, or if the broker refuses it.
    let closed = emitter.close().await;
    closed.map_err(|lost| format!("the event was not sent: {}", lost.why))
}

#[cfg(not(any(feature = "nats", feature = "postgres", feature = "redis")))]
fn through_adapter(
    _: &Settings,
    _: &str,
    _: bool,
    _: &Emit,
) -> std::future::Ready<Result<(), String>> {
    std::future::ready(Err("this build has no adapter".to_owned()))
}

fn print(answer: &Value) -> Result<(), String> {
    let text = serde_json::to_string_pretty(answer).map_err(|error| error.to_string())?;
    outln!("{text}");
    Ok(())
}

fn run(command: impl Future<Output = Result<(), String>>) -> ExitCode {
    let done = match super::runtime() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("roomcast: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A client of a server's HTTP API.
struct Caller {
    url: String,
    token: String,
    /// The trusted certificate authorities.
    cacert: Option<PathBuf>,
}

impl Caller {
    fn new(settings: &Settings, server: &Server) -> Result<Self, String> {
        Self::with_role(settings, server, SERVICE)
    }

    fn with_role(settings: &Settings, server: &Server, role: &str) -> Result<Self, String> {
        Self::for_time(settings, server, role, LIFETIME)
    }

    /// Creates a caller with this role. A new token is valid for this time, or for
    /// `auth.jwt.max_lifetime` if that is shorter.
    fn for_time(
        settings: &Settings,
        server: &Server,
        role: &str,
        time: Duration,
    ) -> Result<Self, String> {
        let token = match &server.token {
            Some(token) => token.clone(),
            None => {
                let roles = [role.to_owned()];
                let max = settings.auth.jwt.max_lifetime;
                let time = max.map_or(time, |max| max.min(time));
                Minter::new(settings)?.mint("roomcast-command", None, &roles, time)?
            }
        };
        let url = server.url.clone().unwrap_or_else(|| configured(settings));
        let url = url.trim_end_matches('/').to_owned();
        let cacert = server.cacert.clone();
        Ok(Self { url, token, cacert })
    }

    /// Returns the response of a call, or an error if it was refused.
    async fn call(&self, method: Method, path: &str, body: String) -> Result<Value, String> {
        self.call_under(None, method, path, body).await
    }

    /// Sends a request, optionally with an `Idempotency-Key`.
    async fn call_under(
        &self,
        key: Option<&str>,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Value, String> {
        let (url, request) = self.request(key, method, path, body)?;
        let answer = tokio::time::timeout(ANSWER, exchange(&url, request, MAX_BYTES)).await;
        let answer = answer.map_err(|_| format!("{}: no answer in time", self.url))?;
        let (status, text) = answer.map_err(|error| format!("{}: {error}", self.url))?;
        if status.is_success() {
            return Ok(serde_json::from_str(&text).unwrap_or_default());
        }
        Err(refusal(status, &text))
    }

    /// Returns the URL of a request, and the request.
    fn request(
        &self,
        key: Option<&str>,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(JwksUrl, Request<RequestBody>), String> {
        let address = format!("{}/api/v1{path}", self.url);
        let url = JwksUrl::parse(&address, self.cacert.as_deref());
        let url = url.map_err(|fault| match fault {
            UrlFault::Authorities(path, fault) => format!("--cacert {}: {fault}", path.display()),
            fault @ (UrlFault::NotAUrl
            | UrlFault::NotSecure
            | UrlFault::Credentials
            | UrlFault::NoRoots) => format!("{address}: {fault}"),
        })?;
        let uri: http::Uri = address.parse().map_err(|_| "no address".to_owned())?;
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header("roomcast-stated-user", operator());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request
            .body(whole_body(body.into()))
            .map_err(|error| error.to_string())?;
        Ok((url, request))
    }
}

/// Returns a text as a segment of a path.
fn segment(text: &str) -> String {
    // In a path, `+` is no space.
    let text: String = byte_serialize(text.as_bytes()).collect();
    text.replace('+', "%20")
}

/// Returns the reason of a refused call.
fn refusal(status: StatusCode, text: &str) -> String {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let message = answer.pointer("/error/message").and_then(Value::as_str);
    format!("{status}: {}", message.unwrap_or("refused"))
}

/// Returns the URL of the configured server, as reached from this machine.
fn configured(settings: &Settings) -> String {
    let mut address = settings.server.listen;
    address.set_ip(loopback(address.ip()));
    match settings.server.tls.cert_file {
        Some(_) => format!("https://{address}"),
        None => format!("http://{address}"),
    }
}

/// Returns the address at which this machine reaches a listener: loopback if it listens on all
/// addresses.
fn loopback(ip: IpAddr) -> IpAddr {
    if !ip.is_unspecified() {
        return ip;
    }
    // A system can restrict a listener on `::` to IPv6.
    match ip {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The value of `--adapter` that selects the configured adapter.
const CONFIGURED: &str = "configured";
/// The default role of the caller.
const SERVICE: &str = "service";
/// The room argument that selects all clients.
const EVERYONE: &str = "*";
/// The validity of a command's token.
const LIFETIME: Duration = Duration::from_secs(60);
/// The timeout of a response. It exceeds the time that a server waits for acknowledgements.
const ANSWER: Duration = Duration::from_secs(20);
/// Maximum size of a response in bytes.
const MAX_BYTES: usize = 16 << 20;
