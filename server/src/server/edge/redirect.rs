//! The listener that redirects requests without TLS to `https`.
//!
//! It redirects only to configured names, so that a page cannot use it to lead users elsewhere.
//! Each connection has one request, whose body is not read.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ALLOW, CONTENT_TYPE, HOST, LOCATION},
    request::Parts,
    uri::Authority,
};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use roomcast::network::Network;
use tokio::net::{TcpListener, TcpStream};

use super::{super::RunError, challenges::Challenges};
use crate::config::Settings;
use crate::supervisor::Supervisor;

/// A bound listener that does not serve yet.
#[derive(Debug)]
pub(in crate::server) struct RedirectListener {
    listener: Arc<TcpListener>,
    redirects: Arc<Redirects>,
}

/// The targets of redirects, and the answers to challenges.
#[derive(Debug)]
struct Redirects {
    challenges: Challenges,
    names: Vec<String>,
    /// The port in targets with a colon before it, or empty for the port of `https`.
    port: String,
}

impl RedirectListener {
    /// Listens at the configured address, if there is one.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub(in crate::server) async fn bind(
        settings: &Settings,
        challenges: &Challenges,
    ) -> Result<Option<Self>, RunError> {
        let tls = &settings.server.tls;
        let Some(address) = tls.redirect_listen else {
            return Ok(None);
        };
        let port = tls
            .public_port
            .unwrap_or_else(|| settings.server.listen.port());
        let redirects = Redirects {
            challenges: challenges.clone(),
            names: tls.names.clone(),
            port: match port {
                443 => String::new(),
                other => format!(":{other}"),
            },
        };
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Some(Self {
                listener: Arc::new(listener),
                redirects: Arc::new(redirects),
            })),
            Err(error) => Err(RunError::Redirect(address, error)),
        }
    }

    /// Redirects until the process ends.
    pub(in crate::server) fn serve(self, supervisor: &Supervisor) {
        if let Ok(address) = self.listener.local_addr() {
            tracing::info!(url = %format_args!("http://{address}"), "redirect listener ready");
        }
        let places = Arc::new(Places::default());
        supervisor.start("redirect listener", move || {
            let (listener, redirects) = (Arc::clone(&self.listener), Arc::clone(&self.redirects));
            accept(listener, redirects, Arc::clone(&places))
        });
    }
}

async fn accept(listener: Arc<TcpListener>, redirects: Arc<Redirects>, places: Arc<Places>) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "could not accept a connection on the redirect listener");
                // If no file descriptors are free, every attempt fails immediately.
                tokio::time::sleep(ACCEPT_DELAY).await;
                continue;
            }
        };
        // Connections above a limit are closed. They could wait only for clients that do not send.
        let Some(place) = Place::take(&places, address) else {
            continue;
        };
        let redirects = Arc::clone(&redirects);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(LIFETIME, serve(stream, redirects)).await;
            drop(place);
        });
    }
}

/// Serves one connection, which has one request.
async fn serve(stream: TcpStream, redirects: Arc<Redirects>) {
    let service = service_fn(move |request: Request<_>| {
        let response = redirects.respond(&request.into_parts().0);
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection on the redirect listener failed");
    }
}

impl Redirects {
    fn respond(&self, request: &Parts) -> Response<Full<Bytes>> {
        if ![Method::GET, Method::HEAD].contains(&request.method) {
            // A repeated request would have been sent in plain text all the same.
            let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED, "use https");
            let methods = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, methods);
            return refused;
        }
        if let Some(text) = self.challenges.answer(request.uri.path()) {
            return Response::new(Full::new(Bytes::from(text)));
        }
        let Some(host) = host(request) else {
            return answer(StatusCode::BAD_REQUEST, "the host or the target is invalid");
        };
        let mut names = self.names.iter();
        let Some(name) = names.find(|name| name.eq_ignore_ascii_case(&host)) else {
            return answer(
                StatusCode::MISDIRECTED_REQUEST,
                "this server has another name",
            );
        };
        let location = format!("https://{name}{}{}", self.port, request.uri);
        let Ok(location) = HeaderValue::try_from(location) else {
            return answer(StatusCode::BAD_REQUEST, "the target is invalid");
        };
        let mut redirect = answer(StatusCode::MOVED_PERMANENTLY, "use https");
        redirect.headers_mut().insert(LOCATION, location);
        redirect
    }
}

/// Returns the host of a request for a path, without port. `None` if the host is missing, repeated
/// or invalid, or if the target is no path.
fn host(request: &Parts) -> Option<String> {
    // The host of an absolute target would replace the header (RFC 9112, 3.2.2). Only requests to
    // proxies have it.
    if is_absolute(&request.uri) {
        return None;
    }
    let mut hosts = request.headers.get_all(HOST).iter();
    let (host, None) = (hosts.next()?, hosts.next()) else {
        return None;
    };
    let host: Authority = host.to_str().ok()?.parse().ok()?;
    // A user name is no part of a host, and its presence is an attempt to deceive.
    if host.as_str().contains('@') {
        return None;
    }
    // A colon without a port is valid (RFC 3986, 3.2.3), and any other text is not.
    let rest = host.as_str().get(host.host().len()..)?;
    if !rest.is_empty() && rest != ":" && host.port_u16().is_none() {
        return None;
    }
    Some(host.host().to_owned())
}

