//! Signals that stop the server, and signals that it survives.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, which stop the server.
pub(super) struct Signals(Mutex<[Signal; 2]>);

/// Signals that end a process without a handler: SIGHUP, which reloads the configuration, and
/// signals that are only logged.
#[derive(Clone)]
pub(super) struct SurvivedSignals {
    hangup: Arc<Mutex<Signal>>,
    logged: Arc<Mutex<[SurvivedSignal; 4]>>,
    reload: Arc<OnceLock<Box<ReloadFn>>>,
}

/// Starts a reload of the configuration.
type ReloadFn = dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

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
        let signals: [std::io::Result<_>; 4] = [
            survived("SIGUSR1", SignalKind::user_defined1(), INTERVAL),
            survived("SIGUSR2", SignalKind::user_defined2(), INTERVAL),
            // Each write to a connection that the client has closed can raise this signal.
            survived("SIGPIPE", SignalKind::pipe(), PIPE_INTERVAL),
            // Each write to a file of the maximum size (RLIMIT_FSIZE) can raise this signal. With a
            // handler, the write fails as on a full disk.
            survived("SIGXFSZ", file_size, PIPE_INTERVAL),
        ];
        let [first, second, pipe, size] = signals;
        let signals = [first?, second?, pipe?, size?];
        Ok(Self {
            hangup: Arc::new(Mutex::new(signal(SignalKind::hangup())?)),
            logged: Arc::new(Mutex::new(signals)),
            reload: Arc::default(),
        })
    }

    /// Sets the function that SIGHUP calls. Before that, the signal has no effect.
    pub(super) fn on_hangup(&self, reload: Box<ReloadFn>) {
        let _ = self.reload.set(reload);
    }

    /// Logs signals, and reloads the configuration. Runs until dropped.
    pub(super) async fn run(self) {
        loop {
            poll_fn(|cx| self.poll_hangup(cx)).await;
            match self.reload.get() {
                Some(reload) => reload().await,
                None => tracing::info!("SIGHUP ignored, the server is starting"),
            }
            // Signals that arrive until then cause one more reload.
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Logs the other signals until SIGHUP arrives.
    fn poll_hangup(&self, cx: &mut Context<'_>) -> Poll<()> {
        for signal in self.logged.lock().iter_mut() {
            while signal.signal.poll_recv(cx).is_ready() {
                signal.note(Instant::now());
            }
        }
        self.hangup.lock().poll_recv(cx).map(drop)
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
            "signal ignored: SIGHUP reloads the configuration, SIGTERM stops the server"
        );
        self.next_line = Some(now + self.interval);
    }
}

/// The minimum time between two log lines about a signal, and between two reloads.
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
