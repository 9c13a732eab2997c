//! A client that writes and reads literal packets over a WebSocket.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Maximum time for which a store may refuse a request.
const STORE_TIMEOUT: Duration = Duration::from_secs(60);

/// A client in the namespace `/`.
pub(crate) struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Received events that were not read yet, with the id of the requested acknowledgement.
    events: VecDeque<(String, Value, Option<u64>)>,
    /// Acknowledgements that arrived before they were awaited.
    answers: HashMap<u64, Value>,
    last_id: u64,
    /// The payload of the event `session`.
    pub(crate) session: Value,
}

impl Client {
    /// Connects with this payload, or returns the payload of the `CONNECT_ERROR`.
    pub(crate) async fn connect(address: SocketAddr, auth: &Value) -> Result<Self, Value> {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        // Small packets leave at once, as those of browsers do.
        let connected = connect_async_with_config(url, None, true).await;
        let (stream, _) = connected.unwrap();
        let mut client = Self {
            stream,
            events: VecDeque::new(),
            answers: HashMap::new(),
            last_id: 0,
            session: Value::Null,
        };
        assert!(client.packet().await.starts_with("0{"));
        client.send(&format!("40{auth}")).await;
        let answer = client.packet().await;
        if let Some(error) = answer.strip_prefix("44") {
            return Err(serde_json::from_str(error).unwrap());
        }
        assert!(answer.starts_with("40{\"sid\":"), "{answer}");
        client.session = client.event("session").await;
        Ok(client)
    }

    /// Returns the user's id, as received from the server.
    pub(crate) fn user_id(&self) -> String {
        self.session["userId"].as_str().unwrap().into()
    }

    /// Sends an event without requesting an acknowledgement.
    pub(crate) async fn emit(&mut self, event: &str, payload: Value) {
        self.send(&format!("42{}", json!([event, payload]))).await;
    }

    /// Sends an event and requests an acknowledgement, which the caller awaits later.
    pub(crate) async fn request(&mut self, event: &str, payload: Value) -> u64 {
        self.last_id += 1;
        self.send(&format!("42{}{}", self.last_id, json!([event, payload])))
            .await;
        self.last_id
    }

    /// Sends an event and returns the acknowledgement.
    pub(crate) async fn ask(&mut self, event: &str, payload: Value) -> Value {
        let id = self.request(event, payload).await;
        self.answer(id).await
    }

