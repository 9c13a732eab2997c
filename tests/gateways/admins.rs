//! A client in the namespace `/admin`, which records the alerts that it receives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::guard::signed;

/// Maximum time until an expected alert has arrived.
const ALERT_TIMEOUT: Duration = Duration::from_secs(60);

/// An admin, whose connection is read until the admin is dropped.
pub(crate) struct Admin {
    alerts: Arc<Mutex<Vec<Value>>>,
    reader: JoinHandle<()>,
}

impl Admin {
    /// Connects an admin with a token of the default secret.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let claims = json!({"sub": "root", "roles": ["admin"], "exp": 4_000_000_000_u64});
        Self::connect_as(address, &signed(&claims)).await
    }

    /// Connects an admin with this token.
    pub(crate) async fn connect_as(address: SocketAddr, token: &str) -> Self {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (mut stream, _) = connect_async(url).await.unwrap();
        let enter = format!("40/admin,{}", json!({"token": token}));
        stream.send(Message::text(enter)).await.unwrap();
        let alerts = Arc::<Mutex<Vec<Value>>>::default();
        let received = Arc::clone(&alerts);
        let (entered, is_entered) = tokio::sync::oneshot::channel();
        let mut entered = Some(entered);
        let reader = tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let Message::Text(text) = message else {
                    continue;
                };
                if text == "2" {
                    let _ = stream.send(Message::text("3")).await;
                } else if text.starts_with("40/admin,") {
                    let _ = entered.take().unwrap().send(());
                } else if let Some(event) = text.strip_prefix("42/admin,") {
                    let event: Value = serde_json::from_str(event).unwrap();
                    if event[0] == "admin:alert" {
                        received.lock().unwrap().push(event[1].clone());
                    }
                }
            }
        });
        is_entered.await.unwrap();
        Self { alerts, reader }
    }

    /// Returns all alerts until now, in the order of their arrival.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        self.alerts.lock().unwrap().clone()
    }

    /// Waits until an alert of this node with this name and state has arrived.
    pub(crate) async fn until_alert(&self, node: &str, alert: &str, state: &str) -> Value {
        let start = Instant::now();
        loop {
            let alerts = self.alerts();
            let mut matches = alerts.iter().filter(|received| {
                received["node"] == node && received["alert"] == alert && received["state"] == state
            });
            if let Some(found) = matches.next() {
                return found.clone();
            }
            let is_late = start.elapsed() > ALERT_TIMEOUT;
            assert!(!is_late, "no {alert} {state} of {node}: {alerts:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
