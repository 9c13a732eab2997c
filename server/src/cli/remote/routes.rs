//! Commands that call one route of the HTTP API, page by page. `emit` is not among them, because it
//! can publish through an adapter without a server.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use form_urlencoded::Serializer;
use http::Method;
use serde_json::{Map, Value, json};

use super::{Caller, SERVICE, Server, print, run, segment};
use crate::cli::output::{errln, outln};
use crate::config::Settings;

/// The commands. [`RouteCommand::route`] has the route of each.
#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum RouteCommand {
    /// List the sockets of a running server and its cluster, one line of JSON for each.
    Sockets {
        /// Only sockets of this user.
        #[arg(long)]
        user: Option<String>,
        /// Only sockets in this room.
        #[arg(long)]
        room: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// List the servers in the cluster of a running server.
    Nodes {
        #[command(flatten)]
        server: Server,
    },
    /// Print the log level of a running server, or set it, also by module.
    LogLevel {
        /// New filter, such as `info` or `info,roomcast::engine=debug`. Default: none, and the
        /// filter in force is printed.
        filter: Option<String>,
        /// Set the filter of the configuration again.
        #[arg(long, conflicts_with = "filter")]
        reset: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Print all that a running server stores of a user, one line of JSON for each record.
    ExportUser {
        /// Id of the user.
        user: String,
        #[command(flatten)]
        server: Server,
    },
    /// Erase a user of a running server and the user's data. It can be repeated.
    EraseUser {
        /// Id of the user.
        user: String,
        /// Whether the user's messages lose their author or their texts as well.
        #[arg(long)]
        messages: MessageErasure,
        #[command(flatten)]
        server: Server,
    },
    /// List the administrative acts that a running server has recorded, one line of JSON for each.
    Audit(AuditArguments),
}

/// Arguments of `audit`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct AuditArguments {
    /// Only acts of this user, or of this user of the operating system, as `ann@host`.
    #[arg(long)]
    user: Option<String>,
    /// Only acts with this name, such as `revoke` or `admin:kick`.
    #[arg(long)]
    operation: Option<String>,
    /// Maximum number of acts; the newest are printed first.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Role in the token that is signed for the call.
    #[arg(long, default_value = "admin", conflicts_with = "token")]
    role: String,
    #[command(flatten)]
    server: Server,
}

/// The treatment of the messages of a user who is erased.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum MessageErasure {
    /// The texts stay, without their author.
    Anonymize,
    /// The texts are removed.
    Remove,
}

/// A route, and what is printed of its answers.
struct Route<'a> {
    role: &'a str,
    method: Method,
    path: String,
    query: Vec<(&'static str, Option<&'a str>)>,
    body: String,
    output: Output,
}

