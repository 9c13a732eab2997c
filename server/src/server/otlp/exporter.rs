//! The task that exports spans.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::resource::v1::Resource;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{encoding, headers, target};
use crate::auth::outbound::{Outbound, OutboundFault, SendError};
use crate::config::Otlp;
use crate::metrics::{
    Counter, Metrics,
    trace::{Sampling, Span, Spans},
};
use roomcast::internal::LogThrottle;

/// Exports recorded spans. Clones share the queue.
#[derive(Clone)]
pub(crate) struct Exporter(Arc<ExporterInner>);

struct ExporterInner {
    outbound: Outbound,
    headers_file: Option<PathBuf>,
    service_name: String,
    batch: usize,
    interval: Duration,
    metrics: Arc<Metrics>,
    log_throttle: LogThrottle,
    /// The state of the task, or `None` while the task runs. A task that is started again continues
    /// with it.
    pending: Mutex<Option<Pending>>,
    /// Notified when the state is returned.
    returned: Notify,
    closing: Notify,
}

/// The state while a task uses it. It is returned when the task ends.
struct TakenPending<'a> {
    exporter: &'a ExporterInner,
    /// `None` once it is returned.
    pending: Option<Pending>,
}

impl Drop for TakenPending<'_> {
    fn drop(&mut self) {
        *self.exporter.pending.lock() = self.pending.take();
        self.exporter.returned.notify_one();
    }
}

struct Pending {
    queue: mpsc::Receiver<Span>,
    /// The spans of the next request, or of the one that is repeated.
    batch: Vec<Span>,
    resource: Option<Resource>,
}

/// The result of a request.
enum Outcome {
    /// The collector answered, and rejected this number of spans.
    Exported(u64),
    /// The collector will never accept the batch.
    Refused(String),
    /// The collector may accept the batch later, after the time that it states.
    Unavailable(String, Option<Duration>),
}

/// Checks the configuration of the collector.
///
/// # Errors
///
/// If the URL is invalid, or the file with headers cannot be used.
pub(crate) fn check(config: &Otlp) -> Result<(), OutboundFault> {
    client(config).map(drop)
}

/// Returns what records spans, and what exports them if a collector is configured.
///
/// # Errors
///
/// As [`check`].
pub(crate) fn open(
    config: &Otlp,
    metrics: &Arc<Metrics>,
) -> Result<(Spans, Option<Exporter>), OutboundFault> {
    let Some(outbound) = client(config)? else {
        let forwarded = config.requested_per_second;
        return Ok((Spans::forwarding(forwarded, Arc::clone(metrics)), None));
    };
    let sampling = Sampling {
        ratio: config.sample_ratio,
        requested_per_second: config.requested_per_second,
        spans_per_second: config.spans_per_second,
    };
    let (spans, queue) = Spans::new(sampling, config.queue, Arc::clone(metrics));
    let exporter = Exporter(Arc::new(ExporterInner {
        outbound,
        headers_file: config.headers_file.clone(),
        service_name: config.service_name.clone(),
        batch: config.batch,
        interval: config.interval,
        metrics: Arc::clone(metrics),
        log_throttle: LogThrottle::new(LOG_LINES),
        pending: Mutex::new(Some(Pending {
            queue,
            batch: Vec::new(),
            resource: None,
        })),
        returned: Notify::new(),
        closing: Notify::new(),
    }));
    Ok((spans, Some(exporter)))
}

fn client(config: &Otlp) -> Result<Option<Outbound>, OutboundFault> {
    let Some(target) = target(config) else {
        return Ok(None);
    };
    if let Some(path) = &config.headers_file {
        headers::read(path).map_err(OutboundFault)?;
    }
    Outbound::new(target).map(Some)
}

impl Exporter {
    /// Exports spans until [`close`](Self::close). `node` is the name of this server.
    pub(crate) async fn run(self, node: String) {
        let mut taken = self.0.take().await;
        let Some(pending) = &mut taken.pending else {
            return;
        };
        pending.resource = Some(encoding::resource(&self.0.service_name, &node));
        let exporting = async {
            loop {
                self.0.fill(pending).await;
                self.0.export(pending, MAX_ATTEMPTS).await;
            }
        };
        tokio::select! {
            // The batch stays, and `close` exports it.
            () = self.0.closing.notified() => {}
            () = exporting => {}
        }
    }

