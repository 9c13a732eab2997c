//! An `Io` mounted in another HTTP server: axum, nested and as a layer; hyper alone; and a server
//! over a stream that is not TCP.

use std::{convert::Infallible, io, net::SocketAddr, sync::mpsc, thread, time::Duration};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use roomcast::{
    Ack, Builder, Config, Connect, Event, Io, Principal, Refusal,
    connection::EngineRequest,
    options::{AddressLimits, Cors},
    service::IoService,
};
use tokio::{io::BufStream, net::TcpListener, runtime::Runtime};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{
    local::{join, text, until},
    support::{Frame, Polling, RawClient, http::sid_of},
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// A server that is mounted in another server.
struct Mounted {
    io: Io,
    address: SocketAddr,
    runtime: Runtime,
}

fn builder(config: Config) -> Builder {
    let files = crate::client_files::package();

    Io::builder()
        .config(config)
        .client_files(files)
        .namespace("/", |namespace| {
            namespace
                .on("echo", async |_: Event, value: Bytes| Ack(value))
                .on("where", async |event: Event| {
                    let handshake = event.socket.handshake();
                    Ack((
                        handshake.url().to_owned(),
                        handshake.address().ip().to_string(),
                        handshake.is_secure(),
                    ))
                })
                .on("room", async |event: Event| {
                    event.socket.join("room").map(|()| Ack(()))
                })
        })
}

impl Mounted {
    /// Starts a server; `serve` receives a listener and serves on it.
    fn new<F: Future<Output = io::Result<()>> + Send + 'static>(
        config: Config,
        serve: impl FnOnce(Io, TcpListener) -> F,
    ) -> Self {
        Self::of(builder(config), serve)
    }

    fn of<F: Future<Output = io::Result<()>> + Send + 'static>(
        builder: Builder,
        serve: impl FnOnce(Io, TcpListener) -> F,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let io = builder.build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let inside = runtime.enter();
        let serving = serve(io.clone(), listener);
        drop(inside);
        runtime.spawn(serving);
        Self {
            io,
            address,
            runtime,
        }
    }

    fn axum(router: impl FnOnce(&Io) -> Router) -> Self {
        Self::new(Config::default(), |io, listener| {
            let app = router(&io);
            axum::serve(
                listener,
                app.into_make_service_with_connect_info::<SocketAddr>(),
            )
            .into_future()
        })
    }

    fn connect(&self) -> RawClient {
        RawClient::connect(self.address)
    }

    /// Checks everything that a session does, on both transports and across the upgrade.
    fn check(&self, path: &str) {
        // A WebSocket, with data that the client sends right after its request.
        let mut client = self.connect();
        client.open_websocket(path);
        let id = join(&mut client, "");
        client.send_text("421[\"room\"]");
        client.expect_text("431[]");
        client.send_text("451-2[\"echo\",{\"_placeholder\":true,\"num\":0}]");
        client.send_binary([1, 2, 3]);
        client.expect_text("461-2[{\"_placeholder\":true,\"num\":0}]");
        client.expect_binary(&[1, 2, 3]);
        let large = "x".repeat(300_000);
        self.io.to("room").emit("large", &large);
        client.expect_text(&format!("42[\"large\",\"{large}\"]"));
        self.io.to(id).emit("direct", ());
        client.expect_text("42[\"direct\"]");

        // A polling session, upgraded to WebSocket.
        let session = Polling::open(self.address, path);
        assert_eq!(session.post("40").parts(), (200, "ok"));
        assert!(session.poll().body.starts_with("40{\"sid\":"));
        let mut upgraded = session.upgraded();
        upgraded.send_text("421[\"room\"]");
        upgraded.expect_text("431[]");
        assert_eq!(session.poll().status, 400);

        // Refusals come from the engine.
        let refused = self.connect().get(&format!("{path}?EIO=4&transport=x"));
        let unknown = r#"{"code":0,"message":"Transport unknown"}"#;
        assert_eq!(refused.parts(), (400, unknown));

        client.send_text("1");
        client.expect_close();
        until(|| self.io.clients_count() == 1);
        // Remaining clients receive the end.
        let io = self.io.clone();
        let closing = self.runtime.spawn(async move {
            io.close(Duration::from_secs(10)).await;
        });
        assert!(matches!(upgraded.message(), Frame::Close(_)));
        drop(upgraded);
        self.runtime.block_on(closing).unwrap();
        assert_eq!(self.io.clients_count(), 0);
    }
}

#[test]
fn an_axum_router_nests_the_service() {
    let mounted = Mounted::axum(|io| {
        Router::new()
            .route("/orders", get(async || "none"))
            .nest_service("/api/live", io.service())
    });
    assert_eq!(mounted.connect().get("/orders").parts(), (200, "none"));
    assert_eq!(mounted.connect().get("/other").status, 404);
    mounted.check("/api/live/");
}

