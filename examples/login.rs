//! A login at the HTTP API is known to Socket.IO: a layer finds out who sends a request and
//! puts the user with it as an extension, as layers for logins do (`tower-sessions`, `axum-login`).
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

/// The user who has sent a request, as far as the layer knows.
#[derive(Clone)]
struct User {
    name: String,
}

/// The layer. One with sessions looks the cookie up instead of believing it.
async fn log_in(mut request: Request, next: middleware::Next) -> Response {
    let cookie = request.headers().get("cookie");
    let cookie = cookie.and_then(|cookie| cookie.to_str().ok());
    if let Some(name) = cookie.and_then(|cookie| cookie.strip_prefix("session=")) {
        let user = User { name: name.into() };
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

/// The request that opened the connection decides who it belongs to.
async fn authenticate(connect: Connect) -> Result<Principal, Refusal> {
    let user = connect.handshake().extension::<User>();
    let user = user.ok_or_else(|| Refusal::unauthenticated("nobody is logged in"))?;
    Ok(Principal::new(&user.name))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Addresses are limited, so the server around must tell them.
    let mut io = Io::builder().guard(&AddressLimits::default(), Proxies::default());
    io.namespace("/")
        .authenticate(authenticate)
        .on("whoami", async |_: Event, user: Extension<User>| {
            Ack(user.name.clone())
        });
    let io = io.build()?;
    let me = async |axum::Extension(user): axum::Extension<User>| user.name;
    let app = Router::new()
        .route("/me", get(me))
        .layer(io.layer())
        .layer(middleware::from_fn(log_in)) // outside of Socket.IO, so that it comes first
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}
