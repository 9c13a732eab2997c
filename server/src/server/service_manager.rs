//! Notifications to the service manager, as in `sd_notify(3)`: ready, stopping and alive.
//!
//! systemd sets `NOTIFY_SOCKET` for units with `Type=notify`. Without it, this module does nothing.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::{ffi::OsStrExt as _, net};
use std::sync::Arc;
use std::time::Duration;
use std::{env, ffi::OsStr, io, process};

use rustix::time::{ClockId, clock_gettime};

/// The service manager that started this process, if it receives notifications.
#[derive(Clone, Debug)]
pub(super) struct ServiceManager {
    socket: Option<Arc<Socket>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Socket {
    local: net::UnixDatagram,
    manager: net::SocketAddr,
}

impl ServiceManager {
    /// Returns the service manager that the environment names.
    ///
    /// # Errors
    ///
    /// If the environment names one that cannot be notified.
    pub(super) fn from_environment() -> io::Result<Self> {
        let socket = env::var_os("NOTIFY_SOCKET").map(|path| Socket::new(&path));
        let text = |name: &str| env::var(name).ok();
        Ok(Self {
            socket: socket.transpose()?.map(Arc::new),
            watchdog: watchdog(text("WATCHDOG_USEC"), text("WATCHDOG_PID"), process::id()),
        })
    }

    /// Reports that the server listens.
    pub(super) fn ready(&self) {
        self.send("READY=1\nSTATUS=listening\n");
    }

    /// Reports that the server reloads its configuration, until it reports that it is ready.
    /// systemd from version 253 compares the time with that of its signal (`Type=notify-reload`).
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading\n"
        ));
    }

    /// Reports that the server drains, or ends for another reason.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping\n");
    }

    /// Returns the interval in which the service manager expects reports, if it expects any.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog)
    }

    /// Reports that the server is alive, twice in each interval. Runs until dropped.
    pub(super) async fn report_alive(self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval / 2);
        loop {
            ticks.tick().await;
            self.send("WATCHDOG=1\n");
        }
    }

    fn send(&self, state: &str) {
        let Some(socket) = &self.socket else {
            return;
        };
        let sent = socket.local.send_to_addr(state.as_bytes(), &socket.manager);
        if let Err(error) = sent {
            let state = state.split('\n').next().unwrap_or_default();
            tracing::warn!(state, %error, "could not notify the service manager");
        }
    }
}

impl Socket {
    fn new(path: &OsStr) -> io::Result<Self> {
        let local = net::UnixDatagram::unbound()?;
        // The queue of a service manager that hangs must not block the server.
        local.set_nonblocking(true)?;
        let manager = match path.as_bytes() {
            [b'@', name @ ..] => net::SocketAddr::from_abstract_name(name)?,
            _ => net::SocketAddr::from_pathname(path)?,
        };
        Ok(Self { local, manager })
    }
}

/// Returns the interval of the watchdog, unless it is that of another process.
fn watchdog(interval: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid != own.to_string()) {
        return None;
    }
    let interval = interval?.parse().ok().filter(|interval| *interval > 0)?;
    Some(Duration::from_micros(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdog_interval_is_that_of_this_process() {
        let interval = |text: &str, pid: Option<&str>| {
            watchdog(Some(text.to_owned()), pid.map(str::to_owned), 7)
        };
        let half_a_minute = Some(Duration::from_secs(30));
        assert_eq!(interval("30000000", None), half_a_minute);
        assert_eq!(interval("30000000", Some("7")), half_a_minute);
        assert_eq!(interval("30000000", Some("8")), None);
        for text in ["0", "", "-1", "soon"] {
            assert_eq!(interval(text, None), None, "{text}");
        }
        assert_eq!(watchdog(None, None, 7), None);
    }
}
