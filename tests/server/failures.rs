//! Handlers that fail: the client's answer, the hook, and the log.

use std::{
    fmt,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use roomcast::{Ack, BuildError, Event, Io, Refusal, State, handler::Failure, testing::serve};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tracing::{
    Dispatch, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

/// The failures that the hook has received: event, code, cause, whether the client was notified.
#[derive(Default)]
struct Seen(Mutex<Vec<(String, String, String, bool)>>);

impl Seen {
    fn note(failure: &Failure<'_>) {
        let seen = failure.socket.io().state::<Self>();
        seen.0.lock().unwrap().push((
            failure.event.to_owned(),
            failure.refusal.code().to_owned(),
            failure.refusal.reason().to_owned(),
            failure.answered,
        ));
    }
}

/// Lines of the library's log of one module.
#[derive(Clone)]
struct Log(&'static str, Arc<Mutex<Vec<(Level, String)>>>);

impl Log {
    fn of(module: &'static str) -> Self {
        Self(module, Arc::default())
    }

    /// Makes this the subscriber of the thread.
    fn subscribe(&self) -> DefaultGuard {
        // While a process has a single subscriber, the first thread that reaches a line decides for
        // all whether the line is of interest, by its own subscriber.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Log::of("no module")));
        LazyLock::force(&SECOND);
        tracing::subscriber::set_default(self.clone())
    }

    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *self.1.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(self.0)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let level = *event.metadata().level();
        self.1.lock().unwrap().push((level, line.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn failures_reach_hook_and_log_with_cause_if_unanswered_too() {
    let log = Log::of("roomcast::socket::dispatch");
    let _logging = log.subscribe();
    let io = Io::builder()
        .state(Seen::default())
        .namespace("/", |namespace| {
            namespace
                .on("refuse", async |_: Event| {
                    Err::<(), _>(Refusal::new("NO", "not now").because("the moon is full"))
                })
                .on("number", async |_: Event, _: u8| {})
                .on("panic", async |event: Event| {
                    assert!(event.name() != "panic", "a fault of {}", "ours");
                })
                // JSON allows only strings as keys.
                .on("unwritable", async |_: Event| {
                    Ack(std::collections::BTreeMap::from([(vec![1], 1)]))
                })
                .on_error(Seen::note)
        });
    let server = serve(io).await;
    let client = server.client().connect().await.unwrap();
    let expected = [
        ("refuse", "NO", "the moon is full", Level::DEBUG),
        (
            "number",
            "INVALID_PAYLOAD",
            "argument 0: missing: expected u8",
            Level::DEBUG,
        ),
        (
            "panic",
            "INTERNAL",
            "panicked: a fault of ours",
            Level::ERROR,
        ),
        (
            "unwritable",
            "INTERNAL",
            "its acknowledgement cannot be encoded: serialisation failed: key must be a string",
            Level::ERROR,
        ),
    ];
    for (event, code, ..) in expected {
        let answer: Value = client.emit_with_ack(event, ()).await.unwrap();
        assert_eq!(answer["error"]["code"], code);
    }
    for (event, ..) in expected {
        client.emit(event, ()).await.unwrap();
    }
    // Answered after all of these.
    let answer: Value = client.emit_with_ack("number", 1).await.unwrap();
    assert_eq!(answer, json!(null));
    let seen = std::mem::take(&mut *server.io().state::<Seen>().0.lock().unwrap());
    let mut log = log.take();
    // On a busy machine a handler may also be logged as blocking.
    log.retain(|(_, line)| line.contains("reason="));
    let mut expected_failures = Vec::new();
    for answered in [true, false] {
        for (event, code, reason, level) in expected {
            // Without an acknowledgement nothing is encoded.
            if event == "unwritable" && !answered {
                continue;
            }
            expected_failures.push((event.into(), code.into(), reason.into(), answered));
            let (logged, line) = &log[expected_failures.len() - 1];
            assert_eq!(*logged, level, "{line}");
            assert!(line.contains(&format!("event={event:?}")), "{line}");
            assert!(line.contains(&format!("reason={reason:?}")), "{line}");
        }
    }
    assert_eq!(seen, expected_failures);
    assert_eq!(log.len(), expected_failures.len());
}

#[tokio::test]
async fn server_without_client_addresses_warns_once() {
    let log = Log::of("roomcast::engine::http::mount");
    let _logging = log.subscribe();
    let io = Io::builder().namespace("/", |namespace| namespace);
    let io = io.build().unwrap();
    for _ in 0..2 {
        let request = Request::get("/socket.io/?EIO=4&transport=polling").header("host", "x");
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let answer = io.service().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let lines = log.take();
    assert!(
        matches!(&*lines, [(Level::WARN, line)] if line.contains("does not provide client addresses")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn encode_error_contains_the_serde_message() {
    let io = Io::builder().namespace("/", |namespace| namespace);
    let server = serve(io).await;
    let client = server.client().connect().await.unwrap();
    let socket = server.io().of("/").socket(client.id()).unwrap();
    let map = std::collections::BTreeMap::from([(vec![1], 1)]);
    let words = "the event cannot be encoded: serialisation failed: key must be a string";
    assert_eq!(socket.emit("x", &map).ok().unwrap_err().to_string(), words);
    let error = socket.emit_with_ack::<u8>("x", &map).await.unwrap_err();
    assert_eq!(error.to_string(), words);
    assert_eq!(Refusal::from(error).reason(), &words[29..]);
}

#[test]
fn missing_state_of_middleware_fails_the_build() {
    use roomcast::{
        Authenticate, Connect, Incoming, NamespaceBuilder, Principal, handler::ServerSide,
    };

    type Register = fn(NamespaceBuilder) -> NamespaceBuilder;
    let all: [Register; 4] = [
        |namespace| namespace.middleware(async |_: Connect, _: State<u16>| Ok::<_, Refusal>(())),
        |namespace| {
            namespace.authenticate(async |_: Connect, _: State<u8>, _: State<u16>| {
                Ok::<_, Refusal>(Principal::new("ann"))
            })
        },
        |namespace| namespace.on_packet(async |_: Incoming, _: State<u16>| Ok::<_, Refusal>(())),
        |namespace| namespace.on_server_side("x", async |_: ServerSide, _: State<u16>| {}),
    ];
    for register in all {
        let io = Io::builder().state(1_u8).namespace("/", register);
        assert_eq!(io.build().unwrap_err(), BuildError::MissingState("u16"));
        let io = Io::builder()
            .state(1_u8)
            .state(2_u16)
            .namespace("/", register);
        assert!(io.build().is_ok());
    }
    let io = Io::builder().namespaces_async(
        async |_: Connect, _: State<u16>| true,
        |namespace| namespace,
    );
    assert_eq!(io.build().unwrap_err(), BuildError::MissingState("u16"));

    // An implementation of the trait declares its own states.
    struct RefusingAuth;
    impl Authenticate for RefusingAuth {
        async fn authenticate(&self, _: Connect) -> Result<Principal, Refusal> {
            Err(Refusal::unauthenticated("nobody"))
        }
    }
    let io = Io::builder().namespace("/", |namespace| namespace.authenticate(RefusingAuth));
    assert!(io.build().is_ok());
}

#[tokio::test]
async fn connection_lines_have_level_debug_unless_configured() {
    for is_enabled in [false, true] {
        let log = Log::of("roomcast::socket");
        let _logging = log.subscribe();
        let mut io = Io::builder();
        if is_enabled {
            io = io.log_connections();
        }
        io = io
            .namespace("/", |namespace| namespace)
            .namespace("/no", |namespace| {
                namespace
                    .middleware(async |_: roomcast::Connect| Err::<(), _>(Refusal::new("NO", "no")))
            });
        let server = serve(io).await;
        let refused = server.client().namespace("/no").connect().await;
        refused.unwrap_err();
        server.client().connect().await.unwrap().disconnect().await;
        // The server logs the end after the client has seen it.
        let mut lines = log.take();
        let start = Instant::now();
        while !lines
            .iter()
            .any(|(_, line)| line.contains("message=disconnected"))
        {
            assert!(start.elapsed() < Duration::from_secs(60), "{lines:?}");
            tokio::time::sleep(Duration::from_millis(10)).await; // Poll interval.
            lines.extend(log.take());
        }
        let expected = match is_enabled {
            true => Level::INFO,
            false => Level::DEBUG,
        };
        for message in [
            "message=connected",
            "message=disconnected",
            "message=refused",
        ] {
            let line = lines.iter().find(|(_, line)| line.contains(message));
            assert_eq!(
                line.map(|(level, _)| *level),
                Some(expected),
                "{message}: {lines:?}"
            );
        }
        if !is_enabled {
            assert!(
                lines.iter().all(|(level, _)| *level >= Level::DEBUG),
                "{lines:?}"
            );
        }
    }
}
