//! Options of the Redis adapter: their effects that are visible from outside.

use std::time::Duration;

use roomcast::{
    Ack, Builder, Io, SocketId,
    adapter::{Subscriptions, redis::Redis},
    handler::ServerSide,
    metrics::Counter,
    options::Recovery,
};

use super::{Servers, quiet};
use crate::{
    local::{Local, text, until},
    port::free_port,
    redis_server::{RedisServer, Subscription},
};

/// Starts servers on the shared Redis.
fn servers(count: usize, options: impl Fn(Redis) -> Redis) -> Servers {
    let url = RedisServer::shared().url();
    Servers::on_redis_with(&url, count, options, quiet)
}

/// Returns the channels of some servers that have subscribers.
fn channels(servers: &Servers, kind: &str) -> Vec<String> {
    let names = RedisServer::shared().ask(&["pubsub", kind]);
    let starts = ["#", "-"].map(|next| format!("{}{next}", servers.key));
    let are_own = |name: &&str| starts.iter().any(|start| name.starts_with(start));
    names.lines().filter(are_own).map(str::to_owned).collect()
}

#[test]
fn namespace_channels_alone_deliver_room_events_to_every_server() {
    for (subscriptions, has_rooms) in [
        (Subscriptions::Namespaces, false),
        (Subscriptions::Rooms, true),
    ] {
        let servers = servers(3, |redis| redis.sharded(subscriptions));
        let (mut client, id) = servers[1].connect();
        let id = SocketId::parse(&id).unwrap();
        servers[1].io.local().in_(id).join("room");
        servers.settle();
        let room = format!("{}#/#room#", servers.key);
        assert_eq!(
            channels(&servers, "shardchannels").contains(&room),
            has_rooms
        );
        let received = || servers[2].io.metrics().counter(Counter::ClusterReceived);
        let before = received();
        for n in 0..200 {
            servers[0].io.to("room").emit("n", n);
            client.expect_text(&format!("42[\"n\",{n}]"));
        }
        if has_rooms {
            // A server without members receives only heartbeats.
            assert!(received() < before + 100);
        } else {
            until(|| received() >= before + 200);
        }
    }
}

