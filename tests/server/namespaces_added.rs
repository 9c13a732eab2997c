//! Namespaces that are added and removed while the server runs.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use roomcast::{
    Ack, Args, BuildError, Config, Connect, Event, Io, Lifecycle, NamespaceBuilder, Refusal,
    metrics::Gauge,
    options::Recovery,
    testing::{ClientError, TestServer, serve},
};
use tokio::sync::Notify;

use crate::local::{Local, join, text, until};

fn answering(answer: &'static str) -> impl FnOnce(NamespaceBuilder) -> NamespaceBuilder {
    move |namespace| namespace.on("who", move |_: Event| std::future::ready(Ack(answer)))
}

async fn who(server: &TestServer, namespace: &str) -> Result<String, ClientError> {
    let client = server.client().namespace(namespace).connect().await?;
    client.emit_with_ack("who", ()).await
}

fn is_invalid(result: Result<String, ClientError>) -> bool {
    result.is_err_and(|error| error.to_string().contains("Invalid namespace"))
}

#[tokio::test]
async fn added_namespace_serves_clients_until_it_is_removed() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut io = Io::builder().namespace("/", |namespace| {
        namespace.on("who", async |_: Event| Ack("root"))
    });
    let events = Arc::clone(&log);
    io = io.on_event(move |event| {
        let event = match event {
            Lifecycle::NamespaceCreated { namespace } => format!("created {}", namespace.name()),
            Lifecycle::NamespaceRemoved { namespace } => format!("removed {namespace}"),
            Lifecycle::Disconnected { reason, .. } => reason.to_string(),
            _ => return,
        };
        events.lock().unwrap().push(event);
    });
    let server = serve(io).await;
    let io = server.io();
    let root = server.client().connect().await.unwrap();
    assert!(is_invalid(who(&server, "/x").await));

    let handle = io.add_namespace("x", answering("first")).unwrap();
    assert_eq!(handle.name(), "/x");
    let mut client = server.client().namespace("/x").connect().await.unwrap();
    let answer: String = client.emit_with_ack("who", ()).await.unwrap();
    assert_eq!(answer, "first");
    let names: Vec<_> = io
        .namespaces()
        .iter()
        .map(|n| n.name().to_owned())
        .collect();
    assert_eq!(names, ["/", "/x"]);

    assert!(io.remove_namespace("/x"));
    assert!(!io.remove_namespace("/x"));
    let end = client.next().await.unwrap_err();
    assert!(matches!(end, ClientError::Disconnected(_)), "{end:?}");
    assert!(is_invalid(who(&server, "/x").await));
    let answer: String = root.emit_with_ack("who", ()).await.unwrap();
    assert_eq!(answer, "root");
    assert_eq!(handle.emit("lost", ()).queued, 0);
    assert_eq!(io.namespaces().len(), 1);
    let events = std::mem::take(&mut *log.lock().unwrap());
    let reason = "server namespace disconnect";
    assert_eq!(events, ["created /x", reason, "removed /x"]);

    // The name is free for other handlers, and handles reach the new namespace.
    io.add_namespace("/x", answering("second")).unwrap();
    assert_eq!(who(&server, "/x").await.unwrap(), "second");
    let mut client = server.client().namespace("/x").connect().await.unwrap();
    assert_eq!(handle.emit("found", 1).queued, 1);
    assert_eq!(client.event::<u8>("found").await.unwrap(), 1);
}

#[tokio::test]
async fn namespaces_of_the_builder_and_on_demand_can_be_removed() {
    let mut io = Io::builder().namespace("/", answering("built"));
    // A predicate that waits must not keep parameters from middleware.
    io = io
        .namespaces_async(async |_: Connect| false, |namespace| namespace)
        .namespace_pattern("/board/{id}", |namespace| {
            namespace
                .middleware(async |connect: Connect| match connect.param::<u32>("id") {
                    Some(_) => Ok(()),
                    None => Err(Refusal::new("NOT_FOUND", "no such board")),
                })
                .on("who", async |event: Event| {
                    Ack(event
                        .namespace()
                        .param::<u32>("id")
                        .map(|id| id.to_string()))
                })
        });
    let server = serve(io).await;
    let io = server.io();
    let mut root = server.client().connect().await.unwrap();
    assert!(io.remove_namespace("/"));
    root.next().await.unwrap_err();
    assert!(is_invalid(who(&server, "/").await));
    assert_eq!(io.emit("lost", ()).queued, 0);
    io.add_namespace("/", answering("added")).unwrap();
    let _root = server.client().connect().await.unwrap();
    assert_eq!(who(&server, "/").await.unwrap(), "added");
    assert!(io.emit("found", ()).queued > 0);

    let mut board = server
        .client()
        .namespace("/board/7")
        .connect()
        .await
        .unwrap();
    let exists = io.add_namespace("/board/7", |namespace| namespace);
    assert_eq!(
        exists.unwrap_err(),
        BuildError::NamespaceExists("/board/7".into())
    );
    assert!(io.remove_namespace("/board/7"));
    board.next().await.unwrap_err();
    // The pattern still accepts the name.
    assert_eq!(who(&server, "/board/7").await.unwrap(), "7");
    assert!(!io.remove_namespace("/none"));
}

