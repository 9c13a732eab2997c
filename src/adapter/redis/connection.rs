//! Connections to Redis: to one server, to the server that sentinels name, or to a cluster.
//!
//! About half of the cost of a message is the Redis client, which parses each response and each
//! returned copy with a general parser. A client of this project would need TLS, sentinels,
//! clusters and RESP3 a second time.

use std::{collections::HashMap, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, Pipeline, ProtocolVersion, PushInfo, RedisError, RedisResult,
    ServerErrorKind, TlsMode, Value,
    aio::MultiplexedConnection,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
    sentinel::{SentinelClientBuilder, SentinelServerType},
};

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tokio::sync::oneshot;

use super::{
    channels::{ChannelKind, Name},
    streams::{Info, Stream, StreamEntry},
};
use crate::{
    adapter::{Publication, common::Outgoing},
    time::while_awake,
};

/// The address of Redis.
#[derive(Clone)]
pub(crate) enum RedisAddress {
    One(ConnectionInfo),
    /// Nodes of a cluster.
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels, their name of the service, and the credentials for the sentinels.
    Sentinels(Vec<ConnectionInfo>, String, SentinelUser),
}

/// The user and password for sentinels, if they have their own.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct SentinelUser {
    name: Option<String>,
    password: Option<String>,
}

impl SentinelUser {
    /// Parses the query of a URL.
    fn parse(query: &str) -> Result<Self, InvalidUrl> {
        let mut user = Self::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| InvalidUrl("a parameter is not UTF-8".to_owned()))?;
            let value = Some(value.into_owned());
            match name {
                "sentinel_user" => user.name = value,
                "sentinel_password" => user.password = value,
                _ => return Err(InvalidUrl("unknown parameter".to_owned())),
            }
        }
        Ok(user)
    }
}

/// The reason why a URL is not valid for Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUrl(String);

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a Redis URL: {}", self.0)
    }
}

impl std::error::Error for InvalidUrl {}

/// The callback for pushed messages.
pub(crate) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A message or command to Redis.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// A message on a channel.
    Message(String, Bytes),
    /// An entry for a stream. It contains the publication if this server only applies it after it
    /// reads it from the stream.
    Entry(Arc<Stream>, StreamEntry, Option<Box<Publication>>),
    /// A command, and the receiver of its response.
    Command(Vec<Bytes>, Option<CommandWaiter>),
}

/// The sender for the response to a command.
pub(crate) type CommandWaiter = Arc<Mutex<Option<oneshot::Sender<Value>>>>;

impl Outgoing for Sent {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(_, payload) => payload.len(),
            Self::Entry(_, entry, _) => entry.bytes(),
            Self::Command(parts, _) => parts.iter().map(Bytes::len).sum(),
        }
    }
}

impl Sent {
    fn answered(&self, value: Value) {
        if let Self::Command(_, Some(waiting)) = self
            && let Some(waiting) = waiting.lock().take()
        {
            // The receiver may have been dropped.
            let _ = waiting.send(value);
        }
    }

    fn command(&self, channel_kind: ChannelKind) -> Cmd {
        match self {
            Self::Message(channel, payload) => {
                let name = match channel_kind {
                    ChannelKind::Sharded => "SPUBLISH",
                    ChannelKind::Plain | ChannelKind::Pattern => "PUBLISH",
                };
                let bytes = name.len() + channel.len() + payload.len();
                let mut command = Cmd::with_capacity(3, bytes);
                command.arg(name).arg(channel).arg(&payload[..]);
                command
            }
            Self::Command(parts, _) => {
                let mut command = Cmd::new();
                for part in parts {
                    command.arg(&part[..]);
                }
                command
            }
            Self::Entry(stream, entry, _) => {
                let mut command = redis::cmd("XADD");
                // Trimming to the approximate length is much cheaper for Redis than trimming to the
                // exact length.
                command.arg(&stream.name).arg("MAXLEN").arg("~");
                command.arg(stream.max_len).arg("*");
                for (name, value) in entry.fields() {
                    command.arg(name).arg(value);
                }
                command
            }
        }
    }
}

/// A message that Redis refused, by its index in the batch.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) index: usize,
    pub(crate) error: RedisError,
}

/// Returns whether an error refuses one command on a connection that remains usable: no memory, no
/// permission, or no disk. If the server has the wrong role or is not ready, the connection ends,
/// and the link connects to another server.
fn is_refusal(error: &RedisError) -> bool {
    let kind = error.kind();
    if kind == ErrorKind::Extension {
        return !matches!(error.code(), Some("NOAUTH" | "WRONGPASS"));
    }
    matches!(
        kind,
        ErrorKind::Server(
            ServerErrorKind::ResponseError
                | ServerErrorKind::ExecAbort
                | ServerErrorKind::NoScript
                | ServerErrorKind::CrossSlot
                | ServerErrorKind::NotBusy
                | ServerErrorKind::NoSub
                | ServerErrorKind::NoPerm
        )
    )
}