fn is_absolute(target: &Uri) -> bool {
    target.authority().is_some() || !target.path().starts_with('/')
}

fn answer(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("roomcast: {text}\n"))));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// The open connections, by client.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<Network, usize>>);

/// The place of a connection. Dropping it frees the place.
struct Place {
    places: Arc<Places>,
    client: Network,
}

impl Place {
    /// Returns `None` if all clients, or this one, have too many connections.
    fn take(places: &Arc<Places>, address: SocketAddr) -> Option<Self> {
        let client = Network::of_client(address.ip());
        let mut open = places.0.lock();
        let all: usize = open.values().sum();
        let own = open.get(&client).copied().unwrap_or_default();
        if all >= CONNECTIONS || own >= CONNECTIONS_EACH {
            return None;
        }
        open.insert(client, own + 1);
        drop(open);
        let places = Arc::clone(places);
        Some(Self { places, client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.0.lock();
        if let Some(own) = open.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.client);
            }
        }
    }
}

/// Maximum concurrent connections; further ones are closed.
const CONNECTIONS: usize = 512;
/// Maximum concurrent connections of one client address.
const CONNECTIONS_EACH: usize = 32;
/// Maximum bytes of the head of a request.
const MAX_HEAD: usize = 8192;
/// The maximum time for the head of the request to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum duration of a connection.
const LIFETIME: Duration = Duration::from_secs(10);
/// The delay after a failed accept.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn redirects(port: &str) -> Redirects {
        Redirects {
            challenges: Challenges::default(),
            names: vec!["chat.example".into(), "192.0.2.1".into()],
            port: port.into(),
        }
    }

    fn request(method: &str, target: &str, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// Returns the status and the target of the answer.
    fn respond(redirects: &Redirects, request: &Parts) -> (u16, Option<String>) {
        let response = redirects.respond(request);
        let location = response.headers().get(LOCATION);
        let location = location.map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), location)
    }

    #[test]
    fn request_for_a_known_name_is_redirected_with_its_path() {
        for (port, host, target, location) in [
            ("", "chat.example", "/", "https://chat.example/"),
            (
                "",
                "CHAT.example:80",
                "/a?b=c",
                "https://chat.example/a?b=c",
            ),
            (":8443", "chat.example:", "/", "https://chat.example:8443/"),
            (
                "",
                "192.0.2.1",
                "//evil.example",
                "https://192.0.2.1//evil.example",
            ),
            (
                "",
                "chat.example",
                "/@evil.example",
                "https://chat.example/@evil.example",
            ),
        ] {
            for method in ["GET", "HEAD"] {
                let redirected = respond(&redirects(port), &request(method, target, &[host]));
                assert_eq!(redirected, (301, Some(location.to_owned())), "{host}");
            }
        }
    }

    #[test]
    fn no_request_is_redirected_to_an_unknown_name() {
        let refused = |request: &Parts| {
            let (status, location) = respond(&redirects(""), request);
            assert_eq!(location, None);
            status
        };
        for host in [
            "evil.example",
            "chat.example.evil.example",
            "xchat.example",
            "example",
        ] {
            assert_eq!(refused(&request("GET", "/", &[host])), 421, "{host}");
        }
        for host in [
            "",
            "chat.example@evil.example",
            "evil.example@chat.example",
            "chat.example/evil.example",
            "chat.example evil.example",
            "chat.example:evil",
            "chat.example:99999",
            "[::1",
        ] {
            assert_eq!(refused(&request("GET", "/", &[host])), 400, "{host}");
        }
        let two = ["chat.example", "evil.example"];
        for hosts in [&[][..], &two, &["chat.example", "chat.example"]] {
            assert_eq!(refused(&request("GET", "/", hosts)), 400, "{hosts:?}");
        }
        for target in ["http://evil.example/", "http://chat.example/", "*"] {
            let request = request("GET", target, &["chat.example"]);
            assert_eq!(refused(&request), 400, "{target}");
        }
        for method in ["POST", "PUT", "OPTIONS", "CONNECT", "BREW"] {
            let request = request(method, "/", &["chat.example"]);
            assert_eq!(refused(&request), 405, "{method}");
        }
    }

    #[test]
    fn a_client_has_a_limited_part_of_the_places() {
        let places = Arc::new(Places::default());
        let at = |last: u8| SocketAddr::from(([192, 0, 2, last], 1));
        let own: Vec<_> = (0..CONNECTIONS_EACH)
            .map(|_| Place::take(&places, at(1)).unwrap())
            .collect();
        assert!(Place::take(&places, at(1)).is_none());
        let others: Vec<_> = (0..(CONNECTIONS / CONNECTIONS_EACH - 1))
            .flat_map(|client| [client; CONNECTIONS_EACH])
            .map(|client| Place::take(&places, at(client as u8 + 2)).unwrap())
            .collect();
        assert!(Place::take(&places, at(255)).is_none());
        drop((own, others));
        assert!(places.0.lock().is_empty());
        assert!(Place::take(&places, at(255)).is_some());
    }
}
