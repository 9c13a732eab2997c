//! The same server mounted in another HTTP server.

use std::{env, net::SocketAddr};

use axum::Router;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use roomcast::Io;
use tokio::{
    io::BufStream,
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

/// Serves on `$PORT` of 127.0.0.1 until SIGTERM, mounted as `how` specifies. `nested` and `layer`
/// use axum, `hyper` only hyper, and `buffered` hyper over a stream that is not TCP.
pub(crate) async fn run(io: Io, how: &str) -> Result<(), roomcast::Error> {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be received");
    let address = format!("127.0.0.1:{}", env::var("PORT").unwrap_or_default());
    let fault = |error| roomcast::Error::Listen(address.clone(), error);
    let listener = TcpListener::bind(&address).await.map_err(fault)?;
    println!("listening on {}", listener.local_addr().map_err(fault)?);
    let serving = serve(io.clone(), listener, how);
    tokio::select! {
        served = serving => served.map_err(fault),
        _ = terminate.recv() => {
            io.close(std::time::Duration::from_secs(5)).await;
            Ok(())
        }
    }
}

async fn serve(io: Io, listener: TcpListener, how: &str) -> std::io::Result<()> {
    let app = match how {
        "nested" => Router::new().nest_service("/socket.io", io.service()),
        "layer" => Router::new().layer(io.layer()),
        _ => loop {
            let (stream, address) = listener.accept().await?;
            tokio::spawn(connection(io.clone(), stream, address, how == "buffered"));
        },
    };
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await
}

async fn connection(io: Io, stream: TcpStream, address: SocketAddr, is_buffered: bool) {
    let service = tower::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        let address = axum::extract::ConnectInfo(address);
        request.extensions_mut().insert(address);
        tower::ServiceExt::oneshot(io.service(), request)
    });
    let service = TowerToHyperService::new(service);
    let http = hyper::server::conn::http1::Builder::new();
    // A client that disconnects ends with an error, which is not the server's fault.
    let _ = if is_buffered {
        let stream = TokioIo::new(BufStream::new(stream));
        http.serve_connection(stream, service).with_upgrades().await
    } else {
        let stream = TokioIo::new(stream);
        http.serve_connection(stream, service).with_upgrades().await
    };
}
