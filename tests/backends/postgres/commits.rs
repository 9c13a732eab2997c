//! Commits whose answer is lost: the store looks up their outcome.

use super::*;

/// Forwards everything, but can lose a commit or its answer, together with the connection.
#[derive(Clone)]
struct Proxy {
    port: u16,
    /// Drops the answer to the next commit.
    swallow: Arc<AtomicBool>,
    /// Drops the next commit.
    eat: Arc<AtomicBool>,
    /// Refuses connections after a commit was lost.
    shut: Arc<AtomicBool>,
    is_shut: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            swallow: Arc::default(),
            eat: Arc::default(),
            shut: Arc::default(),
            is_shut: Arc::default(),
        };
        let own = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if own.is_shut.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
                    continue;
                };
                tokio::spawn(forward(client, server, own.clone()));
            }
        });
        proxy
    }

    fn url(&self, url: &str) -> String {
        let (server, database) = url.rsplit_once('/').unwrap();
        let (user, _) = server.rsplit_once(':').unwrap();
        format!("{user}:{}/{database}", self.port)
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, proxy: Proxy) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut committing = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(read @ 1..) = read else { return };
                let sent = &from_client[..read];
                let commits = sent.windows(7).any(|window| window == b"COMMIT\0");
                if commits && proxy.eat.load(Ordering::Relaxed) {
                    let shut = proxy.shut.load(Ordering::Relaxed);
                    proxy.is_shut.store(shut, Ordering::Relaxed);
                    proxy.eat.store(false, Ordering::Relaxed);
                    return;
                }
                committing |= commits;
                if server.write_all(sent).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(read @ 1..) = read else { return };
                let answer = &from_server[..read];
                let done = answer.windows(7).any(|window| window == b"COMMIT\0");
                // The server has committed, and the client will not learn it.
                if committing && done && proxy.swallow.swap(false, Ordering::Relaxed) {
                    return;
                }
                committing &= !done;
                if client.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Starts a store behind a proxy that can hold back answers.
async fn connect_over_proxy() -> (Proxy, Harness) {
    connect(postgres().0).await
}