/// A connection to Redis. Cloning returns another handle.
#[derive(Clone)]
pub(crate) enum BrokerConnection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl RedisAddress {
    /// Parses a URL. Returns the address, and whether the URL selects streams.
    pub(crate) fn parse(url: &str) -> Result<(Self, bool), InvalidUrl> {
        for (scheme, plain) in [("redis-streams", "redis"), ("rediss-streams", "rediss")] {
            if let Some(rest) = url.strip_prefix(scheme)
                && rest.starts_with([':', '+'])
            {
                return Ok((Self::parse_plain(&format!("{plain}{rest}"))?, true));
            }
        }
        Ok((Self::parse_plain(url)?, false))
    }

    fn parse_plain(url: &str) -> Result<Self, InvalidUrl> {
        let fault = |what: &str| InvalidUrl(what.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(|| fault("no scheme"))?;
        let one = |url: String| -> Result<ConnectionInfo, InvalidUrl> {
            let info = url.into_connection_info();
            let info = info.map_err(|error| InvalidUrl(error.to_string()))?;
            let settings = info.redis_settings().clone();
            // With RESP3, pushed messages and responses share one connection.
            Ok(info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3)))
        };
        let Some((scheme, several @ ("cluster" | "sentinel"))) = scheme.split_once('+') else {
            let place = Self::One(one(url.to_owned())?);
            place.prepare_tls(scheme == "rediss");
            return Ok(place);
        };
        if !matches!(scheme, "redis" | "rediss") {
            return Err(fault("unknown scheme"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (path, query) = match several {
            "sentinel" => path.split_once('?').unwrap_or((path, "")),
            _ => (path, ""),
        };
        // The last `@` is the separator, because a password may contain one and a host may not.
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let (service, db) = match several {
            "sentinel" => path.split_once('/').unwrap_or((path, "")),
            _ => ("", path),
        };
        let hosts = hosts
            .split(',')
            .map(|host| one(format!("{scheme}://{user}{host}/{db}")));
        let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
        let place = match several {
            "sentinel" if service.is_empty() => {
                return Err(fault("the name of the service is missing"));
            }
            "sentinel" => Self::Sentinels(hosts, service.to_owned(), SentinelUser::parse(query)?),
            _ => Self::Cluster(hosts),
        };
        place.prepare_tls(scheme == "rediss");
        Ok(place)
    }

    /// Installs a cryptography provider, without which TLS connections would fail if the process
    /// has not chosen one.
    fn prepare_tls(&self, is_needed: bool) {
        use rustls::crypto::{CryptoProvider, ring};
        if is_needed && CryptoProvider::get_default().is_none() {
            // If another thread was faster, its provider is used.
            let _ = ring::default_provider().install_default();
        }
    }

    pub(crate) async fn connect(&self, on_push: Option<OnPush>) -> RedisResult<BrokerConnection> {
        let push = on_push.map(|on_push| {
            move |info| -> Result<(), ()> {
                on_push(info);
                Ok(())
            }
        });
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE));
        let config = match push.clone() {
            Some(push) => config.set_push_sender(push),
            None => config,
        };
        match self {
            Self::One(info) => {
                let client = Client::open(info.clone())?;
                let line = client.get_multiplexed_async_connection_with_config(&config);
                Ok(BrokerConnection::one(line.await?))
            }
            Self::Sentinels(sentinels, service, user) => {
                let mut client = sentinel(sentinels, service, user)?.build()?;
                let line = client.get_async_connection_with_config(&config);
                Ok(BrokerConnection::one(line.await?))
            }
            Self::Cluster(nodes) => {
                let builder: ClusterClientBuilder = ClusterClient::builder(nodes.clone())
                    .use_protocol(ProtocolVersion::RESP3)
                    .connection_timeout(CONNECT)
                    .response_timeout(RESPONSE);
                let builder = match push {
                    Some(push) => builder.push_sender(push),
                    None => builder,
                };
                Ok(BrokerConnection::Cluster(
                    builder.build()?.get_async_connection().await?,
                ))
            }
        }
    }
}

fn sentinel(
    sentinels: &[ConnectionInfo],
    service: &str,
    user: &SentinelUser,
) -> RedisResult<SentinelClientBuilder> {
    let addresses = sentinels.iter().map(|info| info.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, service, SentinelServerType::Master)?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3);
    if let Some(name) = &user.name {
        builder = builder.set_client_to_sentinel_username(name);
    }
    if let Some(password) = &user.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    // These are the settings of Redis itself. The URL contains the same settings for all sentinels.
    if let Some(info) = sentinels.first() {
        let settings = info.redis_settings();
        builder = builder.set_client_to_redis_db(settings.db());
        if let Some(name) = settings.username() {
            builder = builder.set_client_to_redis_username(name);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
    }
    Ok(builder)
}

