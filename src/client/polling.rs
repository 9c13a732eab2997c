//! The long-polling end of a connection: one GET that waits, and one POST at a time.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use roomcast_protocol::{
    Frame,
    engine::{CloseReason, Packet, payload},
};
use tokio::{sync::oneshot, task::AbortHandle};

use super::{ClientError, answer, options::Target};

/// What all requests of a session have in common.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) target: Target,
    pub(super) max_message: usize,
    pub(super) timeout: Duration,
}

/// The polling transport of a session.
#[derive(Debug)]
pub(super) struct Polling {
    endpoint: Arc<Endpoint>,
    /// Path and query, session included.
    path: Arc<str>,
    get: Slot,
    post: Slot,
    queue: VecDeque<Waiting>,
    queued: usize,
    /// The callers that wait for the answer to the POST that is under way.
    posting: Vec<oneshot::Sender<()>>,
    /// Bytes of one payload that the server takes.
    max_payload: usize,
    /// How long a poll may wait.
    patience: Duration,
    is_paused: bool,
}

/// Packets that wait for a POST.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) packets: Bytes,
    /// Whether the packets are sent apart from all others.
    pub(super) is_separate: bool,
    /// The caller that waits until the server has taken the packets.
    pub(super) waiter: Option<oneshot::Sender<()>>,
}

impl Polling {
    /// Asks for a session; its handshake and what came with it.
    pub(super) async fn open(endpoint: &Endpoint) -> Result<(Http, Bytes), ClientError> {
        let request = Exchange {
            method: Method::GET,
            path: endpoint.target.request("polling", None).into(),
            body: Bytes::new(),
        };
        let mut http = Http::connect(endpoint).await?;
        let answer = http.exchange(endpoint, &request).await;
        let (status, body) = answer.map_err(|error| {
            if matches!(error, ClientError::Io(_)) {
                return answer::gibberish(b"");
            }
            error
        })?;
        if status != 200 {
            return Err(answer::refusal(status, &body));
        }
        Ok((http, body))
    }

    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        http: Http,
        sid: &str,
        max_payload: u64,
        patience: Duration,
    ) -> Self {
        Self {
            path: endpoint.target.request("polling", Some(sid)).into(),
            endpoint,
            get: Slot::Idle(Some(http)),
            post: Slot::Idle(None),
            queue: VecDeque::new(),
            queued: 0,
            posting: Vec::new(),
            max_payload: match usize::try_from(max_payload) {
                Ok(0) | Err(_) => usize::MAX,
                Ok(bytes) => bytes,
            },
            patience,
            is_paused: false,
        }
    }

    /// Queues the messages of a frame.
    pub(super) fn push(&mut self, frame: &Frame) {
        let packets = frame.polling();
        if !packets.is_empty() {
            self.queue(packets, false, None);
        }
    }

    /// Queues a frame for a POST of its own, since Node's server drops events that share one with a
    /// `DISCONNECT`. `waiter` is notified when the server has answered that POST.
    pub(super) fn push_separate(&mut self, frame: &Frame, waiter: Option<oneshot::Sender<()>>) {
        self.queue(frame.polling(), true, waiter);
    }

    fn queue(&mut self, packets: Bytes, is_separate: bool, waiter: Option<oneshot::Sender<()>>) {
        self.queued += packets.len();
        self.queue.push_back(Waiting {
            packets,
            is_separate,
            waiter,
        });
    }

    /// Bytes that wait for a POST.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Returns whether the server has taken everything.
    pub(super) fn is_written(&self) -> bool {
        self.queue.is_empty() && matches!(self.post, Slot::Idle(_))
    }

    /// Reads and writes; ready when at least one packet is in `inbox`.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        inbox: &mut VecDeque<Packet>,
    ) -> Poll<Result<(), ClientError>> {
        loop {
            if let Poll::Ready(result) = self.poll_write(cx) {
                result?;
            }
            if !self.is_paused && matches!(self.get, Slot::Idle(_)) {
                let request = Exchange {
                    method: Method::GET,
                    path: Arc::clone(&self.path),
                    body: Bytes::new(),
                };
                self.get.start(&self.endpoint, request, self.patience);
            }
            let Poll::Ready(result) = self.get.poll(cx) else {
                return Poll::Pending;
            };
            let Some(answer) = result? else {
                // The transport is paused: a POST that is under way wakes the task, or the caller
                // takes over now.
                return Poll::Pending;
            };
            for packet in payload::decode(answer) {
                inbox.push_back(packet?);
            }
            if !inbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Ready when nothing waits and no POST is under way.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        loop {
            if matches!(self.post, Slot::Idle(_)) {
                if self.queue.is_empty() || self.is_paused {
                    return Poll::Ready(Ok(()));
                }
                let request = Exchange {
                    method: Method::POST,
                    path: Arc::clone(&self.path),
                    body: self.batch(),
                };
                let timeout = self.endpoint.timeout;
                self.post.start(&self.endpoint, request, timeout);
            }
            match self.post.poll(cx) {
                Poll::Ready(Ok(_)) => {
                    for waiter in self.posting.drain(..) {
                        // The caller may have stopped waiting.
                        let _ = waiter.send(());
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Starts no further request. What waits is for the transport that follows.
    pub(super) fn pause(&mut self) {
        self.is_paused = true;
    }

    /// What waited for a POST.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiting> {
        self.queued = 0;
        self.queue.drain(..)
    }

    /// Whether no request is under way.
    pub(super) fn is_quiet(&self) -> bool {
        matches!((&self.get, &self.post), (Slot::Idle(_), Slot::Idle(_)))
    }

    /// As many packets as one payload may have; at least one. Separate packets share a payload
    /// only with each other.
    fn batch(&mut self) -> Bytes {
        let Some(first) = self.queue.pop_front() else {
            return Bytes::new();
        };
        let mut batch = first.packets;
        self.posting.extend(first.waiter);
        self.queued -= batch.len();
        let mut joined = Vec::new();
        while let Some(next) = self.queue.pop_front_if(|next| {
            let length = joined.len().max(batch.len()) + 1 + next.packets.len();
            length <= self.max_payload && next.is_separate == first.is_separate
        }) {
            if joined.is_empty() {
                joined.extend_from_slice(&batch);
            }
            joined.push(payload::SEPARATOR);
            joined.extend_from_slice(&next.packets);
            self.queued -= next.packets.len();
            self.posting.extend(next.waiter);
        }
        if !joined.is_empty() {
            batch = joined.into();
        }
        batch
    }
}

/// The connection of a request if it can be used again, and the body of the answer.
type ExchangeOutcome = (Option<Http>, Result<Bytes, ClientError>);

/// One of the two requests that a session may have under way.
enum Slot {
    /// No request is under way. The connection of the last one is kept, if it lives.
    Idle(Option<Http>),
    Busy(Pin<Box<dyn Future<Output = ExchangeOutcome> + Send + Sync>>),
}

impl Slot {
    fn start(&mut self, endpoint: &Arc<Endpoint>, request: Exchange, timeout: Duration) {
        let Self::Idle(http) = self else { return };
        let (http, endpoint) = (http.take(), Arc::clone(endpoint));
        *self = Self::Busy(Box::pin(async move {
            match tokio::time::timeout(timeout, answer_to(&endpoint, http, &request)).await {
                Ok(Ok((http, body))) => (Some(http), Ok(body)),
                Ok(Err(error)) => (None, Err(error)),
                Err(_) => (None, Err(ClientError::Timeout("a polling request"))),
            }
        }));
    }

    /// Returns `Ok(None)` if no request is under way.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        let Self::Busy(future) = self else {
            return Poll::Ready(Ok(None));
        };
        let Poll::Ready((http, result)) = future.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        *self = Self::Idle(http);
        Poll::Ready(result.map(Some))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle(_) => "Idle",
            Self::Busy(_) => "Busy",
        })
    }
}