async fn connect(config: config::Store) -> (Proxy, Harness) {
    let port = shared().port();
    let proxy = Proxy::start(port).await;
    let config = config::Store {
        url: proxy.url(&config.url),
        ..config
    };
    let harness = Harness::new((config, None)).await;
    (proxy, harness)
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_with_a_lost_reply_is_looked_up_and_acknowledged() {
    let (proxy, harness) = connect_over_proxy().await;
    let id = harness.conversation(&["ann"]).await;
    for seq in 1..=5 {
        proxy.swallow.store(true, Ordering::Relaxed);
        let message = harness.send(id, "ann", &seq.to_string()).await;
        assert_eq!(message.seq, seq);
        assert!(!proxy.swallow.load(Ordering::Relaxed), "an answer was lost");
    }
    assert_eq!(harness.metrics.counter(Counter::StoreDoubts), 5);
    let emitted: Vec<u64> = harness.emitted_to(id).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(emitted, [1, 2, 3, 4, 5], "each is emitted once");
}

fn ann() -> Actor {
    Actor {
        user_id: "ann".into(),
        is_admin: false,
    }
}

fn edit_by_ann(message_id: Uuid, content: &str) -> Edit {
    Edit {
        message_id,
        by: ann(),
        content: content.into(),
        version: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_commits_of_every_kind_are_looked_up() {
    let (proxy, harness) = connect_over_proxy().await;
    let id = harness.conversation(&["ann"]).await;
    let message = harness.send(id, "ann", "text").await;
    // First the commit is lost, then its answer.
    for (fault, stored) in [(&proxy.eat, false), (&proxy.swallow, true)] {
        let doubts = harness.metrics.counter(Counter::StoreDoubts);
        let edit = edit_by_ann(message.id, "edited");
        let delete = Delete {
            message_id: message.id,
            by: ann(),
        };
        let member = |removes| MemberChange {
            conversation_id: id,
            user_id: "bob".into(),
            by: ann(),
            removes,
            limit: 1000,
        };
        let store = &harness.store;
        let lose_reply = || fault.store(true, Ordering::Relaxed);
        let expect = |step: &str, done: bool| assert_eq!(done, stored, "{step}");

        lose_reply();
        let edited = store.edit_message(edit, Origin::default()).await;
        expect("edit", matches!(edited, Ok(Change::Done(_))));
        lose_reply();
        let added = store.change_member(member(false), Origin::default()).await;
        expect("add", matches!(added, Ok(Change::Done(_))));
        assert_eq!(store.is_member(id, "bob").await.unwrap(), stored);
        if !stored {
            let added = store.change_member(member(false), Origin::default()).await;
            assert!(matches!(added, Ok(Change::Done(_))));
        }
        lose_reply();
        let removed = store.change_member(member(true), Origin::default()).await;
        expect("remove", matches!(removed, Ok(Change::Done(_))));
        assert_eq!(store.is_member(id, "bob").await.unwrap(), !stored);
        if !stored {
            let removed = store.change_member(member(true), Origin::default()).await;
            assert!(matches!(removed, Ok(Change::Done(_))));
        }
        lose_reply();
        let new = roomcast_server::store::NewConversation {
            id: Uuid::new_v4(),
            title: None,
            owner_id: Some("ann".into()),
            member_ids: Vec::new(),
            is_open: false,
        };
        let made = store.insert_conversation(new.clone()).await;
        expect("conversation", made.is_ok());
        let exists = store.conversation(new.id).await.unwrap().is_some();
        assert_eq!(exists, stored);
        lose_reply();
        let rename = Rename {
            conversation_id: id,
            title: format!("{stored}"),
            by: ann(),
        };
        let renamed = store.rename_conversation(rename, Origin::default()).await;
        expect("rename", matches!(renamed, Ok(Change::Done(_))));
        lose_reply();
        let reaction = Annotate {
            message_id: message.id,
            by: ann(),
            annotation: Annotation::React("👍".into()),
        };
        let reacted = store.annotate(reaction, Origin::default()).await;
        expect("reaction", matches!(reacted, Ok(Change::Done(_))));
        lose_reply();
        let read = MarkRead {
            conversation_id: id,
            user_id: "ann".into(),
            seq: 1,
        };
        expect("read", store.mark_read(read).await.is_ok());
        lose_reply();
        let deleted = store.delete_message(delete, Origin::default()).await;
        expect("delete", matches!(deleted, Ok(Change::Done(_))));
        let versions = store.versions(message.id).await.unwrap().len();
        assert_eq!(versions, if stored { 2 } else { 0 });
        lose_reply();
        let deletion = DeleteConversation {
            conversation_id: id,
            by: ann(),
        };
        let deletion_result = store.delete_conversation(deletion, Origin::default()).await;
        expect("end", matches!(deletion_result, Ok(Change::Done(_))));
        let exists = store.conversation(id).await.unwrap().is_some();
        assert_eq!(exists, !stored);
        assert_eq!(harness.metrics.counter(Counter::StoreDoubts), doubts + 9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_commit_whose_rows_were_removed_is_found_by_its_transaction() {
    let (config, _) = postgres();
    let (proxy, harness) = connect(config.clone()).await;
    let id = harness.conversation(&["ann"]).await;
    let message = harness.send(id, "ann", "text").await;
    sql(
        &config,
        "CREATE FUNCTION remove() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN DELETE FROM conversation_changes; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER remove AFTER INSERT ON conversation_changes
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION remove()",
    );
    for (fault, stored) in [(&proxy.eat, false), (&proxy.swallow, true)] {
        fault.store(true, Ordering::Relaxed);
        let edit = edit_by_ann(message.id, "edited");
        let edited = harness.store.edit_message(edit, Origin::default()).await;
        assert_eq!(matches!(edited, Ok(Change::Done(_))), stored);
    }
    let rows = sql(&config, "SELECT count(*) FROM conversation_changes");
    assert_eq!(rows.trim(), "0");
    assert_eq!(harness.metrics.counter(Counter::StoreDoubts), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn change_undone_by_a_crash_is_refused_after_later_commits() {
    let server = Postgres::start();
    let proxy = Proxy::start(server.port()).await;
    // Failures are reported immediately here.
    let direct = config::Store {
        connect_timeout: Duration::from_secs(10),
        pool_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(10),
        ..impatient(&server)
    };
    let config = config::Store {
        url: proxy.url(&direct.url),
        // All statements use one connection, and no health checks run.
        writers: 1,
        health_interval: Duration::from_secs(3600),
        ..direct.clone()
    };
    let other = Harness::new((direct, None)).await;
    let harness = Harness::new((config, None)).await;
    let id = harness.conversation(&["ann"]).await;
    let message = harness.send(id, "ann", "text").await;
    let busy = other.conversation(&["bob"]).await;
    proxy.shut.store(true, Ordering::Relaxed);
    proxy.eat.store(true, Ordering::Relaxed);
    let edit = edit_by_ann(message.id, "never");
    let store = harness.store.clone();
    let editing = tokio::spawn(async move { store.edit_message(edit, Origin::default()).await });
    let eaten = async {
        while proxy.eat.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(5)).await; // Poll interval.
        }
    };
    timeout(DEADLINE, eaten)
        .await
        .expect("the edit is under way");
    server.kill();
    server.restart();
    healthy(&other).await;
    // Transactions that follow have used the id of the edit by now.
    for n in 0..20 {
        let send = other
            .store
            .insert_message(text(busy, "bob", &n.to_string()), Origin::default());
        assert!(send.await.is_ok());
    }
    // The conversation's next change takes the number of the edit.
    let edit = edit_by_ann(message.id, "later");
    let edited = other.store.edit_message(edit, Origin::default()).await;
    assert!(matches!(edited, Ok(Change::Done(_))));
    proxy.is_shut.store(false, Ordering::Relaxed);
    let answer = timeout(DEADLINE, editing).await.unwrap().unwrap();
    assert_eq!(answer.unwrap_err(), StoreError::Failed);
    let read = other.store.history(id, Page::Newest, 1).await.unwrap();
    assert_eq!(read.unwrap().messages[0].content, "later");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_commit_is_looked_up_and_refused() {
    let (config, _) = postgres();
    let config = config::Store {
        // The server has no statement timeout here, so that the client's expires first.
        url: config.url.clone() + "?options=-c%20statement_timeout%3D0",
        statement_timeout: Duration::from_secs(3),
        // Callers wait until the store has given up and looked the commit up.
        answer_timeout: DEADLINE,
        ..config
    };
    let harness = Harness::new((config.clone(), None)).await;
    let id = harness.conversation(&["ann"]).await;
    sql(
        &config,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(3600); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (NEW.content = 'slow') EXECUTE FUNCTION slow()",
    );
    let send = harness
        .store
        .insert_message(text(id, "ann", "slow"), Origin::default());
    let answer = timeout(DEADLINE, send).await.unwrap();
    assert_eq!(answer.unwrap_err(), StoreError::Failed);
    assert_eq!(harness.metrics.counter(Counter::StoreDoubts), 1);
    assert_eq!(harness.send(id, "ann", "next").await.seq, 1);
    assert_eq!(harness.emitted_to(id), [(1, "next".into())]);
}
