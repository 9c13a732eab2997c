//! Two servers for clients with custom parsers: JSON objects, and on the next port JSON objects
//! with binary.

#[path = "../support/custom_parsers.rs"]
mod custom_parsers;
mod support;

use custom_parsers::{Bundles, JsonObjects};
use roomcast::{Ack, Args, Config, Connect, Event, Io, Parser, Refusal, Server};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let objects = build(Parser::custom(&JsonObjects))?;
    let bundles = build(Parser::custom(&Bundles))?;
    let servers = vec![
        ("", Server::new(objects)),
        ("bundles", Server::new(bundles)),
    ];
    support::run_all(servers).await
}

fn build(parser: Parser) -> Result<Io, roomcast::BuildError> {
    let io = Io::builder()
        .config(Config::default().parser(parser))
        .namespace("/", |namespace| {
            namespace
                .on("echo", async |event: Event, rest: Args| {
                    event.socket.emit("echoed", rest.clone());
                    Ack(rest)
                })
                .on("ask", async |event: Event, rest: Args| {
                    let answer = event.socket.emit_with_ack::<Args>("question", rest).await;
                    answer
                        .map(Ack)
                        .map_err(|error| Refusal::new("ACK", error.to_string()))
                })
                .on("all", async |event: Event, rest: Args| {
                    event.io().emit("told", rest);
                })
        })
        .namespace("/no", |namespace| {
            namespace.middleware(async |_: Connect| {
                Err::<(), _>(Refusal::new("NO", "members only").data(json!({"retry": 5})))
            })
        });
    io.build()
}
