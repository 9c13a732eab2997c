//! Users of recovered sessions, and the checks that apply to them.

use super::*;

/// Refuses banned users and accepts every other name.
struct Names(Arc<Mutex<HashSet<String>>>);

impl Authenticate for Names {
    async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
        #[derive(serde::Deserialize)]
        struct Auth {
            name: String,
        }
        let Auth { name } = connect.auth().map_err(|_| Refusal::new("E_AUTH", "who?"))?;
        let (name, roles) = name.split_once('/').unwrap_or((&name, "user"));
        let ann = Principal::new(name);
        Ok(roles.split('+').fold(ann, Principal::with_role))
    }

    fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        if self.0.lock().unwrap().contains(&principal.subject) {
            return Err(Refusal::new("E_BANNED", "banned"));
        }
        Ok(())
    }

    async fn recover(&self, connect: Connect, old: Arc<Principal>) -> Result<Principal, Refusal> {
        tokio::task::yield_now().await;
        if self.0.lock().unwrap().contains(&old.subject) {
            return Err(Refusal::new("E_BANNED", "banned"));
        }
        self.authenticate(connect).await
    }
}

fn serve_with_names() -> (Local, Arc<Mutex<HashSet<String>>>) {
    let banned = Arc::new(Mutex::new(HashSet::new()));
    let mut io = on(Recovery::default());
    let names = Names(Arc::clone(&banned));
    io = io.namespace("/", |namespace| {
        namespace
            .authenticate(names)
            .on("name", async |event: Event| {
                Ack(event.principal().subject.clone())
            })
    });
    (Local::serve(io), banned)
}

/// Connects a client of this name that has received an event.
fn named(server: &Local, name: &str) -> (RawClient, Session) {
    let mut client = server.open();
    let (_, mut session) = enter(&mut client, "", &format!("{{\"name\":\"{name}\"}}"));
    server.io.to(&*session.sid).emit("hello", ());
    session.expect(&mut client, "42[\"hello\"]");
    (client, session)
}

fn connect_payload(session: &Session, name: &str) -> String {
    session
        .offer()
        .replace('}', &format!(",\"name\":\"{name}\"}}"))
}

#[test]
fn user_banned_while_disconnected_is_not_recovered() {
    let (server, banned) = serve_with_names();
    let (client, session) = named(&server, "ann");
    lose(&server, client);
    server.io.emit("secret", ());
    banned.lock().unwrap().insert("ann".into());
    let mut client = server.open();
    client.send_text(format!("40{}", connect_payload(&session, "ann")));
    client.expect_text("44{\"message\":\"banned\",\"data\":{\"code\":\"E_BANNED\"}}");
    // A user who is admitted again starts a new session: the ban has ended the old one.
    banned.lock().unwrap().clear();
    let (missed, new) = enter(&mut server.open(), "", &connect_payload(&session, "ann"));
    assert_ne!(new.sid, session.sid);
    assert!(missed.is_empty());
}

#[test]
fn lifted_ban_has_ended_the_session() {
    let (server, banned) = serve_with_names();
    let (client, session) = named(&server, "ann");
    let (other, others) = named(&server, "bob");
    lose(&server, client);
    lose(&server, other);
    server.io.emit("secret", ());
    banned.lock().unwrap().insert("ann".into());
    assert_eq!(server.io.revalidate(), 0, "nobody who is there");
    banned.lock().unwrap().clear();
    let (missed, new) = enter(&mut server.open(), "", &connect_payload(&session, "ann"));
    assert!(missed.is_empty() && new.sid != session.sid);
    let (missed, new) = enter(&mut server.open(), "", &connect_payload(&others, "bob"));
    assert!(missed.len() == 1 && new.sid == others.sid);
}

#[test]
fn user_banned_while_its_client_is_leaving_has_no_session() {
    let (server, banned) = serve_with_names();
    let (client, session) = named(&server, "ann");
    banned.lock().unwrap().insert("ann".into());
    drop(client);
    until(|| server.io.clients_count() == 0);
    assert_eq!(recoverable(&server), 0);
    banned.lock().unwrap().clear();
    let (_, new) = enter(&mut server.open(), "", &connect_payload(&session, "ann"));
    assert_ne!(new.sid, session.sid);
}

#[test]
fn lost_role_ends_the_session_and_new_role_keeps_it() {
    for (before, after, is_recovered) in [
        ("ann/user", "ann/user", true),
        ("ann/user", "ann/user+admin", true),
        ("ann/user+admin", "ann/user", false),
        ("ann/user", "ann/admin", false),
    ] {
        let (server, _) = serve_with_names();
        let (client, session) = named(&server, before);
        lose(&server, client);
        server.io.emit("secret", ());
        let (missed, new) = enter(&mut server.open(), "", &connect_payload(&session, after));
        assert_eq!(new.sid == session.sid, is_recovered, "{before} to {after}");
        assert_eq!(missed.len() == 1, is_recovered, "{before} to {after}");
    }
}

