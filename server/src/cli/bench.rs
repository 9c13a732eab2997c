//! `roomcast bench`: arguments and output of the load generator.

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::identity::Minter;
use super::output::{fail, out, outln};
use crate::config::Settings;
use roomcast::client::{Options, Transports};
use roomcast_loadgen::{self, BenchError, Call, OwnMessages, Plan, Preset, Scenario};

/// Load generator for any Socket.IO server.
#[derive(Clone, Debug, Args)]
pub(super) struct BenchArguments {
    /// Load to generate: fanout (one room), rooms (many), echo (acknowledgements), connect (clients
    /// connect and disconnect), idle (clients stay connected), slow (some clients stop reading),
    /// chat (conversations of the Roomcast chat; checks that acknowledged messages are stored, and
    /// creates tokens as `roomcast token` does).
    scenario: ScenarioName,

    /// URL of the server, such as `http://localhost:3000`; its path is the namespace.
    url: String,

    /// A second server; both are measured in alternating rounds and compared.
    #[arg(long, value_name = "URL")]
    compare: Option<String>,

    /// Rounds of a comparison.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Number of connections; with `connect`, the maximum number of concurrent connections.
    #[arg(long, short = 'n')]
    clients: Option<usize>,

    /// Messages, requests or connections per second, in total for all clients.
    #[arg(long, short)]
    rate: Option<f64>,

    /// Seconds of measurement.
    #[arg(long, short, default_value_t = 10.0)]
    duration: f64,

    /// Seconds of the same load before the measurement.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,

    /// Seconds to wait after the measurement until messages in flight have arrived.
    #[arg(long, default_value_t = 5.0)]
    drain: f64,

    /// Bytes of text in each message.
    #[arg(long, default_value_t = 128)]
    payload: usize,

    /// Number of rooms (`rooms`).
    #[arg(long)]
    rooms: Option<usize>,

    /// Number of clients in each room that send messages.
    #[arg(long)]
    senders: Option<usize>,

    /// Fraction of clients that stop reading (`slow`).
    #[arg(long, default_value_t = 0.2)]
    slow_share: f64,

    /// Connections per second while the clients connect.
    #[arg(long, default_value_t = 1000.0)]
    connect_rate: f64,

    /// Threads of the generator, each with separate clients.
    #[arg(long, default_value_t = 1)]
    threads: usize,

    /// websocket, polling, or upgrade (polling first).
    #[arg(long, default_value = "websocket")]
    transport: TransportName,

    /// Path of Engine.IO requests.
    #[arg(long, default_value = "/socket.io/")]
    path: String,

    /// Namespace, overriding the URL's path.
    #[arg(long)]
    namespace: Option<String>,

    /// JSON object for the server's authentication; `{client}` is replaced by the client's number.
    #[arg(long, value_name = "JSON")]
    auth: Option<String>,

    /// Create a token for each client, for users bench-0, bench-1, … with the role `user`, as
    /// `roomcast token` does. It replaces `{token}` in `--auth`. Without this flag, tokens are also
    /// created for the scenario `chat` and for scenarios that create conversations of the Roomcast
    /// chat, because guests must not create any. `--auth` switches that off.
    #[arg(long)]
    tokens: bool,

    /// Additional request header, `Name: value`; may be repeated.
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,

    /// Timeout of connecting, in seconds.
    #[arg(long, default_value_t = 20.0)]
    connect_timeout: f64,

    /// The events that the server understands: `chat` (of `roomcast serve`), or `rooms` (`join`,
    /// `bcast`, `echo`; docs/bench.md has such a server in ten lines).
    #[arg(long, default_value = "chat")]
    preset: PresetName,

    /// The preset for the server of `--compare`, if it differs.
    #[arg(long)]
    compare_preset: Option<PresetName>,

    /// Name and JSON arguments of the event that sends a message; with `echo`, of the event that
    /// the server acknowledges: `say ["{room}", "{payload}"]`.
    #[arg(long, value_name = "NAME [ARGS]")]
    event: Option<String>,

    /// Whether the server acknowledges `--event`.
    #[arg(long)]
    ack: bool,

    /// Event that joins a room, and its arguments as JSON: `join ["{room}"]`; `none` if rooms need
    /// not be joined.
    #[arg(long, value_name = "NAME [ARGS]")]
    join: Option<String>,

    /// Do not wait for the acknowledgement of `--join`.
    #[arg(long)]
    join_without_ack: bool,

    /// Name of a room; may be repeated. Further rooms are called bench-0, bench-1, …. Not for the
    /// chat, which uses new conversations.
    #[arg(long)]
    room: Vec<String>,

    /// Process id of the server on this machine, to measure its CPU time and memory.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,