enum Output {
    /// The answer.
    Whole,
    /// A line for each entry of this list.
    Lines(&'static str),
    /// A line for each entry of this list, at most this many.
    Newest(&'static str, usize),
    /// The sums of the counts in the field `erased`, at the end.
    Sums,
}

impl RouteCommand {
    /// Returns the server to call and the route.
    fn route(&self) -> (&Server, Route<'_>) {
        let get = |path: &str, output| Route {
            role: SERVICE,
            method: Method::GET,
            path: path.to_owned(),
            query: Vec::new(),
            body: String::new(),
            output,
        };
        match self {
            Self::Sockets { user, room, server } => {
                let query = vec![
                    ("limit", Some("200")),
                    ("userId", user.as_deref()),
                    ("room", room.as_deref()),
                ];
                let route = get("/sockets", Output::Lines("sockets"));
                (server, Route { query, ..route })
            }
            Self::Nodes { server } => (server, get("/nodes", Output::Whole)),
            Self::LogLevel {
                filter: None,
                reset: false,
                server,
            } => (server, get("/log-level", Output::Whole)),
            Self::LogLevel { filter, server, .. } => {
                let body = json!({ "level": filter }).to_string();
                let (method, route) = (Method::PUT, get("/log-level", Output::Whole));
                (
                    server,
                    Route {
                        method,
                        body,
                        ..route
                    },
                )
            }
            Self::ExportUser { user, server } => {
                let path = format!("{}/export", path_of(user));
                (server, get(&path, Output::Lines("records")))
            }
            Self::EraseUser {
                user,
                messages,
                server,
            } => {
                let messages = match messages {
                    MessageErasure::Anonymize => "anonymize",
                    MessageErasure::Remove => "remove",
                };
                let query = vec![("messages", Some(messages))];
                let (method, route) = (Method::DELETE, get(&path_of(user), Output::Sums));
                (
                    server,
                    Route {
                        method,
                        query,
                        ..route
                    },
                )
            }
            Self::Audit(audit) => {
                let query = vec![
                    ("userId", audit.user.as_deref()),
                    ("operation", audit.operation.as_deref()),
                ];
                let route = get("/audit", Output::Newest("entries", audit.limit));
                let role = &audit.role;
                (
                    &audit.server,
                    Route {
                        role,
                        query,
                        ..route
                    },
                )
            }
        }
    }

    /// Calls the route until its answer has no cursor, and prints the answers.
    pub(in crate::cli) fn run(&self, settings: &Settings) -> ExitCode {
        run(async {
            let (server, route) = self.route();
            let mut left = match route.output {
                Output::Newest(_, limit) => limit,
                Output::Whole | Output::Lines(_) | Output::Sums => usize::MAX,
            };
            let mut sums = Map::new();
            let mut cursor: Option<String> = None;
            while left > 0 {
                // A token is valid for a minute, and all pages together may take longer.
                let caller = Caller::with_role(settings, server, route.role)?;
                let target = route.target(cursor.as_deref(), left);
                let (method, body) = (route.method.clone(), route.body.clone());
                let answer = caller.call(method, &target, body).await?;
                match route.output {
                    Output::Whole => return print(&answer),
                    Output::Lines(list) | Output::Newest(list, _) => {
                        let entries = answer.get(list).and_then(Value::as_array);
                        for entry in entries.into_iter().flatten() {
                            outln!("{entry}");
                            left -= 1;
                        }
                    }
                    Output::Sums => add(&mut sums, &answer),
                }
                let missing = answer.get("missing").and_then(Value::as_u64);
                if missing.is_some_and(|missing| missing > 0) {
                    errln!("roomcast: not all servers have answered");
                }
                let next = answer.get("cursor").and_then(Value::as_str);
                cursor = next.map(str::to_owned);
                if cursor.is_none() {
                    if let Output::Sums = route.output {
                        let is_done = answer.get("done").and_then(Value::as_bool);
                        return print(&json!({"done": is_done.unwrap_or(false), "erased": sums}));
                    }
                    break;
                }
            }
            Ok(())
        })
    }
}

impl Route<'_> {
    /// Returns the path and the query of the page after `cursor`.
    fn target(&self, cursor: Option<&str>, left: usize) -> String {
        let limit = left.min(MAX_PAGE).to_string();
        let limit = matches!(self.output, Output::Newest(..)).then_some(&*limit);
        let mut query = Serializer::new(format!("{}?", self.path));
        let further = [("limit", limit), ("cursor", cursor)];
        for (name, value) in self.query.iter().copied().chain(further) {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

/// Adds the counts of an answer.
fn add(sums: &mut Map<String, Value>, answer: &Value) {
    let counts = answer.get("erased").and_then(Value::as_object);
    for (kind, count) in counts.into_iter().flatten() {
        let before = sums.get(kind).and_then(Value::as_u64).unwrap_or(0);
        let count = count.as_u64().unwrap_or(0);
        sums.insert(kind.clone(), before.saturating_add(count).into());
    }
}

/// Returns the path of a user.
fn path_of(user: &str) -> String {
    format!("/users/{}", segment(user))
}

/// The maximum number of acts on a page.
const MAX_PAGE: usize = 200;
