//! Plays one run, from the plan to the report.

use std::{
    fmt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use roomcast::client::ClientError;
use tokio::time::sleep;

use super::{
    chat, interrupts::Interrupts, open_files::allow_open_files, preflight, progress::Display,
};
use crate::{
    account::{Process, Samples, Stats},
    clients::{RunState, play_part},
    load::{Plan, Scenario, Stamps},
    report::Report,
};

/// The reason why a run has no figures.
#[derive(Debug)]
#[non_exhaustive]
pub enum BenchError {
    /// The plan cannot run on this machine.
    Plan(String),
    /// The server is unreachable, is no Socket.IO server, or refuses: its URL, and what happened.
    Server(String, String),
    /// An internal error.
    Internal(String),
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(reason) | Self::Internal(reason) => f.write_str(reason),
            Self::Server(url, reason) => write!(f, "{url}: {reason}"),
        }
    }
}

impl std::error::Error for BenchError {}

/// Plays a plan against its server. Ctrl-C ends it early, with the figures so far.
///
/// Conversations that the run has created are deleted in any case. The call blocks the thread until
/// the run ends, and must not be made within an asynchronous runtime. If stderr is a terminal, a
/// line after `title` shows the progress.
///
/// # Errors
/// If the plan cannot run, or no client could connect.
pub fn run(plan: &Plan, title: &str) -> Result<Report, BenchError> {
    plan.check().map_err(BenchError::Plan)?;
    allow_open_files(plan.open_files()).map_err(|limit| {
        BenchError::Plan(format!(
            "{} clients need {} open files and this system allows {limit}: raise the hard limit \
             (ulimit -Hn) or take fewer clients",
            plan.clients,
            plan.open_files()
        ))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| BenchError::Internal(error.to_string()))?;
    runtime.block_on(watch(plan, title))
}

async fn watch(plan: &Plan, title: &str) -> Result<Report, BenchError> {
    let interrupts = Interrupts::listen();
    let url = plan.client.url.clone();
    let mut plan = plan.clone();
    let failed = |error: String| BenchError::Server(url.clone(), error);
    let resolved = plan.client.clone().resolve().await;
    plan.client = resolved.map_err(|error| {
        if let ClientError::Options(reason) = error {
            return BenchError::Plan(reason);
        }
        failed(error.to_string())
    })?;
    let run = getrandom::u32().map_err(|error| BenchError::Internal(error.to_string()))?;
    plan.vocabulary.stamp(run);
    if !plan.makes_conversations() {
        return measure(plan, title, run, interrupts).await;
    }
    let mut made = Vec::new();
    let result = match chat::prepare(&plan, &mut made, &interrupts).await {
        Ok(()) => {
            plan.vocabulary.rooms.clone_from(&made);
            measure(plan.clone(), title, run, interrupts.clone()).await
        }
        Err(error) => Err(failed(error)),
    };
    let Err(why) = chat::remove(&plan, &made, &interrupts).await else {
        return result;
    };
    let why = format!("conversations of this run are left: {why}");
    match result {
        Ok(mut report) => {
            report.add_problem(why);
            Ok(report)
        }
        Err(BenchError::Server(url, reason)) => {
            Err(BenchError::Server(url, format!("{reason}; {why}")))
        }
        Err(error) => Err(BenchError::Internal(format!("{error}; {why}"))),
    }
}

/// Plays a plan whose rooms exist.
async fn measure(
    plan: Plan,
    title: &str,
    run: u32,
    mut interrupts: Interrupts,
) -> Result<Report, BenchError> {
    let url = plan.client.url.clone();
    let failed = |error: String| BenchError::Server(url.clone(), error);
    // The preflight has a mark of its own, so that its messages do not count in the run.
    let trial = Stamps::new(!run, plan.payload);
    preflight::check(&plan, &trial).await.map_err(failed)?;

    let started = jiff::Timestamp::now();
    let pid = plan.server_pid;
    let look = || pid.and_then(Process::look);
    if pid.is_some() && look().is_none() {
        return Err(BenchError::Plan(
            "there is no process of that id to look at".into(),
        ));
    }
    let mut samples = Samples {
        empty: look(),
        ..Samples::default()
    };
    let plan = Arc::new(plan);
    let shared = Arc::new(RunState::new(&plan, Stamps::new(run, plan.payload)));
    let mut display = Display::new(&plan, title);
    let threads: Vec<_> = (0..plan.threads)
        .map(|index| {
            let (plan, shared) = (Arc::clone(&plan), Arc::clone(&shared));
            thread::spawn(move || play_part(index, plan, shared))
        })
        .collect();
    let observed = observe(
        &plan,
        &shared,
        &mut samples,
        &mut display,
        &mut interrupts,
        &look,
    );
    let all_ended = async {
        // If a thread panics, the other threads wait for it forever.
        while !threads.iter().all(thread::JoinHandle::is_finished) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let one_broke = async {
        while !threads.iter().any(thread::JoinHandle::is_finished) {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(PANIC_TIMEOUT).await;
    };
    tokio::select! {
        () = all_ended => {}
        () = one_broke => {
            return Err(BenchError::Internal("a thread of the generator broke".into()));
        }
        () = observed => {}
    }
    drop(display);
    // Without a drain, the run may end between two samples.
    samples.end = samples.end.or_else(|| Some((look(), Process::own())));
    let mut stats = Stats::new(plan.duration);
    for thread in threads {
        let part = match thread.join() {
            Ok(Ok(part)) => part,
            Ok(Err(error)) => return Err(BenchError::Internal(error.to_string())),
            Err(_) => {
                return Err(BenchError::Internal(
                    "a thread of the generator broke".into(),
                ));
            }
        };
        stats.merge(&part);
    }
    if stats.opened == 0 {
        let reason = stats.failed.0.keys().next();
        return Err(failed(reason.map_or_else(
            || "stopped before a client had connected".into(),
            Clone::clone,
        )));
    }
    let stopped = shared.is_stopped();
    if plan.scenario == Scenario::Chat && !stopped {
        let totals = std::mem::take(&mut *shared.totals.lock());
        stats.stored = Some(chat::verify(&plan, &shared.stamps, &totals).await);
    }
    Ok(Report::new(&plan, &stats, &samples, started, stopped))
}

/// Shows progress, takes samples at the right moments, and handles Ctrl-C. Never returns.
async fn observe(
    plan: &Plan,
    shared: &RunState,
    samples: &mut Samples,
    display: &mut Display,
    interrupts: &mut Interrupts,
    look: &impl Fn() -> Option<Process>,
) {
    loop {
        tokio::select! {
            () = interrupts.next() => {
                shared.stop.send_replace(true);
            }
            () = sleep(Duration::from_millis(20)) => {}
        }
        let start = *shared.start.lock();
        let elapsed = start.map(|start| Instant::now().saturating_duration_since(start));
        display.show(shared, elapsed);
        let Some(elapsed) = elapsed else { continue };
        if samples.full.is_none() {
            samples.full = look();
        }
        if samples.begin.is_none() && elapsed >= plan.warmup {
            samples.begin = Some((look(), Process::own()));
        }
        let is_over = elapsed >= plan.warmup + plan.duration || shared.is_stopped();
        if samples.end.is_none() && is_over {
            samples.end = Some((look(), Process::own()));
        }
    }
}

/// The time that the other threads may take after one has ended; more means that one panicked.
const PANIC_TIMEOUT: Duration = Duration::from_secs(120);
