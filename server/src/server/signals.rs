//! Signals that stop the server, and signals that it survives.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, which stop the server.
pub(super) struct Signals(Mutex<[Signal; 2]>);

/// Signals that end a process without a handler. They are only logged.
#[derive(Clone)]
pub(super) struct SurvivedSignals(Arc<Mutex<[SurvivedSignal; 5]>>);

struct SurvivedSignal {
    name: &'static str,
    signal: Signal,
    /// The minimum time between two log lines.
    interval: Duration,
    /// When the next log line is allowed.
    next_line: Option<Instant>,
    /// Signals since the last log line.
    more: u64,
}

impl SurvivedSignals {
    pub(super) fn listen() -> std::io::Result<Self> {
        let survived = |name, kind, interval| {
            Ok(SurvivedSignal {
                name,
                signal: signal(kind)?,
                interval,
                next_line: None,
                more: 0,
            })
        };
        let file_size = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        let signals: [std::io::Result<_>; 5] = [
            survived("SIGHUP", SignalKind::hangup(), INTERVAL),
            survived("SIGUSR1", SignalKind::user_defined1(), INTERVAL),
            survived("SIGUSR2", SignalKind::user_defined2(), INTERVAL),
            // Each write to a connection that the client has closed can raise this signal.
            survived("SIGPIPE", SignalKind::pipe(), PIPE_INTERVAL),
            // Each write to a file of the maximum size (RLIMIT_FSIZE) can raise this signal. With a
            // handler, the write fails as on a full disk.
            survived("SIGXFSZ", file_size, PIPE_INTERVAL),
        ];
        let [hangup, first, second, pipe, size] = signals;
        let signals = [hangup?, first?, second?, pipe?, size?];
        Ok(Self(Arc::new(Mutex::new(signals))))
    }

    /// Logs signals. Runs until dropped.
    pub(super) async fn log(self) {
        poll_fn(|cx| {
            for signal in self.0.lock().iter_mut() {
                while signal.signal.poll_recv(cx).is_ready() {
                    signal.note(Instant::now());
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl SurvivedSignal {
    fn note(&mut self, now: Instant) {
        if self.next_line.is_some_and(|next| now < next) {
            self.more += 1;
            return;
        }
        let (signal, more) = (self.name, std::mem::take(&mut self.more));
        tracing::info!(
            signal,
            more,
            "signal ignored: the configuration is read at start, SIGTERM stops the server"
        );
        self.next_line = Some(now + self.interval);
    }
}

/// The minimum time between two log lines about a signal.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same for SIGPIPE and SIGXFSZ, which clients can cause.
const PIPE_INTERVAL: Duration = Duration::from_secs(60);

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
        let [terminate, interrupt] = kinds.map(signal);
        Ok(Self(Mutex::new([terminate?, interrupt?])))
    }

    /// Waits for the next signal.
    pub(super) async fn next(&self) {
        let has_arrived =
            |cx: &mut Context<'_>, signal: &mut Signal| signal.poll_recv(cx).is_ready();
        poll_fn(|cx| {
            let mut signals = self.0.lock();
            match signals.iter_mut().any(|signal| has_arrived(cx, signal)) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}