/// Sends a request within a session, on the connection of the last one if that still lives.
async fn answer_to(
    endpoint: &Endpoint,
    http: Option<Http>,
    request: &Exchange,
) -> Result<(Http, Bytes), ClientError> {
    let mut living = None;
    if let Some(mut http) = http
        && http.sender.ready().await.is_ok()
    {
        living = Some(http);
    }
    let mut http = match living {
        Some(http) => http,
        None => Http::connect(endpoint).await?,
    };
    match http.exchange(endpoint, request).await? {
        (200, body) => Ok((http, body)),
        // The session is gone, and the answer does not say why.
        (400, _) => Err(ClientError::Closed(CloseReason::TransportClose)),
        (status, body) => Err(answer::refusal(status, &body)),
    }
}

struct Exchange {
    method: Method,
    path: Arc<str>,
    body: Bytes,
}

/// One HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Http {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Http {
    async fn connect(endpoint: &Endpoint) -> Result<Self, ClientError> {
        let stream = endpoint.target.connect().await?;
        let connected = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = connected.map_err(broken)?;
        let driver = tokio::spawn(async move {
            // An error of the connection reaches the request that is under way.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            driver: driver.abort_handle(),
        })
    }

    async fn exchange(
        &mut self,
        endpoint: &Endpoint,
        exchange: &Exchange,
    ) -> Result<(u16, Bytes), ClientError> {
        let mut request = Request::builder()
            .method(&exchange.method)
            .uri(&*exchange.path)
            .header(header::HOST, &endpoint.target.authority)
            .header(header::ACCEPT, "*/*");
        for (name, value) in &endpoint.target.headers {
            request = request.header(name, value);
        }
        if exchange.method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "text/plain;charset=UTF-8");
        }
        let request = request
            .body(Full::new(exchange.body.clone()))
            .map_err(|error| ClientError::Options(error.to_string()))?;
        let answer = self.sender.send_request(request).await.map_err(broken)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), endpoint.max_message);
        let body = body
            .collect()
            .await
            .map_err(|error| ClientError::Io(std::io::Error::other(error)))?;
        Ok((status, body.to_bytes()))
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        // The task would otherwise read from the connection until the server closes it.
        self.driver.abort();
    }
}

fn broken(error: hyper::Error) -> ClientError {
    if error.is_parse() {
        return ClientError::NotSocketIo("it does not speak HTTP/1.1".into());
    }
    ClientError::Io(std::io::Error::other(error))
}

/// Bytes that hyper may buffer of a request's or answer's head and body.
const BUFFER: usize = 16 * 1024;