    /// Exports the queued spans at shutdown, for at most five seconds. The rest is counted.
    pub(crate) async fn close(&self) {
        self.0.closing.notify_one();
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        let Ok(mut taken) = timeout_at(deadline, self.0.take()).await else {
            return;
        };
        let Some(pending) = &mut taken.pending else {
            return;
        };
        pending.queue.close();
        let exporting = async {
            loop {
                self.0.take_queued(pending);
                if pending.batch.is_empty() {
                    return;
                }
                self.0.export(pending, 1).await;
            }
        };
        let _ = timeout_at(deadline, exporting).await;
        let mut left = pending.batch.len();
        while pending.queue.try_recv().is_ok() {
            left += 1;
        }
        self.0.metrics.add(Counter::SpansFailed, left as u64);
    }
}

impl ExporterInner {
    /// Waits until no task uses the state, and takes it.
    async fn take(&self) -> TakenPending<'_> {
        loop {
            let pending = self.pending.lock().take();
            if pending.is_some() {
                return TakenPending {
                    exporter: self,
                    pending,
                };
            }
            self.returned.notified().await;
        }
    }

    /// Waits until the batch is full, or its first span has waited for the interval.
    async fn fill(&self, pending: &mut Pending) {
        if pending.batch.is_empty() {
            match pending.queue.recv().await {
                Some(span) => pending.batch.push(span),
                None => return std::future::pending().await,
            }
        }
        let Pending { queue, batch, .. } = pending;
        let filling = async {
            while batch.len() < self.batch {
                let Some(span) = queue.recv().await else {
                    return;
                };
                batch.push(span);
            }
        };
        let _ = timeout(self.interval, filling).await;
    }

    /// Fills the batch with spans that are queued now.
    fn take_queued(&self, pending: &mut Pending) {
        while pending.batch.len() < self.batch
            && let Ok(span) = pending.queue.try_recv()
        {
            pending.batch.push(span);
        }
    }

    /// Sends the batch, at most this number of times, and empties it.
    async fn export(&self, pending: &mut Pending, attempts: u32) {
        let Pending {
            batch, resource, ..
        } = pending;
        let resource = resource.get_or_insert_with(|| encoding::resource(&self.service_name, ""));
        let body = encoding::request(resource, batch);
        let count = batch.len() as u64;
        for attempt in 1..=attempts {
            let (why, wait) = match self.send(body.clone()).await {
                Outcome::Exported(rejected) => {
                    let rejected = rejected.min(count);
                    self.metrics.add(Counter::SpansExported, count - rejected);
                    self.metrics.add(Counter::SpansRejected, rejected);
                    if rejected > 0 {
                        self.warn(rejected, "the collector rejected them");
                    }
                    return batch.clear();
                }
                Outcome::Refused(why) => {
                    self.metrics.add(Counter::SpansRejected, count);
                    self.warn(count, &why);
                    return batch.clear();
                }
                Outcome::Unavailable(why, wait) => (why, wait),
            };
            if attempt == attempts {
                self.metrics.add(Counter::SpansFailed, count);
                self.warn(count, &why);
                break;
            }
            let backoff = FIRST_DELAY * 2_u32.saturating_pow(attempt - 1);
            sleep(wait.map_or(backoff, |wait| wait.min(MAX_DELAY))).await;
        }
        batch.clear();
    }

    async fn send(&self, body: Vec<u8>) -> Outcome {
        let headers = match &self.headers_file {
            None => HeaderMap::new(),
            // It is read each time, so that a key can be rotated without a restart.
            Some(path) => match headers::read(path) {
                Ok(headers) => headers,
                Err(why) => return Outcome::Unavailable(why, None),
            },
        };
        match self.outbound.post_as(PROTOBUF, &headers, body).await {
            Ok(response) => {
                let status = response.status();
                if status.is_success() {
                    return Outcome::Exported(encoding::rejected(response.body()));
                }
                let why = format!("answered {status}");
                // OTLP names these responses as those after which a client may try again.
                match status {
                    StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT => {
                        Outcome::Unavailable(why, retry_after(response.headers()))
                    }
                    _ => Outcome::Refused(why),
                }
            }
            Err(error @ SendError::Refused(_)) => Outcome::Refused(error.to_string()),
            Err(error) => Outcome::Unavailable(error.to_string(), None),
        }
    }

    fn warn(&self, spans: u64, why: &str) {
        if let Some(more) = self.log_throttle.permit() {
            tracing::warn!(spans, why, more, "could not export spans, they are dropped");
        }
    }
}

/// Returns the delay that a collector requests.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?;
    let seconds = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The type of the bodies.
const PROTOBUF: &str = "application/x-protobuf";
/// Attempts to export a batch. While they last, the queue fills up and then drops spans.
const MAX_ATTEMPTS: u32 = 4;
/// The delay after the first attempt. Each further delay is twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Maximum delay that a collector can request.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Maximum duration of the last export at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Log lines before they are limited to one per second.
const LOG_LINES: u32 = 5;
