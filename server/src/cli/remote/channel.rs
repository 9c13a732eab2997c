//! Commands about channels of a running server.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use form_urlencoded::Serializer;
use http::Method;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use super::{Caller, Server, as_json, print, run, segment};
use crate::cli::output::outln;
use crate::config::Settings;

/// Arguments of `channel`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ChannelArguments {
    #[command(subcommand)]
    command: ChannelCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ChannelCommand {
    /// Publish an event to a channel, and print its position.
    Publish {
        /// Name of the channel.
        channel: String,
        /// Name of the event.
        event: String,
        /// Data of the event, as JSON.
        #[arg(value_parser = as_json, allow_negative_numbers = true)]
        data: Box<RawValue>,
        /// Id under which the event is stored only once. Default: a new one.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Print events of a channel, the oldest first, one line of JSON for each.
    History {
        /// Name of the channel.
        channel: String,
        /// Only events after this position: all of them.
        #[arg(long, conflicts_with = "before")]
        since: Option<String>,
        /// Only events before this position: the newest of them.
        #[arg(long)]
        before: Option<String>,
        /// Maximum number of events in one answer, 1 to 200.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Print the users who follow a channel.
    Presence {
        /// Name of the channel.
        channel: String,
        #[command(flatten)]
        server: Server,
    },
    /// Let the backend decide again who may follow a channel.
    Revoke {
        /// Name of the channel.
        channel: String,
        /// Only about this user. Default: all users.
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Let the connected sockets of a user follow a channel.
    Subscribe {
        /// Name of the channel.
        channel: String,
        /// Id of the user.
        user: String,
        #[command(flatten)]
        server: Server,
    },
    /// End the subscriptions of all sockets of a user to a channel.
    Unsubscribe {
        /// Name of the channel.
        channel: String,
        /// Id of the user.
        user: String,
        #[command(flatten)]
        server: Server,
    },
    /// Delete the events of a channel, and end all subscriptions to it.
    Delete {
        /// Name of the channel.
        channel: String,
        /// Only the event that was published under this id. The subscriptions stay.
        #[arg(long)]
        event: Option<String>,
        /// User who has published the event. Default: a service.
        #[arg(long, requires = "event")]
        user: Option<String>,
        #[command(flatten)]
        server: Server,
    },
}

/// The body of a request that publishes.
#[derive(Serialize)]
struct NewEvent<'a> {
    event: &'a str,
    data: &'a RawValue,
    id: &'a str,
}

/// Calls the route of a command, and prints the answer.
pub(in crate::cli) fn channel(settings: &Settings, arguments: ChannelArguments) -> ExitCode {
    run(async {
        match arguments.command {
            ChannelCommand::Publish {
                channel,
                event,
                data,
                id,
                server,
            } => {
                let id = id.unwrap_or_else(|| Uuid::now_v7().to_string());
                // The data is sent as it was written.
                let new = NewEvent {
                    event: &event,
                    data: &data,
                    id: &id,
                };
                let body = serde_json::to_string(&new).map_err(|error| error.to_string())?;
                let path = format!("{}/events", path_of(&channel));
                call(settings, &server, Method::POST, &path, body).await
            }
            ChannelCommand::History {
                channel,
                since,
                before,
                limit,
                server,
            } => history(settings, &server, &channel, (since, before), limit).await,
            ChannelCommand::Presence { channel, server } => {
                let path = format!("{}/presence", path_of(&channel));
                call(settings, &server, Method::GET, &path, String::new()).await
            }
            ChannelCommand::Revoke {
                channel,
                user,
                server,
            } => {
                let body = user.map_or_else(|| json!({}), |user| json!({ "userId": user }));
                let path = format!("{}/revoke", path_of(&channel));
                call(settings, &server, Method::POST, &path, body.to_string()).await
            }
            ChannelCommand::Subscribe {
                channel,
                user,
                server,
            } => {
                let body = json!({ "userId": user }).to_string();
                let path = format!("{}/subscribers", path_of(&channel));
                call(settings, &server, Method::POST, &path, body).await
            }
            ChannelCommand::Unsubscribe {
                channel,
                user,
                server,
            } => {
                let path = format!("{}/subscribers/{}", path_of(&channel), segment(&user));
                call(settings, &server, Method::DELETE, &path, String::new()).await
            }
            ChannelCommand::Delete {
                channel,
                event,
                user,
                server,
            } => {
                let mut path = path_of(&channel);
                if let Some(event) = event {
                    path = format!("{path}/events/{}", segment(&event));
                }
                if let Some(user) = user {
                    let mut query = Serializer::new(format!("{path}?"));
                    path = query.append_pair("userId", &user).finish();
                }
                call(settings, &server, Method::DELETE, &path, String::new()).await
            }
        }
    })
}

async fn call(
    settings: &Settings,
    server: &Server,
    method: Method,
    path: &str,
    body: String,
) -> Result<(), String> {
    let caller = Caller::new(settings, server)?;
    print(&caller.call(method, path, body).await?)
}

/// Prints events. With `since`, all later ones, page by page.
async fn history(
    settings: &Settings,
    server: &Server,
    channel: &str,
    (mut since, before): (Option<String>, Option<String>),
    limit: usize,
) -> Result<(), String> {
    loop {
        let mut query = Serializer::new(format!("{}/history?", path_of(channel)));
        query.append_pair("limit", &limit.to_string());
        for (name, value) in [("since", &since), ("before", &before)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        let caller = Caller::new(settings, server)?;
        let target = query.finish();
        let page = caller.call(Method::GET, &target, String::new()).await?;
        if page.get("forgotten").and_then(Value::as_bool) == Some(true) {
            return Err("some events after this position are no longer stored".to_owned());
        }
        let events = page.get("events").and_then(Value::as_array);
        for event in events.into_iter().flatten() {
            outln!("{event}");
        }
        let has_more = page.get("hasMore").and_then(Value::as_bool) == Some(true);
        if since.is_none() || !has_more {
            return Ok(());
        }
        let position = page.get("position").and_then(Value::as_str);
        since = position.map(str::to_owned);
    }
}

fn path_of(channel: &str) -> String {
    format!("/channels/{}", segment(channel))
}
