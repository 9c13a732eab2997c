//! A server for clients that repeat unacknowledged events.
//!
//! `order` is executed once per `orderId`, after `ms` milliseconds. `runs` returns how often
//! handlers ran for an id.

mod support;

use std::{collections::HashMap, sync::Mutex, time::Duration};

use roomcast::{
    Ack, Connect, Event, Io, Principal, Refusal, Server, State,
    handler::{field, idempotent},
    options::Recovery,
};
use serde::Deserialize;

/// Number of executions of each order.
#[derive(Default)]
struct Runs(Mutex<HashMap<String, u32>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: String,
    ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let io = Io::builder()
        .state(Runs::default())
        .recovery(Recovery::default())
        .namespace("/", |namespace| {
            namespace
                .authenticate(who)
                .on("order", idempotent(field("orderId"), order))
                .on("plain", order)
                .on("runs", runs)
        });
    support::run(Server::new(io.build()?)).await
}

async fn who(connect: Connect) -> Result<Principal, Refusal> {
    #[derive(Deserialize)]
    struct Auth {
        user: String,
    }
    let auth: Auth = connect
        .auth()
        .map_err(|_| Refusal::new("", "who are you?"))?;
    Ok(Principal::new(auth.user))
}

async fn order(_: Event, order: Order, runs: State<Runs>) -> Ack<(String, u32)> {
    let run = {
        let mut runs = runs.0.lock().expect("nothing panics under it");
        let run = runs.entry(order.order_id.clone()).or_default();
        *run += 1;
        *run
    };
    // The work takes as long as the order specifies.
    tokio::time::sleep(Duration::from_millis(order.ms)).await;
    Ack((order.order_id, run))
}

async fn runs(_: Event, id: String, runs: State<Runs>) -> Ack<u32> {
    let runs = runs.0.lock().expect("nothing panics under it");
    Ack(runs.get(&id).copied().unwrap_or_default())
}
