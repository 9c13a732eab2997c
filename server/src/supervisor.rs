//! Starts and supervises the tasks that live as long as the server.
//!
//! Each task has a name and one of two policies. A task whose state is stored elsewhere is
//! restarted after a delay. A task whose state is lost with it, such as events taken but not yet
//! stored or emitted, ends the process; a new process can recover. This module imports no other
//! module of the server.
//!
//! A lane of PostgreSQL, the writer of SQLite and an emission task end the process. A lane may leave
//! a transaction open on a connection. The emission task holds messages that are stored and not
//! acknowledged, which the next process finds in the store. Neither backend stores anything without
//! an emission task.

use std::{io, sync::Arc, thread};

use roomcast::{
    internal::{TaskEnded, Tasks},
    metrics::Metrics,
    service::EndedTask,
};
use tokio::{sync::watch, task::JoinHandle};

/// The long-lived tasks of one server. Clones share the same state.
#[derive(Clone, Debug)]
pub struct Supervisor {
    tasks: Tasks,
    /// The tasks whose failure ends the process. One often causes others to fail, in any order.
    fatal: watch::Sender<Vec<&'static str>>,
}

impl Supervisor {
    /// Creates a supervisor without tasks.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            tasks: Tasks::endless(Arc::clone(metrics)),
            fatal: watch::Sender::default(),
        }
    }

    /// Starts a task that is restarted when it ends unexpectedly.
    pub fn start<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        make: impl FnMut() -> F + Send + 'static,
    ) -> JoinHandle<()> {
        tokio::spawn(self.tasks.clone().keep(name, make))
    }

    /// Starts a task whose end also ends the process.
    pub fn start_once(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let running = self.tasks.clone().once(name, task);
        let supervisor = self.clone();
        tokio::spawn(async move { supervisor.note(running.await) })
    }

    /// Starts a thread whose end also ends the process.
    ///
    /// # Errors
    ///
    /// If the thread cannot be created.
    pub fn start_thread(
        &self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let supervisor = self.clone();
        let run = move || supervisor.note(supervisor.tasks.clone().once_blocking(name, work));
        let thread = thread::Builder::new().name(name.into());
        thread.spawn(run).map(drop)
    }

    fn note(&self, ended: Result<(), TaskEnded>) {
        if let Err(TaskEnded { name }) = ended {
            // The names are stored and not only a flag, because the final log line lists the tasks.
            self.fatal.send_modify(|names| {
                if !names.contains(&name) {
                    names.push(name);
                }
            });
        }
    }

    /// Returns the tasks that ended unexpectedly, including recently restarted ones.
    #[must_use]
    pub fn ended(&self) -> Vec<EndedTask> {
        self.tasks.ended()
    }

    /// Returns the tasks whose failure ends the process.
    #[must_use]
    pub fn fatal(&self) -> Vec<&'static str> {
        self.fatal.borrow().clone()
    }

    /// Waits until the process must end.
    pub async fn failed(&self) {
        let mut fatal = self.fatal.subscribe();
        // The sender lives as long as this handle, so waiting never fails.
        let _ = fatal.wait_for(|names| !names.is_empty()).await;
    }

    /// Marks the server as stopping: tasks that end from now on are expected to.
    pub fn stop(&self) {
        self.tasks.let_end();
    }

    /// Lets tests kill tasks: the file that an environment variable names contains the name of the
    /// task. Release builds do not support this.
    #[cfg(debug_assertions)]
    pub(crate) fn enable_test_shutdown(&self, io: &roomcast::Io) {
        let Some(file) = std::env::var_os("SUPERVISOR_TEST_KILLS") else {
            return;
        };
        let (tasks, library) = (self.tasks.clone(), io.tasks().clone());
        tokio::spawn(async move {
            loop {
                // A file that was created a moment ago is empty until the test has written to it.
                if let Ok(name) = std::fs::read_to_string(&file)
                    && !name.is_empty()
                {
                    let _ = std::fs::remove_file(&file);
                    tasks.kill(&name);
                    library.kill(&name);
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn names(supervisor: &Supervisor) -> Vec<&'static str> {
        let ended = supervisor.ended();
        ended.iter().map(|task| task.name).collect()
    }

    #[tokio::test]
    async fn restartable_task_does_not_end_the_process() {
        let supervisor = Supervisor::new(&Arc::default());
        let mut runs = 0;
        let task = supervisor.start("one", move || {
            runs += 1;
            let is_bad = runs == 1;
            async move {
                assert!(!is_bad, "bad");
                pending().await
            }
        });
        while !supervisor.ended().iter().any(|task| task.is_restarted) {
            tokio::task::yield_now().await;
        }
        assert!(supervisor.fatal().is_empty());
        task.abort();
    }

    #[tokio::test]
    async fn unrestartable_task_or_thread_ends_the_process() {
        let supervisor = Supervisor::new(&Arc::default());
        supervisor.start_once("task", ready(())).await.unwrap();
        supervisor.failed().await;
        assert_eq!(
            (supervisor.fatal(), names(&supervisor)),
            (vec!["task"], vec!["task"])
        );
        let supervisor = Supervisor::new(&Arc::default());
        supervisor.start_thread("thread", || panic!("bad")).unwrap();
        supervisor.failed().await;
        assert_eq!(names(&supervisor), ["thread"]);
    }

    #[tokio::test]
    async fn task_that_returns_during_shutdown_is_expected() {
        let supervisor = Supervisor::new(&Arc::default());
        supervisor.stop();
        supervisor.start_once("task", ready(())).await.unwrap();
        supervisor.start("other", || ready(())).await.unwrap();
        assert_eq!((supervisor.fatal(), supervisor.ended()), (vec![], vec![]));
    }
}
