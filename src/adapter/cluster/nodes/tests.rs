use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::adapter::{WireError, operation::Kind};
use roomcast_protocol::socket::{Args, Parser};

fn registry(options: NodeOptions) -> Registry {
    let name = options.name("own").unwrap();
    Registry::new(name, options, &Arc::default())
}

fn other(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn beat(change: impl FnOnce(&mut Value)) -> Result<Heartbeat, WireError> {
    let mut beat = json!({
        "id": "a", "version": "1.2.3", "address": "http://10.0.0.1:3000",
        "started": 1_700_000_000_000_u64, "uptime": 5_000,
        "load": {"sockets": 7, "lagMicros": 250, "busy": 500, "later": true}, "later": [1],
    });
    change(&mut beat);
    let args = Args::document(Parser::Json, json!([beat]).to_string().into()).unwrap();
    let beat = Heartbeat::read(&args.items(0).unwrap())?;
    Ok(beat.authenticated(true))
}

#[test]
fn heartbeat_round_trips() {
    let registry = registry(NodeOptions::default().id("a").address("http://h:1"));
    let publication = registry.beat().publication().unwrap();
    let Kind::ServerSide { event, args } = publication.kind else {
        panic!("{publication:?}");
    };
    assert_eq!((&*event, publication.namespace.as_str()), (BEAT, NAMESPACE));
    let node = Heartbeat::read(&args).unwrap().node(other("x"));
    let own = registry.own();
    assert_eq!((node.id, node.version), (own.id, own.version));
    assert_eq!((node.address, node.load), (own.address, own.load));
    assert!(node.started <= own.started && !node.is_this);
}

#[tokio::test(start_paused = true)]
async fn misrouted_requests_are_logged_once_a_minute_if_peers_exist() {
    let metrics = Arc::<Metrics>::default();
    let options = NodeOptions::default();
    let registry = Registry::new(options.name("own").unwrap(), options, &metrics);
    let misrouted = |requests| {
        metrics.add(Counter::RejectedSession, requests);
        registry.misrouted()
    };
    // Requests for sessions of a server that was restarted.
    assert_eq!(misrouted(5), None);
    registry.receive_heartbeat(&other("x"), beat(|_| {}).unwrap());
    assert_eq!(misrouted(0), None);
    assert_eq!(misrouted(2), Some(2));
    assert_eq!(misrouted(2), None);
    advance(Duration::from_secs(61)).await;
    assert_eq!(misrouted(1), Some(3));
    advance(Duration::from_secs(138)).await;
    assert_eq!(misrouted(0), None);
    assert_eq!((misrouted(1), misrouted(1)), (Some(1), None));
    advance(Duration::from_secs(60)).await;
    assert_eq!(
        misrouted(0),
        Some(1),
        "suppressed requests are reported later"
    );
}

#[test]
#[cfg(feature = "forwarding")]
fn known_peer_can_forward_requests_until_the_server_leaves() {
    let forwarding = Forwarding::random();
    let options = NodeOptions::default().address("http://h:1");
    let sender = registry(options.clone()).with_forwarding(Some(forwarding));
    let publication = sender.beat().publication().unwrap();
    let Kind::ServerSide { args, .. } = publication.kind else {
        panic!("{publication:?}");
    };
    let receiver = registry(options);
    let plain = Heartbeat::read(&args).unwrap().authenticated(false);
    receiver.receive_heartbeat(&other("x"), plain);
    assert!(
        receiver.owner(forwarding.tag).is_none(),
        "anybody could have sent it"
    );
    let sealed = Heartbeat::read(&args).unwrap().authenticated(true);
    receiver.receive_heartbeat(&other("x"), sealed);
    let (address, key, uptime) = receiver.owner(forwarding.tag).unwrap();
    assert_eq!((&*address, key), ("http://h:1", forwarding.key));
    assert!(uptime <= sender.uptime() + Duration::from_millis(1));
    assert!(receiver.owner(Forwarding::random().tag).is_none());
    receiver.forget(&other("x"));
    assert!(receiver.owner(forwarding.tag).is_none());
}

#[tokio::test(start_paused = true)]
#[cfg(feature = "forwarding")]
async fn uptime_of_peer_advances_between_heartbeats() {
    let registry = registry(NodeOptions::default());
    let key = "A".repeat(43);
    let forwarding = json!({"v": 1, "tag": "AAAAAAA_", "key": key});
    let beat = beat(|beat| beat["forwarding"] = forwarding).unwrap();
    registry.receive_heartbeat(&other("x"), beat);
    advance(Duration::from_secs(3)).await;
    let tag = roomcast_protocol::Tag::parse("AAAAAAA_").unwrap();
    let (.., uptime) = registry.owner(tag).unwrap();
    assert_eq!(uptime, Duration::from_secs(8));
}

#[test]
fn heartbeat_has_whole_address_and_debug_hides_its_key() {
    let forwarding = |tag: &str, key: &str| {
        let forwarding = json!({"v": 1, "tag": tag, "key": key});
        beat(|beat| beat["forwarding"] = forwarding)
    };
    let key = "A".repeat(43);
    let good = forwarding("AAAAAAA_", &key).unwrap();
    assert!(good.forwarding.is_some());
    assert!(!format!("{good:?}").contains("0, 0"));
    let versioned = |v: Value| {
        let forwarding = json!({"v": v, "tag": "AAAAAAA_", "key": key, "later": 1});
        beat(|beat| beat["forwarding"] = forwarding).map(|beat| beat.forwarding.is_some())
    };
    assert!(versioned(json!(1)).unwrap());
    // A server with a later version is listed, but no request is forwarded to it.
    assert!(!versioned(json!(2)).unwrap());
    assert!(versioned(json!("1")).is_err());
    for (tag, key) in [
        ("AAAAAAA", &*key),
        ("AAAAAAA ", &key),
        ("AAAAAAA_", ""),
        ("AAAAAAA_", &key[1..]),
        ("AAAAAAA_", "not base64, but of just the same length.  !"),
    ] {
        assert!(forwarding(tag, key).is_err(), "{tag} {key}");
    }
}

#[test]
fn malformed_heartbeat_is_refused_as_a_whole() {
    let node = beat(|_| {}).unwrap().node(other("x"));
    assert_eq!((node.load.sockets, node.load.rooms), (7, 0));
    assert_eq!(node.load.lag, Duration::from_micros(250));
    assert!((node.load.busy - 0.5).abs() < 1e-9);
    assert!(beat(|beat| beat["address"] = Value::Null).is_ok());
    for (field, value) in [
        ("id", json!("")),
        ("id", json!("a b")),
        ("id", json!("a\"}")),
        ("id", json!("a".repeat(41))),
        ("version", json!("1\n2")),
        ("version", json!("1".repeat(65))),
        ("address", json!("")),
        ("address", json!("h\u{202e}")),
        ("address", json!("h".repeat(257))),
        ("started", json!(u64::MAX)),
        ("uptime", json!(-1)),
        ("rivals", json!(["a b"])),
        (
            "rivals",
            json!(["a", "a", "a", "a", "a", "a", "a", "a", "a"]),
        ),
        ("load", json!({"busy": 1001})),
        ("load", json!(3)),
    ] {
        let read = beat(|beat| beat[field] = value.clone());
        assert!(read.is_err(), "{field} {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn peer_without_heartbeat_expires_unless_this_server_stalled() {
    let registry = registry(NodeOptions::default());
    let receive = |name: &str| registry.receive_heartbeat(&other(name), beat(|_| {}).unwrap());
    assert!(matches!(receive("x"), HeartbeatOutcome::New(_)));
    assert!(matches!(receive("x"), HeartbeatOutcome::Again));
    advance(Duration::from_secs(6)).await;
    assert!(matches!(receive("y"), HeartbeatOutcome::New(_)));
    advance(Duration::from_secs(6)).await;
    let expired = registry.expire();
    assert_eq!(expired.len(), 1);
    assert_eq!(
        (&expired[0].name, expired[0].heartbeat_age),
        (&other("x"), Duration::from_secs(12))
    );
    assert!(registry.expire().is_empty());
    advance(Duration::from_secs(60)).await;
    registry.note_lag(Duration::from_secs(60));
    assert!(registry.expire().is_empty());
    advance(Duration::from_secs(5)).await;
    assert_eq!(registry.expire().len(), 1);
    assert_eq!(registry.nodes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_peer_expires_while_isolated_nor_for_one_lease_after() {
    let registry = registry(NodeOptions::default());
    registry.receive_heartbeat(&other("x"), beat(|_| {}).unwrap());
    registry.receive_heartbeat(&other("y"), beat(|_| {}).unwrap());
    for _ in 0..30 {
        advance(Duration::from_secs(1)).await;
        registry.restart_lease();
        assert!(registry.expire().is_empty());
    }
    // This server receives messages again, and one peer has left in the meantime.
    for _ in 0..10 {
        advance(Duration::from_secs(1)).await;
        registry.receive_heartbeat(&other("x"), beat(|_| {}).unwrap());
        assert!(registry.expire().is_empty());
    }
    advance(Duration::from_secs(1)).await;
    let expired = registry.expire();
    assert_eq!(expired.len(), 1);
    let heartbeat_age = Duration::from_secs(41);
    assert_eq!(
        (&expired[0].name, expired[0].heartbeat_age),
        (&other("y"), heartbeat_age)
    );
}

/// Returns a heartbeat of a server with this uptime in milliseconds, which lists this server as a
/// rival.
fn aged(uptime: u64, this: &str) -> Heartbeat {
    let change = |beat: &mut Value| {
        beat["uptime"] = json!(uptime);
        beat["rivals"] = json!([this]);
    };
    beat(change).unwrap()
}

#[tokio::test(start_paused = true)]
async fn younger_of_two_servers_with_the_same_id_yields() {
    let options = NodeOptions::default().id("a");
    for (own, uptime, name, must_yield) in [
        (0, 60_000, "x", true),
        (0, 60_000, "a", true),
        (1_000, 1_001, "a", true),
        (1_000, 1_000, "x", false),
        (60_000, 0, "x", false),
    ] {
        let registry = registry(options.clone());
        advance(Duration::from_millis(own)).await;
        registry.receive_heartbeat(&other(name), aged(uptime, "own~a"));
        assert_eq!(
            registry.taken().is_some(),
            must_yield,
            "{own} {uptime} {name}"
        );
    }
    let forged = registry(options);
    for n in 0..20 {
        let beat = aged(60_000 + n, "own~a").authenticated(false);
        forged.receive_heartbeat(&other("x"), beat);
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(forged.taken(), None, "nothing has sealed it");
    assert!(forged.nodes().iter().all(|node| node.address.is_none()));
    let replayed = registry(NodeOptions::default().id("a"));
    for n in 0..20 {
        let beat = aged(60_000 + n, "before~a");
        replayed.receive_heartbeat(&other("x"), beat);
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(replayed.taken(), None, "they are of before its start");
    let rivals = replayed.beat().rivals;
    assert!(rivals.iter().map(|name| &**name).eq(["x"]));
    let random = registry(NodeOptions::default());
    random.receive_heartbeat(&other("x"), aged(60_000, "own"));
    assert_eq!(random.taken(), None);
}

/// Simulates two servers with the same id that start `apart` milliseconds apart. Returns whether
/// the older server yields, and whether the younger server yields. A server that yields leaves. The
/// `delays` are those of their heartbeats in milliseconds.
async fn contest(apart: u64, older: &str, younger: &str, delays: [u64; 2]) -> [bool; 2] {
    let server = |name: &str| {
        let options = NodeOptions::default().id("a");
        Registry::new(other(name), options, &Arc::default())
    };
    let first = server(older);
    advance(Duration::from_millis(apart)).await;
    let second = server(younger);
    let millis = |registry: &Registry| registry.since.elapsed().as_millis() as u64;
    for _ in 0..20 {
        let [from_first, from_second] = delays;
        let (first_uptime, second_uptime) = (millis(&first), millis(&second));
        second.receive_heartbeat(
            &first.name,
            aged(first_uptime.saturating_sub(from_first), younger),
        );
        if second.taken().is_none() {
            first.receive_heartbeat(
                &second.name,
                aged(second_uptime.saturating_sub(from_second), older),
            );
        } else {
            first.forget(&second.name);
        }
        if first.taken().is_some() {
            second.forget(&first.name);
        }
        advance(Duration::from_secs(1)).await;
    }
    [&first, &second].map(|server| server.taken().is_some())
}

#[tokio::test(start_paused = true)]
async fn exactly_one_of_two_equal_ids_yields_despite_late_heartbeats() {
    for names in [["x", "y"], ["y", "x"]] {
        for apart in [0, 1, 500, 1_900, 2_100, 5_000, 60_000] {
            for delays in [[0, 0], [0, 300], [300, 0], [1_500, 20], [20, 3_000]] {
                let [older, younger] = names;
                let [first, second] = contest(apart, older, younger, delays).await;
                let of = format!("{apart} ms, {names:?}, {delays:?}");
                assert!(first != second, "{of}: {first} {second}");
                // The older server stays unless its heartbeats are delayed by at least the
                // difference in age.
                assert!(!first || apart <= delays[0], "{of}");
            }
        }
    }
}

#[test]
fn number_of_peers_is_bounded() {
    let registry = registry(NodeOptions::default());
    for n in 0..MAX_NODES {
        let outcome = registry.receive_heartbeat(&other(&n.to_string()), beat(|_| {}).unwrap());
        assert!(matches!(outcome, HeartbeatOutcome::New(_)));
    }
    let outcome = registry.receive_heartbeat(&other("one more"), beat(|_| {}).unwrap());
    assert!(matches!(outcome, HeartbeatOutcome::TooMany));
    assert!(registry.forget(&other("0")).is_some());
    assert!(registry.forget(&other("0")).is_none());
    let outcome = registry.receive_heartbeat(&other("one more"), beat(|_| {}).unwrap());
    assert!(matches!(outcome, HeartbeatOutcome::New(_)));
}

#[test]
fn invalid_node_options_are_refused() {
    assert_eq!(NodeOptions::default().id("web-1.a_B").check(), Ok(()));
    for options in [
        NodeOptions::default().id(""),
        NodeOptions::default().id("a/b"),
        NodeOptions::default().id("a".repeat(41)),
        NodeOptions::default().version(""),
        NodeOptions::default().address("http://a b"),
        NodeOptions::default().heartbeat(Duration::ZERO),
        NodeOptions::default().lease(Duration::from_secs(1)),
    ] {
        assert!(options.check().is_err(), "{options:?}");
    }
}

#[test]
fn losses_of_peer_are_reported_once_and_its_backlog_is_listed() {
    let registry = registry(NodeOptions::default());
    let beat_with = |lost: u64| {
        let beat = beat(|beat| {
            beat["load"] = json!({"lost": lost, "adapterQueued": 3, "adapterLagMicros": 5})
        });
        registry.receive_heartbeat(&other("x"), beat.unwrap())
    };
    assert!(matches!(beat_with(0), HeartbeatOutcome::New(_)));
    assert!(matches!(beat_with(0), HeartbeatOutcome::Again));
    assert!(matches!(beat_with(2), HeartbeatOutcome::Losing));
    assert!(matches!(beat_with(2), HeartbeatOutcome::Again));
    let nodes = registry.nodes();
    let load = nodes.iter().find(|node| !node.is_this).unwrap().load;
    assert_eq!(
        (load.lost, load.adapter_queued, load.adapter_queued_bytes),
        (2, 3, 0)
    );
    assert_eq!(load.adapter_lag, Duration::from_micros(5));
}

#[test]
fn corpus_handovers_decode_and_encode_unchanged() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/handover.txt");
    let corpus = std::fs::read_to_string(path).unwrap();
    let args = |text: &str| {
        let bytes = serde_json::to_vec(&[text]).unwrap();
        let args = Args::document(Parser::Json, bytes.into()).unwrap();
        args.items(0).unwrap()
    };
    let (mut read, mut numbers) = (Vec::new(), Vec::new());
    // The encoded value contains all fields of the original, and may contain newer fields.
    let assert_encodes_again = |text: &str, again: Option<Args>| {
        let again: String = again.unwrap().get(0).unwrap();
        let [before, again]: [Value; 2] =
            [text, &*again].map(|text| serde_json::from_str(text).unwrap());
        for (name, value) in before.as_object().unwrap() {
            assert!(name == "later" || again[name] == *value, "{name}: {again}");
        }
    };
    for line in corpus.lines().filter(|line| !line.starts_with('#')) {
        let [is, _, text] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        // A later version may add fields.
        let more = text.replacen('{', r#"{"later":[1],"#, 1);
        for text in [text, &more] {
            match is {
                "wanted" => {
                    let request = HandoverRequest::read(&args(text)).unwrap();
                    let fields = (&*request.pid, &*request.offset, &*request.namespace);
                    assert_eq!(fields, ("secret", "B.aaaaaa", "/"));
                    let Kind::ServerSideWithAck { args, .. } = request.publication().unwrap().kind
                    else {
                        panic!("no question");
                    };
                    assert_encodes_again(text, Some(args));
                }
                "given" => {
                    let state = HandoverState::read(&args(text)).unwrap();
                    assert_eq!((&*state.saved.pid, &*state.name), ("secret", "Ann"));
                    assert_eq!(state.saved.rooms.len(), 2);
                    assert!(state.saved.roomcast.is_some() && state.expires_at.is_some());
                    assert_eq!(state.missed[0].args.get(), r#"[1,{"b":null}]"#);
                    assert_eq!(state.arrival, json!([7]));
                    assert_encodes_again(text, state.answer());
                    let answered = state.answered.iter();
                    numbers.extend(answered.map(|id| id.request));
                }
                // The chat has its own test for these lines.
                _ => continue,
            }
            read.push(is);
        }
    }
    assert_eq!(
        read,
        ["wanted", "wanted", "given", "given", "given", "given"]
    );
    assert_eq!(numbers, [1, 7, 1, 7]);
}

#[test]
fn no_heartbeat_is_sent_after_the_leave_message() {
    let registry = registry(NodeOptions::default());
    let sent = std::cell::RefCell::new(Vec::new());
    registry.unless_left(|| sent.borrow_mut().push("beat"));
    registry.close(|| sent.borrow_mut().push("bye"));
    registry.unless_left(|| sent.borrow_mut().push("beat"));
    registry.close(|| sent.borrow_mut().push("bye"));
    assert_eq!(sent.into_inner(), ["beat", "bye"]);
}