#[test]
fn an_axum_router_has_the_layer_around_it() {
    let mounted = Mounted::axum(|io| {
        Router::new()
            .route("/orders", get(async || "none"))
            .layer(io.layer())
    });
    assert_eq!(mounted.connect().get("/orders").parts(), (200, "none"));
    assert_eq!(mounted.connect().get("/socket.io").status, 404);
    mounted.check("/socket.io/");
}

#[test]
fn a_layer_needs_no_routes_inside() {
    let mounted = Mounted::axum(|io| Router::new().layer(io.layer()));
    assert_eq!(mounted.connect().get(POLLING).status, 200);
    assert_eq!(mounted.connect().get("/").status, 404);
}

#[test]
fn session_has_its_url_address_and_security() {
    let mounted = Mounted::axum(|io| Router::new().nest_service("/a", io.service().secure()));
    let mut client = mounted.connect();
    client.open_websocket("/a/b/");
    join(&mut client, "");
    client.send_text("421[\"where\"]");
    client.expect_text("431[\"/a/b/?EIO=4&transport=websocket\",\"127.0.0.1\",true]");
}

/// Serves each connection with hyper's HTTP/1 alone.
async fn hyper_alone(service: IoService, listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades(),
        );
    }
}

#[test]
fn hyper_without_a_framework_serves_it() {
    let mounted = Mounted::new(Config::default(), |io, listener| {
        hyper_alone(io.service(), listener)
    });
    mounted.check("/socket.io/");
}

#[test]
fn a_tower_service_has_the_layer_around_it() {
    let mounted = Mounted::new(Config::default(), |io, listener| async move {
        let inside = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"inside"))))
        });
        let service = io.layer().layer(inside);
        loop {
            let (stream, _) = listener.accept().await?;
            let service = TowerToHyperService::new(service.clone());
            let server = hyper::server::conn::http1::Builder::new();
            let connection = server.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    assert_eq!(mounted.connect().get("/x").parts(), (200, "inside"));
    mounted.check("/socket.io/");
}

#[test]
fn server_over_another_transport_than_tcp_serves_it() {
    let mounted = Mounted::new(Config::default(), |io, listener| async move {
        loop {
            let (stream, _) = listener.accept().await?;
            // Like TLS: it buffers, and the socket below is not accessible.
            let stream = TokioIo::new(BufStream::new(stream));
            let service = TowerToHyperService::new(io.service());
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(stream, service).with_upgrades());
        }
    });
    mounted.check("/socket.io/");
}

#[test]
fn outer_middleware_sees_every_request_and_may_refuse() {
    let (see, seen) = mpsc::channel();
    let mounted = Mounted::axum(move |io| {
        Router::new()
            .nest_service("/socket.io", io.service())
            .layer(axum::middleware::from_fn(
                move |request: axum::extract::Request, next: axum::middleware::Next| {
                    let see = see.clone();
                    async move {
                        let upgrade = request.headers().contains_key("upgrade");
                        see.send((request.method().clone(), upgrade)).unwrap();
                        if request
                            .uri()
                            .query()
                            .is_some_and(|q| q.contains("forbidden"))
                        {
                            return Err(http::StatusCode::UNAUTHORIZED);
                        }
                        let mut response = next.run(request).await;
                        let value = http::HeaderValue::from_static("1");
                        response.headers_mut().insert("x-middleware", value);
                        Ok(response)
                    }
                },
            ))
    });
    let open = mounted.connect().get(POLLING);
    assert_eq!(open.header("x-middleware"), Some("1"));
    let target = format!("{POLLING}&sid={}", sid_of(&open.body));
    mounted.connect().request("POST", &target, "40");
    let switched = mounted
        .connect()
        .upgrade("/socket.io/?EIO=4&transport=websocket");
    assert_eq!(switched.header("x-middleware"), Some("1"));
    let refused = mounted.connect().get(&format!("{POLLING}&forbidden"));
    assert_eq!(refused.status, 401);
    let seen: Vec<_> = seen.try_iter().map(|(m, up)| (m.to_string(), up)).collect();
    let expected = [
        ("GET", false),
        ("POST", false),
        ("GET", true),
        ("GET", false),
    ];
    let expected = expected.map(|(method, up)| (method.to_owned(), up));
    assert_eq!(seen, expected);
}

#[test]
fn websocket_without_upgrade_support_of_the_host_is_refused() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let request = Request::get("/socket.io/?EIO=4&transport=websocket")
            .header("host", "localhost")
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let Ok(response) = builder(Config::default())
            .build()
            .unwrap()
            .service()
            .oneshot(request)
            .await;
        assert_eq!(response.status(), 400);
    });
}