#[tokio::test]
async fn namespaces_that_cannot_be_added_are_refused() {
    let io = Io::builder()
        .config(Config::default().max_namespaces(2))
        .namespace("/", |namespace| namespace)
        .namespaces(|name| name.starts_with("/made"), |namespace| namespace);
    let handle = io.handle();
    assert_eq!(
        handle
            .add_namespace("/x", |namespace| namespace)
            .unwrap_err(),
        BuildError::NotBuilt
    );
    assert!(!handle.remove_namespace("/x"));
    let server = serve(io).await;
    let add = |name: &str| {
        server
            .io()
            .add_namespace(name, |namespace| namespace)
            .map(|_| ())
    };
    let long = format!("/{}", "x".repeat(256));
    for name in ["/a,b", &long, "/.roomcast"] {
        assert_eq!(
            add(name),
            Err(BuildError::InvalidNamespace(name.into())),
            "{name}"
        );
    }
    assert_eq!(add("/"), Err(BuildError::NamespaceExists("/".into())));
    let twice = server.io().add_namespace("/x", |namespace| {
        namespace
            .on("a", async |_: Event| {})
            .on("a", async |_: Event| {})
    });
    assert_eq!(twice.unwrap_err(), BuildError::DuplicateHandler("a".into()));
    add("/x").unwrap();
    let _made = server.client().namespace("/made").connect().await.unwrap();
    assert_eq!(add("/y"), Err(BuildError::TooManyNamespaces));
    assert!(server.io().remove_namespace("/x"));
    add("/y").unwrap();
    let refused = server.client().namespace("/made-2").connect().await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("Too many namespaces"), "{refused}");
}

#[tokio::test]
async fn connect_pending_in_middleware_of_a_removed_namespace_is_refused() {
    let io = Io::builder().namespace("/", |namespace| namespace);
    let server = serve(io).await;
    let io = server.io();
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, waiting) = (Arc::clone(&started), Arc::clone(&go_on));
    let lenient = move |namespace: NamespaceBuilder| {
        namespace.middleware(move |_: Connect| {
            let (begun, waiting) = (Arc::clone(&begun), Arc::clone(&waiting));
            async move {
                begun.notify_one();
                waiting.notified().await;
                Ok::<_, Refusal>(())
            }
        })
    };
    io.add_namespace("/x", lenient).unwrap();
    let connecting = server.client().namespace("/x");
    let connecting = tokio::spawn(connecting.connect());
    started.notified().await;
    assert!(io.remove_namespace("/x"));
    io.add_namespace("/x", |namespace| {
        namespace.middleware(async |_: Connect| Err::<(), _>(Refusal::new("NO", "members only")))
    })
    .unwrap();
    go_on.notify_one();
    let refused = connecting.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("Invalid namespace"), "{refused}");
    assert_eq!(io.of("/x").count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recoverable_clients_lose_a_removed_namespace() {
    let recovery = Recovery::default().window(Duration::from_secs(60));
    let io = Io::builder()
        .recovery(recovery)
        .namespace("/", |namespace| namespace);
    let server = serve(io).await;
    let io = server.io();
    io.add_namespace("/x", answering("first")).unwrap();
    let mut client = server.client().namespace("/x").connect().await.unwrap();
    io.of("/x").emit("event", ());
    client.event::<Args>("event").await.unwrap();
    let pid = client.pid().unwrap().to_owned();
    let id = client.id();
    drop(client);
    let sessions = || io.metrics().gauge(Gauge::RecoverySessions);
    until(|| sessions() == 1 && io.clients_count() == 0);
    assert!(io.remove_namespace("/x"));
    until(|| sessions() == 0);
    io.add_namespace("/x", answering("second")).unwrap();
    let offer = serde_json::json!({"pid": pid, "offset": "x"});
    let back = server.client().namespace("/x").auth(offer).connect().await;
    assert_ne!(back.unwrap().id(), id);
}

/// A namespace is removed while clients enter and leave it.
#[test]
fn client_joining_a_namespace_while_it_is_removed_is_not_in_it() {
    let io = Io::builder().namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    for _ in 0..50 {
        server
            .io
            .add_namespace("/x", |namespace| namespace)
            .unwrap();
        client.send_text("40/x,");
        let io = server.io.clone();
        let removing = std::thread::spawn(move || io.remove_namespace("/x"));
        // The client may be notified of the disconnect more than once.
        let mut first = text(&mut client);
        while first == "41/x," {
            first = text(&mut client);
        }
        assert!(removing.join().unwrap());
        if first.starts_with("40/x,") {
            client.expect_text("41/x,");
        } else {
            assert_eq!(first, "44/x,{\"message\":\"Invalid namespace\"}");
        }
        assert_eq!(server.io.of("/x").count(), 0);
    }
    server
        .io
        .add_namespace("/x", |namespace| namespace)
        .unwrap();
    join(&mut client, "/x,");
    assert_eq!(server.io.of("/x").count(), 1);
}
