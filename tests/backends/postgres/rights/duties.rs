//! Everything that a server does with its database, as a role that does not own the tables.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use roomcast::network::{Block, BlockSource};
use roomcast_server::config;
use roomcast_server::store::{
    Actor, Amend, Annotate, Annotation, Append, Attempt, AuditEntry, AuditQuery, Change, Current,
    Delete, DeleteConversation, Delivery, Edit, EraseAuthor, Extension, Finish, IfOpen, Insert,
    Invite, JournalSweep, Level, Login, MarkRead, MemberChange, Message, Missed, NewConversation,
    NewMessage, NewStatus, Notice, Origin, Page, PresenceEntry, Quota, Rename, Replace, Revision,
    Revocation, Search, Status, Store, StoredResponse, Time, UserDataPlace, words,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::Database;
use crate::audit::act;
use crate::harness::{drain, retriable, text};

/// Maximum time in which a store must detect that the database accepts changes again.
const DEADLINE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(3600);

/// Failure if the store does not detect that the database accepts changes again.
const NOT_FOUND: &str = "the database accepts changes again, and the store does not find out";

/// Returns whether a failure is due to missing rights, and not to the contents of the database.
pub(super) fn lacks_rights(failure: &str) -> bool {
    let signs = [
        ": Failed",
        ": Denied(",
        ": Unavailable(",
        "permission denied",
        NOT_FOUND,
    ];
    failure.starts_with("Store::open(") || signs.iter().any(|sign| failure.contains(sign))
}

/// Awaits an answer of the store, or returns the failure.
macro_rules! must {
    ($asked:expr) => {
        $asked
            .await
            .map_err(|error| format!("{}: {error:?}", stringify!($asked)))?
    };
}

/// Does everything that a server does, and returns the first thing that this role is not allowed to
/// do.
pub(super) async fn perform(database: &Database, role: &str) -> Result<(), String> {
    // Simulates a full disk for one text and for changes that change nothing.
    database.sql(
        "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
         DROP TRIGGER IF EXISTS full_disk ON messages;
         DROP TRIGGER IF EXISTS full_disk ON roomcast_schema;
         CREATE TRIGGER full_disk BEFORE INSERT ON messages FOR EACH ROW
             WHEN (NEW.content = 'too much') EXECUTE FUNCTION full_disk();
         CREATE TRIGGER full_disk BEFORE UPDATE ON roomcast_schema EXECUTE FUNCTION full_disk()",
    );
    serve(database, role).await
}

async fn serve(database: &Database, role: &str) -> Result<(), String> {
    let config = config::Store {
        health_interval: Duration::from_millis(50),
        retry_timeout: Duration::from_millis(200),
        ..database.config_as(role)
    };
    let (store, commits) = must!(Store::open(&config, Arc::default()));
    must!(Store::cluster_secrets(&config));
    let _emitted = drain(commits);
    let done = async {
        chat(&store).await?;
        invites(&store).await?;
        statuses(&store).await?;
        journals(&store).await?;
        logins(&store).await?;
        keys(&store).await?;
        audit(&store).await?;
        deliveries(&store).await?;
        erasure(&store).await?;
        leases(&store).await?;
        feed(&store).await?;
        publications(database, &store).await?;
        health(database, &store).await
    };
    let done = done.await;
    store.close().await;
    done
}

async fn audit(store: &Store) -> Result<(), String> {
    let entry = act();
    must!(store.record_act(entry.clone()));
    let ended = AuditEntry {
        outcome: Some("done".into()),
        ..entry
    };
    must!(store.record_act(ended.clone()));
    let query = AuditQuery {
        user: Some("ann".into()),
        limit: 1,
        ..AuditQuery::default()
    };
    let found = must!(store.audit(query));
    if found.first().map(|entry| &entry.outcome) != Some(&ended.outcome) {
        return Err(format!("{found:?}"));
    }
    must!(store.expire_audit(later(), 10));
    Ok(())
}

async fn statuses(store: &Store) -> Result<(), String> {
    for status in [Status::Busy, Status::Away, Status::Online] {
        let new = NewStatus {
            user_id: "ann".into(),
            status,
            text: None,
            retention: LONG,
        };
        expect(must!(store.set_status(new.clone(), Time::now())))?;
        must!(store.set_status(new, Time::now()));
    }
    must!(store.remove_status("ann"));
    must!(store.expire_statuses(Time::now(), 10));
    Ok(())
}

fn actor(user: &str) -> Actor {
    Actor {
        user_id: user.into(),
        is_admin: false,
    }
}

fn expect<T: Debug>(change: Change<T>) -> Result<T, String> {
    match change {
        Change::Done(done) => Ok(done),
        other => Err(format!("{other:?}")),
    }
}

fn later() -> Time {
    "2100-01-01T00:00:00.000Z".parse().unwrap()
}

async fn opened(store: &Store, members: &[&str]) -> Result<Uuid, String> {
    let new = NewConversation {
        id: Uuid::new_v4(),
        title: Some("A title".into()),
        owner_id: Some(members[0].into()),
        member_ids: members.iter().map(|&member| member.into()).collect(),
        is_open: false,
    };
    Ok(must!(store.insert_conversation(new)).id)
}

async fn sent(store: &Store, message: NewMessage) -> Result<Arc<Message>, String> {
    match must!(store.insert_message(message, Origin::default())) {
        Insert::Stored(message) => Ok(message),
        other => Err(format!("{other:?}")),
    }
}

fn append(journal: &str, key: &str, if_open: IfOpen) -> Append {
    Append {
        journal: journal.into(),
        key: key.into(),
        body: "{}".into(),
        category: Some("a".into()),
        is_open: true,
        if_open,
        needs_open: false,
        created_at: Time::now(),
        expires_at: None,
        most_open: 1000,
        quota: Quota::All,
    }
}

async fn chat(store: &Store) -> Result<(), String> {
    let origin = Origin::default;
    let id = opened(store, &["ann", "bob"]).await?;
    let once = Uuid::new_v4().to_string();
    let first = sent(store, retriable(id, "ann", &once)).await?;
    let mut answer = text(id, "bob", "a word for @ann");
    answer.reply_to = Some(first.id);
    answer.mentions = vec!["ann".into()];
    answer.notice = Some(Notice::new(|message, user| {
        append(
            &format!("notifications:{user}"),
            &message.id.to_string(),
            IfOpen::Keep,
        )
    }));
    let answer = sent(store, answer).await?;
    expect(must!(store.edit_message(
        Edit {
            message_id: first.id,
            by: actor("ann"),
            content: "another word".into(),
            version: None,
        },
        origin(),
    )))?;
    let writing = NewMessage {
        content: String::new(),
        holder: Some(id),
        ..retriable(id, "ann", &Uuid::new_v4().to_string())
    };
    let writing = sent(store, writing).await?;
    let extension = Extension {
        message_id: writing.id,
        holder: id,
        from: 0,
        text: "half".into(),
        chars: 4,
    };
    if must!(store.extend_streams(&[extension])).is_empty() {
        return Err("not extended".into());
    }
    let finish = Finish {
        message_id: writing.id,
        holder: Some(id),
        content: None,
        metadata: None,
        interrupted: None,
        idle_since: None,
        notice: None,
    };
    expect(must!(store.finish_stream(finish, origin())))?;
    for (user, annotation) in [
        ("ann", Annotation::React("+".into())),
        ("bob", Annotation::React("+".into())),
        ("bob", Annotation::Unreact("+".into())),
        ("ann", Annotation::Unreact("+".into())),
        ("ann", Annotation::Pin),
        ("ann", Annotation::Unpin),
        ("ann", Annotation::Pin),
    ] {
        let annotate = Annotate {
            message_id: answer.id,
            by: actor(user),
            annotation,
        };
        expect(must!(store.annotate(annotate, origin())))?;
    }
    must!(store.pinned(answer.id));
    for (user, by, removes) in [
        ("carl", "ann", false),
        ("carl", "ann", true),
        ("dan", "ann", false),
        // The conversation gets another owner.
        ("ann", "ann", true),
        ("ann", "bob", false),
    ] {
        let change = MemberChange {
            conversation_id: id,
            user_id: user.into(),
            by: actor(by),
            removes,
            limit: 10,
        };
        expect(must!(store.change_member(change, origin())))?;
    }
    let rename = Rename {
        conversation_id: id,
        title: "Another title".into(),
        by: actor("bob"),
    };
    expect(must!(store.rename_conversation(rename, origin())))?;
    for seq in [1, 2] {
        must!(store.mark_read(MarkRead {
            conversation_id: id,
            user_id: "ann".into(),
            seq,
        }));
    }
    for level in [Level::None, Level::All] {
        must!(store.set_level(id, "ann", level));
    }
    let delete = Delete {
        message_id: answer.id,
        by: actor("bob"),
    };
    expect(must!(store.delete_message(delete, origin())))?;

    must!(store.membership(id, "ann"));
    must!(store.is_member(id, "ann"));
    must!(store.conversations("ann", None, 10));
    must!(store.conversation_ids("ann", 10));
    must!(store.contacts("ann", 10, 10));
    must!(store.messages(id, "ann", Page::Newest, 10));
    must!(store.history(id, Page::Newest, 10));
    must!(store.search(
        "ann",
        Search {
            words: words("another"),
            conversation: None,
            before: None,
        },
        10,
    ));
    must!(store.versions(first.id));
    must!(store.authorship(first.id));
    must!(store.opening(id, Some("ann")));
    must!(store.shared_id());
    let revisions = must!(store.revisions(&[id]));
    let [(_, newest)] = revisions.as_slice() else {
        return Err(format!("{revisions:?}"));
    };
    let missed = must!(store.missed(id, Revision::default(), *newest, 100));
    if !matches!(missed, Missed::Steps { .. }) {
        return Err(format!("{missed:?}"));
    }
    must!(store.forget_changes());

    let deletion = DeleteConversation {
        conversation_id: id,
        by: actor("bob"),
    };
    expect(must!(store.delete_conversation(deletion, origin())))?;
    while must!(store.purge(later(), 100)) > 0 {}
    let other = opened(store, &["ann"]).await?;
    sent(store, text(other, "ann", "old")).await?;
    while must!(store.expire(later(), 100)) > 0 {}
    Ok(())
}

async fn erasure(store: &Store) -> Result<(), String> {
    let id = opened(store, &["ann", "gone"]).await?;
    for removes_text in [false, true] {
        let message = sent(store, text(id, "gone", "a word")).await?;
        let erase = EraseAuthor {
            message_id: message.id,
            user_id: "gone".into(),
            removes_text,
        };
        expect(must!(store.erase_author(erase, Origin::default())))?;
        must!(store.erase_mentions(message.id, vec!["ann".into()]));
    }
    for body in [Some("{}".into()), None] {
        must!(store.edit_delivery(Uuid::new_v4(), body, later()));
    }
    must!(store.deliveries_with("a text".into()));
    let mut next = Some(UserDataPlace::default());
    while let Some(place) = next {
        let page = must!(store.user_data("gone", &place, 1 << 20));
        must!(store.erase_user_data("gone", &place, &page.through));
        next = page.next;
    }
    Ok(())
}

async fn invites(store: &Store) -> Result<(), String> {
    let id = opened(store, &["ann"]).await?;
    let invite = Invite {
        token_hash: Uuid::new_v4().to_string(),
        conversation_id: id,
        created_by: "ann".into(),
        expires_at: later(),
        uses_left: Some(2),
    };
    let hash = invite.token_hash.clone();
    for _ in 0..2 {
        must!(store.insert_invite(invite.clone(), 9));
    }
    must!(store.invite(&hash));
    expect(must!(store.join_by_invite(
        &hash,
        "bob",
        9,
        Origin::default()
    )))?;
    must!(store.count_invites(id));
    must!(store.delete_invites(id));
    Ok(())
}

async fn journals(store: &Store) -> Result<(), String> {
    let journal = format!("trades:{}", Uuid::new_v4());
    for if_open in [IfOpen::Keep, IfOpen::Keep, IfOpen::Remove, IfOpen::Refuse] {
        must!(store.append(append(&journal, "t1", if_open)));
    }
    must!(store.replace(Replace {
        journal: "prices".into(),
        entries: vec![("A".into(), "{}".into())],
        created_at: Time::now(),
        most_open: 1000,
    }));
    must!(store.journal(Current {
        journal: &journal,
        category: None,
        open: 10,
        newest: 10,
        is_closed: false,
        with_withdrawn: false,
        before: None,
        now: Time::now(),
    }));
    must!(store.journal_after(&journal, 0, 10, 10));
    must!(store.journal_entry(&journal, "t1"));
    let old = Time::now().before(LONG);
    must!(store.expire_journal(&journal, old, old));
    let entry = must!(store.journal_entry(&journal, "t1"));
    must!(store.amend(Amend {
        journal: journal.clone(),
        key: "t1".into(),
        replaces: entry.map_or(0, |entry| entry.revision),
        body: "{}".into(),
        is_open: true,
        created_at: Time::now(),
        expires_at: None,
    }));
    must!(store.sweep_journals(JournalSweep {
        now: Time::now(),
        replaced_before: later(),
        closed_before: later(),
        limit: 100,
    }));
    Ok(())
}

async fn logins(store: &Store) -> Result<(), String> {
    let hash = Uuid::new_v4().to_string();
    let login = Login {
        id_hash: hash.clone(),
        user_id: "ann".into(),
        roles: vec!["user".into()],
        data: None,
        ttl_s: 60,
        created_at: Time::now(),
        expires_at: later(),
    };
    for _ in 0..2 {
        must!(store.insert_login(login.clone()));
    }
    must!(store.login(&hash));
    must!(store.logins_of("ann"));
    must!(store.touch_login(&hash, later()));
    must!(store.delete_login(&hash));
    let revocation = Revocation {
        kind: "user".into(),
        value: hash.clone(),
        until: later(),
    };
    for _ in 0..2 {
        must!(store.insert_revocation(revocation.clone()));
    }
    must!(store.revocations());
    must!(store.delete_revocation("user", &hash));
    must!(store.sweep_logins(Time::now()));
    let network = "192.0.2.0/24".parse().unwrap();
    let block = Block::new(network, None, "spam", BlockSource::Admin);
    for _ in 0..2 {
        must!(store.insert_block(block.clone()));
    }
    must!(store.blocks());
    must!(store.delete_blocks(vec![block.id]));
    Ok(())
}

async fn keys(store: &Store) -> Result<(), String> {
    let key = Uuid::new_v4().to_string();
    let attempt = || Attempt {
        key: key.clone(),
        request: "a".into(),
        id: Uuid::new_v4(),
        now: Time::now(),
        locked_until: later(),
        expires_at: later(),
    };
    let first = attempt();
    must!(store.begin_request(first.clone()));
    let answer = StoredResponse {
        status: 201,
        body: None,
    };
    must!(store.end_request(&key, first.id, Some(answer)));
    must!(store.begin_request(attempt()));
    must!(store.end_request(&key, first.id, None));
    must!(store.sweep_requests(Time::now(), 10));
    Ok(())
}

async fn deliveries(store: &Store) -> Result<(), String> {
    let delivery = Delivery {
        id: Uuid::now_v7(),
        body: "{}".into(),
        created_at: Time::now(),
    };
    must!(store.insert_delivery(delivery, 1000));
    for due_at in [Some(Time::now()), None] {
        let taken = must!(store.take_delivery(later(), later()));
        let taken = taken.ok_or("no delivery is due")?;
        must!(store.end_delivery(&taken, due_at));
    }
    Ok(())
}

async fn leases(store: &Store) -> Result<(), String> {
    let leases = store.leases().ok_or("no leases")?;
    let (node, room) = (Uuid::new_v4(), Uuid::new_v4());
    must!(leases.take(node, LONG));
    must!(leases.renew(node, LONG));
    for connections in [1, 2, 0] {
        let here = PresenceEntry {
            conversation_id: room,
            user_id: "ann".into(),
            name: "Ann".into(),
            connections,
            since: Time::now(),
        };
        must!(leases.tell(node, &[here]));
    }
    must!(leases.remote_presence(Uuid::new_v4(), &[room]));
    must!(leases.next_end(Uuid::new_v4()));
    must!(leases.end(node));
    must!(leases.remove_expired(LONG));
    Ok(())
}

async fn feed(store: &Store) -> Result<(), String> {
    let feed = store.feed().ok_or("no feed")?;
    let mark = must!(feed.end());
    must!(feed.read(&mark, 100));
    must!(feed.shorten(Some(&mark), 100));
    must!(feed.revocations(&[("user", "ann")]));
    must!(feed.revocations_after(None, 10));
    must!(feed.blocks(&[Uuid::new_v4()]));
    Ok(())
}

async fn publications(database: &Database, store: &Store) -> Result<(), String> {
    let publications = store.publications().ok_or("no publications")?;
    database.sql("SELECT roomcast_publish_to_everyone('n', '1', gen_random_uuid()::text)");
    let last = must!(publications.number());
    must!(publications.after(last - 1, 10));
    must!(publications.refuse(last, "a reason"));
    for _ in 0..2 {
        must!(publications.note_place("a", last));
    }
    must!(publications.place_of("a", LONG));
    must!(publications.forget(LONG, 100));
    Ok(())
}

/// The store detects with a change that changes nothing that a full database stores again.
async fn health(database: &Database, store: &Store) -> Result<(), String> {
    let id = opened(store, &["ann"]).await?;
    while store.is_healthy() {
        let full = store.insert_message(text(id, "ann", "too much"), Origin::default());
        if full.await.is_ok() {
            return Err("the database is not full".into());
        }
    }
    database.sql("DROP TRIGGER full_disk ON roomcast_schema");
    let again = async {
        while !store.is_healthy() {
            sleep(Duration::from_millis(10)).await; // Poll interval.
        }
    };
    let found = timeout(DEADLINE, again).await;
    found.map_err(|_| NOT_FOUND.into())
}
