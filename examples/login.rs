//! Makes a login at the HTTP API available to Socket.IO. A layer identifies the user of a request
//! and adds the user as an extension, like layers for logins (`tower-sessions`, `axum-login`).
//!
//! ```sh
//! cargo run --example login
//! curl -H 'cookie: session=ann' localhost:3000/me
//! ```
//!
//! ```js
//! const socket = io("http://localhost:3000", { extraHeaders: { cookie: "session=ann" } });
//! socket.on("connect_error", (error) => console.log(error.message));   // without the cookie
//! socket.emit("whoami", (name) => console.log(name));                  // "ann"
//! ```

use std::net::SocketAddr;

use axum::{Router, extract::Request, middleware, response::Response, routing::get};
use roomcast::{
    Ack, Connect, Event, Extension, Io, Principal, Refusal, limit::Proxies, options::AddressLimits,
};
use tokio::net::TcpListener;

/// The user who sent a request, according to the layer.
#[derive(Clone)]
struct User {
    name: String,
}

/// Identifies the user. A layer with sessions looks the cookie up instead of trusting it.
async fn log_in(mut request: Request, next: middleware::Next) -> Response {
    let cookie = request.headers().get("cookie");
    let cookie = cookie.and_then(|cookie| cookie.to_str().ok());
    if let Some(name) = cookie.and_then(|cookie| cookie.strip_prefix("session=")) {
        let user = User { name: name.into() };
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

/// Authenticates the connection: the request that opened it decides to which user it belongs.
async fn authenticate(connect: Connect) -> Result<Principal, Refusal> {
    let user = connect.handshake().extension::<User>();
    let user = user.ok_or_else(|| Refusal::unauthenticated("nobody is logged in"))?;
    Ok(Principal::new(&user.name))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Address limits need the peer addresses, so the axum server must provide them.
    let io = Io::builder()
        .guard(&AddressLimits::default(), Proxies::default())
        .namespace("/", |namespace| {
            namespace
                .authenticate(authenticate)
                .on("whoami", async |_: Event, user: Extension<User>| {
                    Ack(user.name.clone())
                })
        });
    let io = io.build()?;
    let me = async |axum::Extension(user): axum::Extension<User>| user.name;
    let app = Router::new()
        .route("/me", get(me))
        .layer(io.layer())
        .layer(middleware::from_fn(log_in)) // outside of Socket.IO, so that it runs first
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}