impl BrokerConnection {
    fn one(mut line: MultiplexedConnection) -> Self {
        // The timeouts are those of `answered` from here on.
        line.set_response_timeout(LONGEST_RESPONSE);
        Self::One(line)
    }

    /// Sends messages in order. An error ends the connection. Returns the messages that Redis
    /// refused individually.
    pub(crate) async fn send(
        &mut self,
        channel_kind: ChannelKind,
        messages: &[Sent],
    ) -> RedisResult<Vec<Refusal>> {
        let mut refusals = Vec::new();
        let mut take = |index: usize, answer: RedisResult<Value>| {
            match answer {
                Ok(value) => {
                    if let Some(message) = messages.get(index) {
                        message.answered(value);
                    }
                }
                Err(error) if is_refusal(&error) => refusals.push(Refusal { index, error }),
                Err(error) => return Err(error),
            }
            Ok(())
        };
        match (self, messages) {
            // A single message needs no list of responses.
            (Self::One(line), [message]) => {
                let command = message.command(channel_kind);
                take(0, answered(command.query_async(line)).await)?
            }
            (Self::One(line), _) => {
                // All messages are sent in one pipeline, and Redis responds in the same order.
                let mut all = Pipeline::with_capacity(messages.len());
                for message in messages {
                    all.add_command(message.command(channel_kind));
                }
                let answers: Vec<RedisResult<Value>> =
                    answered(all.ignore_errors().query_async(line)).await?;
                for (index, answer) in answers.into_iter().enumerate().take(messages.len()) {
                    take(index, answer)?;
                }
            }
            // Channels may be on different nodes, so the order is only guaranteed within each
            // channel.
            (Self::Cluster(line), _) => {
                for (index, message) in messages.iter().enumerate() {
                    take(index, message.command(channel_kind).query_async(line).await)?;
                }
            }
        }
        Ok(refusals)
    }

    /// Returns the entries of a stream after an id. If there are none, waits for a short time.
    pub(crate) async fn read_stream(
        &mut self,
        stream: &str,
        after: &str,
        count: usize,
    ) -> RedisResult<Value> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(count);
        let block_millis = u64::try_from(BLOCK.as_millis()).unwrap_or_default();
        command.arg("BLOCK").arg(block_millis);
        command.arg("STREAMS").arg(stream).arg(after);
        self.query(&command).await
    }

    /// Returns the metadata of a stream, which may not exist.
    pub(crate) async fn stream_info(&mut self, stream: &str) -> RedisResult<Info> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(stream);
        let info = match self.query(&command).await {
            Ok(info) => info,
            // In Redis, a stream does not exist before its first entry.
            Err(error) if error.detail() == Some("no such key") => {
                return Ok(Info {
                    added: Some(0),
                    ..Info::default()
                });
            }
            Err(error) => return Err(error),
        };
        let info: HashMap<String, Value> = redis::from_redis_value(info)?;
        let number = |name| {
            let value = info.get(name).cloned();
            value.and_then(|value| redis::from_redis_value(value).ok())
        };
        let last_id = info.get("last-generated-id").cloned();
        Ok(Info {
            last_id: redis::from_redis_value(last_id.unwrap_or(Value::Nil))?,
            length: number("length").unwrap_or_default(),
            added: number("entries-added"),
        })
    }

    pub(crate) async fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::One(line) => answered(command.query_async(line)).await,
            Self::Cluster(line) => command.query_async(line).await,
        }
    }

    /// Subscribes to channels or unsubscribes from them, and waits for the confirmation.
    pub(crate) async fn subscribe(&mut self, changes: &[(Name, bool)]) -> RedisResult<()> {
        match self {
            Self::One(line) => {
                let mut all = Pipeline::with_capacity(changes.len());
                for ((channel_kind, name), on) in changes {
                    all.cmd(channel_kind.command(*on)).arg(&name[..]);
                }
                answered(all.query_async::<Value>(line)).await.map(drop)
            }
            Self::Cluster(line) => {
                for ((channel_kind, name), on) in changes {
                    let name = &name[..];
                    match (channel_kind, on) {
                        (ChannelKind::Plain, true) => line.subscribe(name).await?,
                        (ChannelKind::Plain, false) => line.unsubscribe(name).await?,
                        (ChannelKind::Pattern, true) => line.psubscribe(name).await?,
                        (ChannelKind::Pattern, false) => line.punsubscribe(name).await?,
                        (ChannelKind::Sharded, true) => line.ssubscribe(name).await?,
                        (ChannelKind::Sharded, false) => line.sunsubscribe(name).await?,
                    }
                }
                Ok(())
            }
        }
    }

    /// Returns the number of subscribers of a channel.
    pub(crate) async fn subscribers(
        &mut self,
        channel_kind: ChannelKind,
        channel: &str,
    ) -> RedisResult<usize> {
        let mut command: Cmd = redis::cmd("PUBSUB");
        command.arg(match channel_kind {
            ChannelKind::Sharded => "SHARDNUMSUB",
            ChannelKind::Plain | ChannelKind::Pattern => "NUMSUB",
        });
        command.arg(channel);
        type Counts = Vec<(Vec<u8>, usize)>;
        let counts: Counts = match self {
            Self::One(line) => answered(command.query_async(line)).await?,
            Self::Cluster(line) => {
                // Each node of a cluster only counts its own subscribers, and the subscribers of a
                // channel may be on any node.
                let everywhere =
                    RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let answers = line.route_command(command, everywhere).await?;
                let answers: Vec<(String, Counts)> = redis::from_redis_value(answers)?;
                answers.into_iter().flat_map(|(_, counts)| counts).collect()
            }
        };
        Ok(counts.iter().map(|(_, count)| count).sum())
    }
}

