//! Plays one run, from the plan to the report.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use roomcast::client::ClientError;
use tokio::{task::JoinSet, time::sleep};

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
        .map_err(internal)?;
    let result = runtime.block_on(watch(plan, title));
    // If a thread of the generator has panicked, the other threads wait for it forever.
    runtime.shutdown_background();
    result
}

fn internal(error: impl fmt::Display) -> BenchError {
    BenchError::Internal(error.to_string())
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
    let run = getrandom::u32().map_err(internal)?;
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
    let empty = server(&plan);
    if plan.server_pid.is_some() && empty.is_none() {
        return Err(BenchError::Plan(
            "there is no process of that id to look at".into(),
        ));
    }
    let mut samples = Samples {
        empty,
        ..Samples::default()
    };
    let plan = Arc::new(plan);
    let shared = Arc::new(RunState::new(&plan, Stamps::new(run, plan.payload)));
    let mut threads = JoinSet::new();
    for index in 0..plan.threads {
        let (plan, shared) = (Arc::clone(&plan), Arc::clone(&shared));
        threads.spawn_blocking(move || play_part(index, plan, shared));
    }
    let mut stats = Stats::new(plan.duration);
    let all_ended = async {
        while let Some(ended) = threads.join_next().await {
            let broke = |_| BenchError::Internal("a thread of the generator broke".into());
            let part = ended.map_err(broke)?.map_err(internal)?;
            stats.merge(&part);
        }
        Ok(())
    };
    let observed = observe(&plan, title, &shared, &mut samples, &mut interrupts);
    tokio::select! {
        ended = all_ended => ended?,
        () = observed => {}
    }
    // Without a drain, the run may end between two samples.
    samples.end = samples
        .end
        .or_else(|| Some((server(&plan), Process::own())));
    if stats.opened == 0 {
        let reason = stats.failed.0.into_keys().next();
        return Err(failed(
            reason.unwrap_or_else(|| "stopped before a client had connected".into()),
        ));
    }
    let stopped = shared.is_stopped();
    if plan.scenario == Scenario::Chat && !stopped {
        let totals = std::mem::take(&mut *shared.totals.lock());
        stats.stored = Some(chat::verify(&plan, &shared.stamps, &totals).await);
    }
    Ok(Report::new(&plan, &stats, &samples, started, stopped))
}

/// Returns the present usage of the server, if the plan names its process.
fn server(plan: &Plan) -> Option<Process> {
    plan.server_pid.and_then(Process::look)
}

/// Shows progress, takes samples at the right moments, and handles Ctrl-C. Never returns.
async fn observe(
    plan: &Plan,
    title: &str,
    shared: &RunState,
    samples: &mut Samples,
    interrupts: &mut Interrupts,
) {
    let mut display = Display::new(plan, title);
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
            samples.full = server(plan);
        }
        if samples.begin.is_none() && elapsed >= plan.warmup {
            samples.begin = Some((server(plan), Process::own()));
        }
        let is_over = elapsed >= plan.warmup + plan.duration || shared.is_stopped();
        if samples.end.is_none() && is_over {
            samples.end = Some((server(plan), Process::own()));
        }
    }
}