#[test]
fn another_user_gets_nothing_of_a_session() {
    let (server, _) = serve_with_names();
    let (client, session) = named(&server, "ann");
    lose(&server, client);
    server.io.emit("secret", ());
    let mut client = server.open();
    let (missed, new) = enter(&mut client, "", &connect_payload(&session, "bob"));
    assert!(missed.is_empty());
    assert!(new.sid != session.sid && new.pid != session.pid);
    client.send_text("421[\"name\"]");
    client.expect_text("431[\"bob\"]");
}

#[test]
fn recovery_skips_middleware_only_if_configured() {
    for skip_middlewares in [true, false] {
        let calls = Arc::new(Mutex::new(0_u32));
        let recovery = match skip_middlewares {
            true => Recovery::default(),
            false => Recovery::default().run_middlewares(),
        };
        let io = on(recovery)
            .shared_state(Arc::clone(&calls))
            .namespace("/", |namespace| {
                namespace.middleware(async |connect: Connect| {
                    let mut calls = connect.state::<Mutex<u32>>().lock().unwrap();
                    *calls += 1;
                    if *calls > 1 {
                        return Err(Refusal::new("", "no"));
                    }
                    Ok(())
                })
            });
        let server = Local::serve(io);
        let (client, session) = member(&server);
        lose(&server, client);
        let mut client = server.open();
        client.send_text(format!("40{}", session.offer()));
        let answer = text(&mut client);
        assert_eq!(answer.starts_with("40{"), skip_middlewares, "{answer}");
        assert_eq!(
            answer == "44{\"message\":\"no\"}",
            !skip_middlewares,
            "{answer}"
        );
        // A refused client keeps its session.
        assert_eq!(recoverable(&server), i64::from(!skip_middlewares));
    }
}

#[test]
fn middleware_sees_whether_a_client_is_recovered() {
    let seen = Arc::new(Mutex::new(Vec::<bool>::new()));
    for has_authenticator in [false, true] {
        let mut io = on(Recovery::default().run_middlewares()).shared_state(Arc::clone(&seen));
        io = io.namespace("/", |namespace| {
            namespace.middleware(async |connect: Connect| {
                let seen = connect.state::<Mutex<Vec<bool>>>();
                seen.lock().unwrap().push(connect.recovered());
                Ok::<_, Refusal>(())
            })
        });
        if has_authenticator {
            io = io.namespace("/", |namespace| {
                namespace.authenticate(Names(Arc::default()))
            });
        }
        let server = Local::serve(io);
        let (client, session) = named(&server, "ann");
        lose(&server, client);
        // A session that does not exist, another user's, and the user's own.
        let mut nobodys = server.open();
        enter(
            &mut nobodys,
            "",
            "{\"pid\":\"x\",\"offset\":\"B\",\"name\":\"ann\"}",
        );
        let mut bob = server.open();
        if has_authenticator {
            let (_, new) = enter(&mut bob, "", &connect_payload(&session, "bob"));
            assert_ne!(new.sid, session.sid);
        }
        let (_, new) = enter(&mut server.open(), "", &connect_payload(&session, "ann"));
        assert_eq!(new.sid, session.sid);
        let expected: &[bool] = match has_authenticator {
            false => &[false, false, true],
            true => &[false, false, false, true],
        };
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), expected);
    }
}

#[test]
fn namespace_handlers_see_a_client_leave_and_recover() {
    let (sender, reports) = std::sync::mpsc::channel();
    struct ReportSender(Mutex<std::sync::mpsc::Sender<String>>);
    let say = |event: &Event| {
        let reports: &ReportSender = event.state();
        let rooms = event.socket.rooms().len();
        let recovered = event.socket.recovered();
        let name = event.name().to_owned();
        let report = format!("{name} {recovered} {rooms}");
        reports.0.lock().unwrap().send(report).unwrap();
    };
    let io = on(Recovery::default())
        .state(ReportSender(Mutex::new(sender)))
        .namespace("/", |namespace| {
            namespace
                .on_connect(move |event: Event| async move { say(&event) })
                .on(
                    "disconnecting",
                    move |event: Event| async move { say(&event) },
                )
                .on("disconnect", async |_: Event, _: State<ReportSender>| {})
        });
    let server = Local::serve(io);
    let (client, mut session) = member(&server);
    lose(&server, client);
    let (client, ..) = reconnect(&server, &mut session);
    lose(&server, client);
    let reports: Vec<String> = reports.try_iter().collect();
    let expected = [
        "connect false 0",
        "disconnecting false 1",
        "connect true 1",
        "disconnecting true 1",
    ];
    assert_eq!(reports, expected);
}