/// Waits for the response of a Redis server. The timeout of the client itself also ends if this
/// process stood still. The connection would then end, and what has arrived on it would be lost.
/// The connections to a cluster have only the client's timeout, by which it notices nodes that
/// failed.
async fn answered<T>(response: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let silence = || Err(io::Error::from(io::ErrorKind::TimedOut).into());
    while_awake(RESPONSE, response)
        .await
        .unwrap_or_else(silence)
}

/// The timeout for connecting.
const CONNECT: Duration = Duration::from_secs(2);
/// The timeout for a response.
const RESPONSE: Duration = Duration::from_secs(4);
/// The timeout of the client itself, which must be longer than a stall.
const LONGEST_RESPONSE: Duration = Duration::from_secs(60);
/// Maximum time that Redis waits for an entry of a stream before an empty response. It must be
/// much shorter than [`RESPONSE`], after which the connection counts as broken.
const BLOCK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_sentinels_or_a_cluster() {
        for url in [
            "redis://localhost",
            "redis://user:secret@localhost:1234/2",
            "rediss://[::1]:6380",
        ] {
            let place = RedisAddress::parse(url);
            assert!(matches!(place, Ok((RedisAddress::One(_), false))), "{url}");
        }
        for url in [
            "redis-streams://localhost",
            "rediss-streams://:secret@localhost:1",
        ] {
            let place = RedisAddress::parse(url);
            assert!(matches!(place, Ok((RedisAddress::One(_), true))), "{url}");
        }
        let cluster = RedisAddress::parse("redis-streams+cluster://a:1,b");
        assert!(matches!(cluster, Ok((RedisAddress::Cluster(_), true))));
        let Ok((RedisAddress::Cluster(nodes), false)) =
            RedisAddress::parse("redis+cluster://:secret@a:1,b")
        else {
            panic!("no cluster");
        };
        let addresses: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!(addresses, ["a:1", "b:6379"]);
        assert_eq!(nodes[1].redis_settings().password(), Some("secret"));
        let Ok((RedisAddress::Sentinels(nodes, service, user), false)) =
            RedisAddress::parse("rediss+sentinel://a:26379,b:26379/main/3")
        else {
            panic!("no sentinels");
        };
        assert!(user == SentinelUser::default());
        let url = "redis+sentinel://u:p@a/main?sentinel_user=w&sentinel_password=%26%2f%C3%BC";
        let Ok((RedisAddress::Sentinels(own, of_url, user), false)) = RedisAddress::parse(url)
        else {
            panic!("no sentinels");
        };
        assert_eq!((&*of_url, user.name.as_deref()), ("main", Some("w")));
        assert_eq!(user.password.as_deref(), Some("&/ü"));
        assert_eq!(own[0].redis_settings().password(), Some("p"));
        assert_eq!((nodes.len(), &*service), (2, "main"));
        assert_eq!(nodes[0].redis_settings().db(), 3);
        assert!(matches!(nodes[0].addr(), ConnectionAddr::TcpTls { .. }));
        for url in [
            "localhost",
            "http://localhost",
            "redis+sentinel://a",
            "redis+else://a",
            "http+cluster://a",
            "redis+sentinel://a/main?password=x",
            "redis+sentinel://a/main?sentinel_password=%ff",
            "redis+cluster://a:x",
            "redis-streamed://a",
        ] {
            assert!(RedisAddress::parse(url).is_err(), "{url}");
        }
    }
}