    /// Process id of the server of `--compare`.
    #[arg(long, value_name = "PID")]
    compare_pid: Option<u32>,

    /// Write the report as JSON to standard output.
    #[arg(long)]
    pub(super) json: bool,

    /// Write the report as an HTML page with plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScenarioName {
    Fanout,
    Rooms,
    Echo,
    Connect,
    Idle,
    Slow,
    Chat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TransportName {
    Websocket,
    Polling,
    Upgrade,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum PresetName {
    Chat,
    Rooms,
}

impl BenchArguments {
    /// Returns whether the configuration of the server is needed to create tokens.
    pub(super) fn makes_tokens(&self) -> bool {
        let presets = [Some(self.preset), self.compare_preset];
        let is_chat = presets.contains(&Some(PresetName::Chat));
        self.tokens || matches!(self.scenario, ScenarioName::Chat) || is_chat && self.auth.is_none()
    }
}

impl From<PresetName> for Preset {
    fn from(name: PresetName) -> Self {
        match name {
            PresetName::Chat => Self::Chat,
            PresetName::Rooms => Self::Rooms,
        }
    }
}

/// Runs the load and prints the report.
///
/// The exit code is 0 after a clean run, 1 if a run was incomplete or the server returned errors,
/// and 2 if there is no report. `settings` is the configuration of the server, used only to create
/// tokens.
pub(super) fn run(arguments: &BenchArguments, settings: Option<&Settings>) -> ExitCode {
    match measure(arguments, settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(arguments.json, error, 2),
    }
}

fn measure(arguments: &BenchArguments, settings: Option<&Settings>) -> Result<bool, BenchError> {
    let plan = |url: &str, preset: PresetName, pid| {
        let plan = plan(arguments, url, preset.into(), pid).and_then(|plan| {
            let auth = plan.vocabulary.auth.as_ref();
            let needs = arguments.tokens || auth.is_some_and(names_token);
            let settings = settings.filter(|_| needs);
            let tokens = settings.map(|settings| mint(settings, &plan)).transpose()?;
            Ok(Plan {
                tokens: tokens.unwrap_or_default(),
                ..plan
            })
        });
        plan.map_err(BenchError::Plan)
    };
    let first = plan(&arguments.url, arguments.preset, arguments.server_pid)?;
    let (text, json, html, is_clean) = if let Some(url) = &arguments.compare {
        let preset = arguments.compare_preset.unwrap_or(arguments.preset);
        let second = plan(url, preset, arguments.compare_pid)?;
        second.check().map_err(BenchError::Plan)?;
        let compared = roomcast_loadgen::compare(&first, &second, usize::from(arguments.rounds))?;
        (
            roomcast_loadgen::comparison_text(&compared),
            serde_json::to_string_pretty(&compared),
            roomcast_loadgen::comparison_html(&compared),
            compared.is_clean(),
        )
    } else {
        let report = roomcast_loadgen::run(&first, &arguments.url)?;
        (
            roomcast_loadgen::report_text(&report),
            serde_json::to_string_pretty(&report),
            roomcast_loadgen::report_html(&report),
            report.is_clean(),
        )
    };
    if let Some(file) = &arguments.html {
        fs::write(file, html).map_err(|error| {
            BenchError::Internal(format!("cannot write {}: {error}", file.display()))
        })?;
    }
    if arguments.json {
        let json = json.map_err(|error| BenchError::Internal(error.to_string()))?;
        outln!("{json}");
    } else {
        out!("{text}");
    }
    Ok(is_clean)
}

/// Returns whether this payload contains the placeholder `{token}`.
fn names_token(auth: &Value) -> bool {
    auth.as_object()
        .is_some_and(|auth| auth.values().any(|value| value == "{token}"))
}

/// Creates a token for each client. The tokens stay valid until after the run.
fn mint(settings: &Settings, plan: &Plan) -> Result<Arc<[String]>, String> {
    let minter = Minter::new(settings)?;
    let run = plan.warmup + plan.duration + plan.drain;
    let ttl = run + Duration::from_secs(60 * 60);
    (0..plan.clients)
        .map(|client| minter.mint(&Plan::subject(client), None, &["user".to_owned()], ttl))
        .collect()
}

fn plan(
    arguments: &BenchArguments,
    url: &str,
    preset: Preset,
    server_pid: Option<u32>,
) -> Result<Plan, String> {
    let scenario = match arguments.scenario {
        ScenarioName::Fanout => Scenario::Fanout,
        ScenarioName::Rooms => Scenario::Rooms,
        ScenarioName::Echo => Scenario::Echo,
        ScenarioName::Connect => Scenario::Connect,
        ScenarioName::Idle => Scenario::Idle,
        ScenarioName::Slow => Scenario::Slow,
        ScenarioName::Chat => Scenario::Chat,
    };
    let (clients, rooms, rate) = scenario.defaults();
    let clients = arguments.clients.unwrap_or(clients);
    let mut vocabulary = preset.vocabulary();
    let mut name = preset.name().to_owned();
    if let Some(event) = &arguments.event {
        let default = if scenario == Scenario::Echo {
            &vocabulary.echo
        } else {
            &vocabulary.send
        };
        let mut call = call(event, &default.args)?;
        call.ack = arguments.ack || scenario == Scenario::Echo;
        vocabulary.own = OwnMessages::Auto;
        vocabulary.echo = call.clone();
        vocabulary.send = call;
        "own".clone_into(&mut name);
    }
    match arguments.join.as_deref() {
        None => {}
        Some("none") => vocabulary.join = None,
        Some(join) => {
            vocabulary.join = Some(Call {
                ack: !arguments.join_without_ack,
                ..call(join, &[Value::from("{room}")])?
            });
            vocabulary.any_room = true;
            vocabulary.rooms.clear();
        }
    }
    if arguments.event.is_some() || arguments.join.is_some() {
        vocabulary.conversations = false;
    }
    if vocabulary.conversations && !arguments.room.is_empty() {
        return Err(
            "--room: the chat's rooms are conversations that people use; the load has its own, \
                    so leave it out"
                .into(),
        );
    }
    if !arguments.room.is_empty() {
        vocabulary.rooms.clone_from(&arguments.room);
    }
    let is_member =
        vocabulary.conversations && !matches!(scenario, Scenario::Connect | Scenario::Idle);
    if arguments.tokens || scenario == Scenario::Chat || is_member {
        vocabulary.auth = Some(json!({"token": "{token}"}));
    }
    if let Some(auth) = &arguments.auth {
        let auth: Value = serde_json::from_str(auth).map_err(|e| format!("--auth: {e}"))?;
        if !auth.is_object() {
            return Err("--auth: it must be a JSON object".into());
        }
        vocabulary.auth = Some(auth);
    }
    let rooms = arguments
        .rooms
        .unwrap_or_else(|| rooms.min(clients / 2).max(1));
    // The chat allows each user only one message every two seconds.
    let rate = match (preset, arguments.rate) {
        (_, Some(rate)) => rate,
        (Preset::Chat, None) if matches!(scenario, Scenario::Echo | Scenario::Chat) => {
            rate.min(clients as f64 * 0.4)
        }
        (_, None) => rate,
    };
    let seconds = |name: &str, seconds: f64| {
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("--{name}: {error}"))
    };
    Ok(Plan {
        scenario,
        client: Options {
            url: url.to_owned(),
            path: arguments.path.clone(),
            namespace: arguments.namespace.clone(),
            transports: match arguments.transport {
                TransportName::Websocket => Transports::WebSocket,
                TransportName::Polling => Transports::Polling,
                TransportName::Upgrade => Transports::Upgrade,
            },
            headers: headers(&arguments.header)?,
            connect_timeout: seconds("connect-timeout", arguments.connect_timeout)?,
            ..Options::default()
        },
        vocabulary,
        preset: name,
        clients,
        rooms,
        senders: arguments
            .senders
            .unwrap_or_else(|| (clients / rooms.max(1)).clamp(1, MAX_SENDERS)),
        rate,
        payload: arguments.payload,
        duration: seconds("duration", arguments.duration)?,
        warmup: seconds("warmup", arguments.warmup)?,
        drain: seconds("drain", arguments.drain)?,
        connect_rate: arguments.connect_rate,
        threads: arguments.threads,
        slow_share: arguments.slow_share,
        tokens: Arc::default(),
        server_pid,
    })
}

/// Parses the name of an event with optional arguments as a JSON array.
fn call(text: &str, default: &[Value]) -> Result<Call, String> {
    let (event, args) = match text.split_once(' ') {
        None => (text, default.to_vec()),
        Some((event, json)) => {
            let args = serde_json::from_str(json);
            let args = args.map_err(|_| format!("{json:?} is not a JSON array of arguments"))?;
            (event, args)
        }
    };
    if event.is_empty() || roomcast_protocol::socket::RESERVED_EVENTS.contains(&event) {
        return Err(format!("{event:?} cannot be the name of an event"));
    }
    Ok(Call {
        event: event.to_owned(),
        args,
        ack: false,
    })
}

fn headers(lines: &[String]) -> Result<Vec<(String, String)>, String> {
    let header = |line: &String| {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("--header {line:?}: it must be `Name: value`"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    lines.iter().map(header).collect()
}

/// Maximum number of senders per room. Every client tracks the messages of every sender.
const MAX_SENDERS: usize = 100;