#[test]
fn node_server_is_answered_on_its_own_channel_if_configured() {
    let build = |mut io: Builder| {
        io = io.namespace("/", |namespace| {
            namespace.on_server_side("question", async |_: ServerSide| Ack(1))
        });
        io
    };
    let redis = RedisServer::shared();
    for is_own in [false, true] {
        let options = |redis: Redis| match is_own {
            true => redis.publish_on_specific_response_channel(),
            false => redis,
        };
        let servers = Servers::on_redis_with(&redis.url(), 1, options, build);
        let key = &servers.key;
        let common = format!("{key}-response#/#");
        let mut answers = redis.listen("psubscribe", &format!("{common}*"));
        for (fields, expected) in [
            (
                r#""type":5,"opts":{"rooms":[],"except":[]}"#,
                match is_own {
                    true => format!("{common}asker#"),
                    false => common.clone(),
                },
            ),
            // Node's adapter itself ignores the option for these requests.
            (r#""type":6,"data":["question"]"#, common.clone()),
        ] {
            let fields = format!(r#"{{"uid":"asker","requestId":"1",{fields}}}"#);
            let requests = format!("{key}-request#/#");
            redis.command(&["publish", &requests], fields.as_bytes());
            let [_, _, channel, _] = answers.next();
            assert_eq!(channel, expected);
        }
    }
}

#[test]
fn answers_to_stream_requests_use_sharded_channels() {
    for is_sharded in [false, true] {
        let servers = servers(2, |redis| match is_sharded {
            true => redis.streams().sharded_channels(),
            false => redis.streams(),
        });
        let _client = servers[1].connect();
        let fetched = servers[0].runtime.block_on(servers[0].io.fetch_sockets());
        assert_eq!(
            (fetched.sockets.len(), fetched.missing.is_empty()),
            (1, true)
        );
        assert_eq!(channels(&servers, "channels").is_empty(), is_sharded);
        assert_eq!(channels(&servers, "shardchannels").is_empty(), !is_sharded);
    }
}

#[test]
fn stream_has_the_configured_name_and_maximum_length() {
    let redis = RedisServer::shared();
    for (most, lengths) in [(100, 100..300), (10_000, 1_000..2_000)] {
        let name = format!("stream of {most}");
        let servers = servers(2, |redis| redis.streams().stream_name(&name).max_len(most));
        let (mut client, _) = servers[1].connect();
        for n in 0..1_000 {
            servers[0].io.emit("n", n);
            if n % 100 == 99 {
                (n - 99..=n).for_each(|n| client.expect_text(&format!("42[\"n\",{n}]")));
            }
        }
        let length = redis.ask(&["xlen", &name]);
        assert!(
            lengths.contains(&length.trim().parse().unwrap()),
            "{length}"
        );
        assert_eq!(redis.ask(&["exists", &servers.key]).trim(), "0");
    }
}

#[test]
fn stream_reads_at_most_the_configured_count() {
    // Redis serves no reads while a script runs.
    let script = "for n = 1, 64 do redis.call('XADD', KEYS[1], '*', 'uid', 'x', 'nsp', '/', 'type', '3', 'data', ARGV[1]) end";
    let data = br#"{"packet":{"type":2,"data":["n"],"nsp":"/"},"opts":{"rooms":[],"except":[],"flags":{}}}"#;
    for (most, has_no_peers) in [(1, true), (100, false)] {
        let redis = RedisServer::start();
        let options = |redis: Redis| redis.streams().read_count(most);
        let servers = Servers::on_redis_with(&redis.url(), 1, options, quiet);
        let (mut client, _) = servers[0].connect();
        redis.command(&["config"], b"resetstat");
        redis.command(&["eval", script, "1", &servers.key], data);
        (0..64).for_each(|_| client.expect_text("42[\"n\"]"));
        let stats = redis.ask(&["info", "commandstats"]);
        let reads = stats.split_once("cmdstat_xread:calls=").unwrap().1;
        let reads: u64 = reads.split_once(',').unwrap().0.parse().unwrap();
        assert_eq!(reads >= 64, has_no_peers, "{reads}");
    }
}

#[test]
fn session_keys_start_with_the_configured_prefix() {
    let redis = RedisServer::shared();
    let options = |redis: Redis| {
        let redis = redis.streams().recovery();
        redis.session_key_prefix("sessions of the options:")
    };
    let build = |io: Builder| quiet(io.recovery(Recovery::default()));
    let servers = Servers::on_redis_with(&redis.url(), 1, options, build);
    let mut client = servers[0].open();
    client.send_text("40");
    assert!(text(&mut client).contains("\"pid\""));
    drop(client);
    until(|| {
        !redis
            .ask(&["keys", "sessions of the options:*"])
            .trim()
            .is_empty()
    });
}

#[test]
fn peers_have_the_configured_request_timeout() {
    let redis = RedisServer::shared();
    // A subscriber that never answers.
    let [slow, fast] = [3_600_000, 100].map(|ms| {
        let servers = servers(1, |redis| redis.request_timeout(Duration::from_millis(ms)));
        let requests = format!("{}-request#/#", servers.key);
        let silent: Subscription = redis.listen("subscribe", &requests);
        (servers, silent)
    });
    let (slow, fast) = (&slow.0[0], &fast.0[0]);
    slow.runtime.block_on(async {
        tokio::select! {
            biased;
            _ = slow.io.fetch_sockets() => panic!("the one with an hour was faster"),
            fetched = fast.io.fetch_sockets() => assert_eq!(fetched.missing.unnamed, 1),
        }
    });
}

#[test]
fn queue_for_redis_is_bounded_by_count_and_bytes() {
    let unsent = |options: &dyn Fn(Redis) -> Redis| {
        let nowhere = format!("redis://127.0.0.1:{}", free_port());
        let redis = options(Redis::new(&nowhere).unwrap());
        let server = Local::serve(quiet(Io::builder().adapter(redis)));
        for _ in 0..10 {
            server.io.emit("n", "x".repeat(5_000));
        }
        server.io.metrics().counter(Counter::ClusterUnsent)
    };
    // Heartbeats may take places as well.
    assert!((7..).contains(&unsent(&|redis| redis.queue(3, 64 << 20))));
    assert!((8..).contains(&unsent(&|redis| redis.queue(65_536, 12_000))));
    assert_eq!(unsent(&|redis| redis), 0);
}

#[test]
fn a_message_is_no_larger_than_it_may_be() {
    let servers = servers(2, |redis| redis.max_message(1_000));
    let (mut client, _) = servers[1].connect();
    let unsent = || servers[0].io.metrics().counter(Counter::ClusterUnsent);
    let before = unsent();
    servers[0].io.emit("large", "x".repeat(2_000));
    assert_eq!(unsent(), before + 1);
    servers[0].io.emit("small", ());
    client.expect_text("42[\"small\"]");
}
