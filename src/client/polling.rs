//! The long-polling transport: one pending GET, and one POST at a time.

use std::{
    collections::VecDeque,
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

use super::{ClientError, answer, handshake::Handshake, options::Target};

/// The polling transport of a session.
pub(super) struct Polling {
    target: Arc<Target>,
    /// Path and query, including the session id.
    path: Arc<str>,
    get: Slot,
    post: Slot,
    queue: VecDeque<Waiting>,
    queued: usize,
    /// The callers that wait for the response to the current POST.
    posting: Vec<oneshot::Sender<()>>,
    /// Maximum bytes of one payload that the server accepts.
    max_payload: usize,
    /// Timeout of a polling request.
    time_limit: Duration,
    is_paused: bool,
}

/// Packets that wait for a POST.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) packets: Bytes,
    /// Whether the packets are sent separately from all others.
    pub(super) is_separate: bool,
    /// Is notified when the server has accepted the packets.
    pub(super) waiter: Option<oneshot::Sender<()>>,
}

impl Polling {
    /// Requests a session. Returns the connection and the response with the handshake.
    pub(super) async fn open(target: &Target) -> Result<(Http, Bytes), ClientError> {
        let path = target.request("polling", None);
        let mut http = Http::connect(target).await?;
        let answer = http.exchange(target, &path, None).await;
        let (status, body) = answer.map_err(|error| {
            if matches!(error, ClientError::Io(_)) {
                return answer::unexpected_response(b"");
            }
            error
        })?;
        if status != 200 {
            return Err(answer::refusal(status, &body));
        }
        Ok((http, body))
    }

    pub(super) fn new(target: Arc<Target>, http: Http, handshake: &Handshake) -> Self {
        let times = handshake.times();
        Self {
            path: target.request("polling", Some(&handshake.sid)).into(),
            target,
            get: Slot::Idle(Some(http)),
            post: Slot::Idle(None),
            queue: VecDeque::new(),
            queued: 0,
            posting: Vec::new(),
            max_payload: match usize::try_from(handshake.max_payload) {
                Ok(0) | Err(_) => usize::MAX,
                Ok(bytes) => bytes,
            },
            time_limit: times.ping_interval + times.ping_timeout,
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

    /// Queues a frame for a separate POST. Node's server drops events that share a POST with a
    /// `DISCONNECT`. `waiter` is notified when the server has answered the POST.
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

    /// Returns the number of bytes that wait for a POST.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Returns whether the server has accepted all data.
    pub(super) fn is_written(&self) -> bool {
        self.queue.is_empty() && matches!(self.post, Slot::Idle(_))
    }

    /// Reads and writes. Completes when `inbox` contains at least one packet.
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
                let (target, path) = (Arc::clone(&self.target), Arc::clone(&self.path));
                self.get.start(target, path, None, self.time_limit);
            }
            let Poll::Ready(result) = self.get.poll(cx) else {
                return Poll::Pending;
            };
            let Some(answer) = result? else {
                // The transport is paused. Either a running POST wakes the task, or the caller
                // switches to the WebSocket now.
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

    /// Writes queued data. Completes when no data waits and no POST is in flight.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        loop {
            if matches!(self.post, Slot::Idle(_)) {
                if self.queue.is_empty() || self.is_paused {
                    return Poll::Ready(Ok(()));
                }
                let (target, path) = (Arc::clone(&self.target), Arc::clone(&self.path));
                let timeout = target.options.connect_timeout;
                let body = Some(self.batch());
                self.post.start(target, path, body, timeout);
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

    /// Starts no further request. The next transport sends the queued data.
    pub(super) fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Removes and returns the packets that wait for a POST.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiting> {
        self.queued = 0;
        self.queue.drain(..)
    }

    /// Returns whether no request is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        matches!((&self.get, &self.post), (Slot::Idle(_), Slot::Idle(_)))
    }

    /// Takes as many packets as fit into one payload, at least one. Separate packets share a
    /// payload only with separate packets.
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

/// The request's connection, if reusable, and the body of the response.
type ExchangeOutcome = (Option<Http>, Result<Bytes, ClientError>);

/// One of the two concurrent requests of a session.
enum Slot {
    /// No request is in flight. The last connection is retained if it is still open.
    Idle(Option<Http>),
    Busy(Pin<Box<dyn Future<Output = ExchangeOutcome> + Send + Sync>>),
}

impl Slot {
    /// Starts a POST with this body, or a GET if there is none.
    fn start(
        &mut self,
        target: Arc<Target>,
        path: Arc<str>,
        body: Option<Bytes>,
        timeout: Duration,
    ) {
        let Self::Idle(http) = self else { return };
        let http = http.take();
        *self = Self::Busy(Box::pin(async move {
            match tokio::time::timeout(timeout, answer_to(&target, &path, body, http)).await {
                Ok(Ok((http, body))) => (Some(http), Ok(body)),
                Ok(Err(error)) => (None, Err(error)),
                Err(_) => (None, Err(ClientError::Timeout("a polling request"))),
            }
        }));
    }

    /// Returns `Ok(None)` if no request is in flight.
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

/// Sends a request within a session. Reuses the last connection if it is still open.
async fn answer_to(
    target: &Target,
    path: &str,
    body: Option<Bytes>,
    http: Option<Http>,
) -> Result<(Http, Bytes), ClientError> {
    let mut living = None;
    if let Some(mut http) = http
        && http.sender.ready().await.is_ok()
    {
        living = Some(http);
    }
    let mut http = match living {
        Some(http) => http,
        None => Http::connect(target).await?,
    };
    match http.exchange(target, path, body).await? {
        (200, body) => Ok((http, body)),
        // The session has ended, and the response does not contain the reason.
        (400, _) => Err(ClientError::Closed(CloseReason::TransportClose)),
        (status, body) => Err(answer::refusal(status, &body)),
    }
}

/// One HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Http {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Http {
    async fn connect(target: &Target) -> Result<Self, ClientError> {
        let stream = target.connect().await?;
        let connected = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = connected.map_err(broken)?;
        let driver = tokio::spawn(async move {
            // The current request reports an error of the connection.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            driver: driver.abort_handle(),
        })
    }

    async fn exchange(
        &mut self,
        target: &Target,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<(u16, Bytes), ClientError> {
        let mut request = Request::builder()
            .uri(path)
            .header(header::HOST, &target.authority)
            .header(header::ACCEPT, "*/*");
        for (name, value) in &target.options.headers {
            request = request.header(name, value);
        }
        if body.is_some() {
            request = request
                .method(Method::POST)
                .header(header::CONTENT_TYPE, "text/plain;charset=UTF-8");
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| ClientError::Options(error.to_string()))?;
        let answer = self.sender.send_request(request).await.map_err(broken)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), target.options.max_message);
        let body = body
            .collect()
            .await
            .map_err(|error| ClientError::Io(std::io::Error::other(error)))?;
        Ok((status, body.to_bytes()))
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        // Otherwise the task would read from the connection until the server closes it.
        self.driver.abort();
    }
}

fn broken(error: hyper::Error) -> ClientError {
    if error.is_parse() {
        return ClientError::NotSocketIo("it does not speak HTTP/1.1".into());
    }
    ClientError::Io(std::io::Error::other(error))
}

/// Maximum bytes of a request or response that hyper buffers.
const BUFFER: usize = 16 * 1024;