    /// Returns the acknowledgement of a request, and stores those of other requests: concurrent
    /// requests are acknowledged in any order.
    pub(crate) async fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            let packet = self.packet().await;
            self.enqueue(&packet);
        }
    }

    /// Returns the next acknowledgement with its id, or `None` if the connection has ended.
    pub(crate) async fn any_answer(&mut self) -> Option<(u64, Value)> {
        loop {
            let packet = self.packet_if_any().await?;
            if let Some(answer) = acknowledgement(&packet) {
                return Some(answer);
            }
        }
    }

    /// Sends a request and expects success.
    pub(crate) async fn must(&mut self, event: &str, payload: Value) -> Value {
        let answer = self.ask(event, payload).await;
        assert_eq!(answer["success"], true, "{answer}");
        answer
    }

    /// Repeats a request until the server's store, which may be too slow for it, has executed it.
    /// Waits for the retry time of the server, as clients do.
    pub(crate) async fn retry_until_stored(&mut self, event: &str, payload: Value) -> Value {
        let start = Instant::now();
        loop {
            let answer = self.ask(event, payload.clone()).await;
            if answer["success"] == true {
                return answer;
            }
            assert!(
                start.elapsed() < STORE_TIMEOUT,
                "{event} {payload}: {answer}"
            );
            assert_eq!(answer["error"]["code"], "STORE_UNAVAILABLE", "{answer}");
            let wait = answer["error"]["retryAfter"].as_u64().unwrap();
            // Retry time of the server.
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// Creates a conversation and returns its id. `new` is the payload of `create_conversation`.
    pub(crate) async fn create(&mut self, new: Value) -> Value {
        let made = self.must("create_conversation", new).await;
        made["conversation"]["id"].clone()
    }

    /// Sends a request, expects this error, and returns its object.
    pub(crate) async fn refused(&mut self, event: &str, payload: Value, code: &str) -> Value {
        let answer = self.ask(event, payload.clone()).await;
        assert_eq!(answer["success"], false, "{event} {payload}: {answer}");
        assert_eq!(answer["error"]["code"], code, "{event} {payload}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
        answer["error"].clone()
    }

    /// Returns the next event of this name, and stores other events. Two arguments are returned as
    /// a list.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        self.event_to_answer(name).await.0
    }

    /// Returns the next event of this name, or `None` if the connection has ended.
    #[cfg(debug_assertions)]
    pub(crate) async fn any_event(&mut self, name: &str) -> Option<Value> {
        loop {
            if let Some(place) = self.events.iter().position(|(event, ..)| event == name) {
                return self.events.remove(place).map(|(_, payload, _)| payload);
            }
            let packet = self.packet_if_any().await?;
            self.enqueue(&packet);
        }
    }

    /// Returns the next event of this name and the id for its acknowledgement.
    pub(crate) async fn event_to_answer(&mut self, name: &str) -> (Value, Option<u64>) {
        loop {
            if let Some(place) = self.events.iter().position(|(event, ..)| event == name) {
                let (_, payload, id) = self.events.remove(place).unwrap();
                return (payload, id);
            }
            let packet = self.packet().await;
            self.enqueue(&packet);
        }
    }

    /// Returns the next packet that is an event of this name, unchanged. Packets before it are
    /// dropped.
    pub(crate) async fn packet_of(&mut self, event: &str) -> String {
        loop {
            let packet = self.packet().await;
            if packet.starts_with(&format!("42[\"{event}\"")) {
                return packet;
            }
        }
    }

    /// Acknowledges an event.
    pub(crate) async fn acknowledge(&mut self, id: u64) {
        self.send(&format!("43{id}[]")).await;
    }

    /// Returns all events of this name that arrive before the answer to a request sent now.
    pub(crate) async fn events_until_now(&mut self, name: &str) -> Vec<Value> {
        let id = self.request("message_history", Value::Null).await;
        self.answer(id).await;
        let (these, others): (VecDeque<_>, _) =
            self.events.drain(..).partition(|(event, ..)| event == name);
        self.events = others;
        these.into_iter().map(|(_, payload, _)| payload).collect()
    }

    /// Returns the received events that were not read, in order.
    #[cfg(feature = "postgres")]
    pub(crate) fn queued_events(&self) -> Vec<(String, Value)> {
        let queued_events = self.events.iter();
        queued_events
            .map(|(event, payload, _)| (event.clone(), payload.clone()))
            .collect()
    }

    /// Returns the presence events so far, in order: event and user.
    pub(crate) async fn presence_events(&mut self) -> Vec<(String, Value)> {
        let id = self.request("message_history", Value::Null).await;
        self.answer(id).await;
        let (these, others): (VecDeque<_>, _) = self
            .events
            .drain(..)
            .partition(|(event, ..)| event.starts_with("user_"));
        self.events = others;
        these
            .into_iter()
            .map(|(event, payload, _)| (event, payload["userId"].clone()))
            .collect()
    }

    /// Leaves the namespace, then closes the connection. Reads until the end: the kernel resets a
    /// connection that is dropped with unread data, and the server might see the reset before the
    /// close.
    pub(crate) async fn disconnect(mut self) {
        self.send("41").await;
        let _ = self.stream.close(None).await;
        let ended = async { while let Some(Ok(_)) = self.stream.next().await {} };
        let ended = tokio::time::timeout(DEADLINE, ended).await;
        ended.expect("the server closes as well");
    }

    /// Drops the connection without closing it.
    pub(crate) fn vanish(self) {
        drop(self.stream);
    }

    fn enqueue(&mut self, packet: &str) {
        if let Some((id, answer)) = acknowledgement(packet) {
            self.answers.insert(id, answer);
            return;
        }
        let event = packet
            .strip_prefix("42")
            .unwrap_or_else(|| panic!("unexpected {packet}"));
        let start = event.find('[').unwrap();
        let id = event[..start].parse().ok();
        let mut args: Vec<Value> = serde_json::from_str(&event[start..]).unwrap();
        assert!(args.len() <= 3, "{event}");
        let payload = match args.len() {
            3 => args.split_off(1).into(),
            2 => args.remove(1),
            _ => Value::Null,
        };
        self.events
            .push_back((args[0].as_str().unwrap().into(), payload, id));
    }

    pub(crate) async fn send(&mut self, packet: &str) {
        self.stream.send(Message::text(packet)).await.unwrap();
    }

    /// Sends to a server that may end at the same time, and returns whether that was possible.
    #[cfg(debug_assertions)]
    pub(crate) async fn try_send(&mut self, packet: &str) -> bool {
        self.stream.send(Message::text(packet)).await.is_ok()
    }

    /// Sends the attachment of a packet.
    pub(crate) async fn send_binary(&mut self, data: &'static [u8]) {
        self.stream.send(Message::binary(data)).await.unwrap();
    }

    /// Returns the answer to an event whose arguments are literal JSON.
    pub(crate) async fn ask_raw(&mut self, event: &str, arguments: &str) -> Value {
        self.last_id += 1;
        self.send(&format!("42{}[\"{event}\"{arguments}]", self.last_id))
            .await;
        self.answer(self.last_id).await
    }

    /// Returns the next Engine.IO packet that is not a ping.
    pub(crate) async fn packet(&mut self) -> String {
        let packet = self.packet_if_any().await;
        packet.unwrap_or_else(|| panic!("closed; kept: {:?}", self.events))
    }

    /// Returns the next Engine.IO packet that is not a ping, or `None` if the connection has ended.
    pub(crate) async fn packet_if_any(&mut self) -> Option<String> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await;
            let next = next.unwrap_or_else(|_| panic!("nothing comes; kept: {:?}", self.events));
            match next {
                Some(Ok(Message::Text(text))) if text == "2" => self.send("3").await,
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(message)) => panic!("unexpected {message:?}"),
            }
        }
    }
}

/// Returns the id and the only argument of an acknowledgement, if the packet is one.
fn acknowledgement(packet: &str) -> Option<(u64, Value)> {
    let packet = packet.strip_prefix("43")?;
    let (id, _) = packet.split_once('[').unwrap();
    let mut args: Vec<Value> = serde_json::from_str(&packet[id.len()..]).unwrap();
    assert_eq!(args.len(), 1, "{packet}");
    Some((id.parse().unwrap(), args.remove(0)))
}