#[test]
fn request_without_exactly_one_host_is_refused_in_a_host_server() {
    let nested = Mounted::axum(|io| Router::new().nest_service("/live", io.service()));
    let layered = Mounted::axum(|io| Router::new().layer(io.layer()));
    for (mounted, path) in [(&nested, "/live/"), (&layered, "/socket.io/")] {
        for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n"] {
            for target in ["?EIO=4&transport=polling", "socket.io.min.js"] {
                let mut client = mounted.connect();
                client.send(format!("GET {path}{target} HTTP/1.1\r\n{hosts}\r\n"));
                assert_eq!(client.response().parts(), (400, ""), "{hosts:?}");
                assert!(client.is_at_end());
            }
        }
        assert_eq!(
            mounted
                .connect()
                .get(&format!("{path}?EIO=4&transport=polling"))
                .status,
            200
        );
    }
}

#[test]
fn sessions_of_a_dropped_server_are_closed() {
    let mounted = Mounted::axum(|io| Router::new().layer(io.layer()));
    let mut client = mounted.connect();
    client.open_websocket("/socket.io/");
    join(&mut client, "");
    let thread = thread::spawn(move || drop(mounted));
    assert!(client.is_closed_by_server());
    thread.join().unwrap();
}

#[test]
fn client_files_are_served_below_the_path() {
    let nested = Mounted::axum(|io| Router::new().nest_service("/live", io.service()));
    let layered = Mounted::new(
        Config::default().cors(Cors::default().origins(["*"])),
        |io, listener| axum::serve(listener, Router::new().layer(io.layer())).into_future(),
    );
    let off = Mounted::new(Config::default().without_client_files(), |io, listener| {
        axum::serve(listener, Router::new().layer(io.layer())).into_future()
    });
    let file = nested.connect().get("/live/socket.io.min.js");
    assert_eq!(file.status, 200, "{}", file.body);
    assert!(file.body.starts_with("/*!\n * Socket.IO v"));
    let mut client = layered.connect();
    client.send("GET /socket.io/socket.io.js HTTP/1.1\r\nHost: x\r\nOrigin: http://a.b\r\n\r\n");
    let file = client.response();
    assert_eq!(file.status, 200);
    assert_eq!(file.header("access-control-allow-origin"), Some("*"));
    assert_eq!(off.connect().get("/socket.io/socket.io.js").status, 404);
    let mut session = nested.connect();
    session.open_websocket("/live/");
    join(&mut session, "");
    session.send_text("421[\"room\"]");
    assert_eq!(text(&mut session), "431[]");
}

#[test]
fn guard_without_client_addresses_refuses_all_with_the_remedy() {
    let guarded = || {
        let limits = AddressLimits::default();
        builder(Config::default()).guard(&limits, roomcast::limit::Proxies::default())
    };
    let app = |io: &Io| Router::new().layer(io.layer());
    let blind = Mounted::of(guarded(), |io, listener| {
        axum::serve(listener, app(&io)).into_future()
    });
    let refused = blind.connect().get(POLLING);
    assert_eq!(refused.status, 500);
    let line = "app.into_make_service_with_connect_info::<SocketAddr>()";
    assert!(refused.body.contains(line), "{}", refused.body);
    let mut client = blind.connect();
    client.send(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.response().status, 500);

    let answer = Mounted::of(guarded(), |io, listener| {
        let app = app(&io).into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app).into_future()
    });
    let mut client = answer.connect();
    client.open_websocket("/socket.io/");
    join(&mut client, "");
}

#[derive(Clone)]
struct User(&'static str);

/// A middleware in front, like that of a login.
async fn log_in(
    mut request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    request.extensions_mut().insert(User("ann"));
    next.run(request).await
}

#[test]
fn request_extensions_reach_hooks_and_handlers() {
    let builder = builder(Config::default())
        .allow_request(async |request: EngineRequest| {
            let user = request.extension::<User>();
            user.map(|_| ()).ok_or("nobody is logged in")
        })
        .namespace("/", |namespace| {
            namespace
                .authenticate(async |connect: Connect| {
                    let user = connect.handshake().extension::<User>();
                    let user =
                        user.ok_or_else(|| Refusal::unauthenticated("nobody is logged in"))?;
                    Ok::<_, Refusal>(Principal::new(user.0))
                })
                .on("user", async |event: Event| {
                    let user = event.socket.handshake().extension::<User>();
                    Ack((
                        event.principal().subject.clone(),
                        user.map(|user| user.0).unwrap_or_default(),
                        // Extensions that the server provides itself are not stored with each
                        // session.
                        (event.socket.handshake())
                            .extension::<axum::extract::ConnectInfo<SocketAddr>>()
                            .is_none(),
                    ))
                })
        });
    let server = Mounted::of(builder, |io, listener| {
        let app = Router::new().layer(io.layer());
        let app = app.layer(axum::middleware::from_fn(log_in));
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app).into_future()
    });
    let mut client = server.connect();
    client.open_websocket("/socket.io/");
    join(&mut client, "");
    client.send_text("421[\"user\"]");
    client.expect_text("431[\"ann\",\"ann\",true]");
    let session = Polling::open(server.address, "/socket.io/");
    session.post("40");
    assert!(session.poll().body.starts_with("40{"));
    session.post("421[\"user\"]");
    assert_eq!(session.poll().body, "431[\"ann\",\"ann\",true]");
}
