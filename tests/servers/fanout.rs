//! The server that load generators expect. `ADAPTER` connects several servers: see
//! `support/adapters.rs`. `DEFLATE` is the threshold of permessage-deflate in bytes; without it,
//! compression is off.

#[path = "support/adapters.rs"]
mod adapters;
mod support;

use std::time::Duration;

use roomcast::{
    Ack, Args, Config, Event, Io, Server,
    errors::JoinError,
    options::{PerMessageDeflate, Recovery},
};

/// The allocator of the binary, so that measurements apply to it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<(), roomcast::Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = match support::number("WORKERS").unwrap_or(cores) {
        0 | 1 => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
        workers => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build(),
    };
    runtime.expect("a runtime can be made").block_on(serve())
}

async fn serve() -> Result<(), roomcast::Error> {
    let millis =
        |variable, default| Duration::from_millis(support::number(variable).unwrap_or(default));
    let io = adapters::join(Io::builder(), "")
        .config(
            Config::default()
                .ping_interval(millis("PING_INTERVAL_MS", 25_000))
                .ping_timeout(millis("PING_TIMEOUT_MS", 20_000))
                .per_message_deflate(
                    support::number("DEFLATE")
                        .map(|threshold| PerMessageDeflate::default().threshold(threshold)),
                )
                .recovery((support::number("RECOVERY") == Some(1)).then(Recovery::default)),
        )
        .namespace("/", |namespace| {
            namespace
                .on("join", join)
                .on("bcast", broadcast)
                .on("echo", echo)
        });
    let io = io.build()?;
    let metrics = support::tell([io.metrics()]);
    support::run(Server::new(io).router(metrics)).await
}

async fn join(event: Event, room: String) -> Result<(), JoinError> {
    event.socket.join(room)
}

async fn broadcast(event: Event, room: String, payload: Args) {
    event.io().to(&room).emit("msg", payload);
}

async fn echo(_: Event, payload: Args) -> Ack<Args> {
    Ack(payload)
}
