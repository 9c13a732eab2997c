//! The scenario `chat`: conversations for its clients before a run, and afterwards whether what was
//! acknowledged is stored once, in order and without a gap.
//!
//! These events are those of our own chat; nothing else in this module knows them.

use std::time::Duration;

use roomcast_protocol::socket::{Args, Kind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    ledger::{Arrival, Track},
    plan::Plan,
    preflight,
    shard::Total,
    stamp::{Found, Stamps, position},
    vocabulary::{self, Blanks, Call, Spoken},
};
use crate::client::Connection;

/// What was found in the store of the chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    /// Messages of this run that are stored.
    pub(super) found: u64,
    /// Acknowledged and not stored.
    pub(super) missing: u64,
    /// Stored again.
    pub(super) doubled: u64,
    /// Stored after one that the same client sent later.
    pub(super) out_of_order: u64,
    /// Stored although the server said that they were refused.
    pub(super) refused: u64,
    /// Numbers of a conversation that no message has.
    pub(super) gaps: u64,
}

impl Stored {
    /// How much is wrong.
    pub(super) fn faults(&self) -> u64 {
        self.missing + self.doubled + self.out_of_order + self.refused + self.gaps
    }
}

/// Makes a conversation for each room, of all clients that belong to it: their ids.
///
/// # Errors
/// Why the server has not made one.
pub(super) async fn prepare(plan: &Plan) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Made {
        conversation: Conversation,
    }
    #[derive(Deserialize)]
    struct Conversation {
        id: String,
    }
    let mut ids = Vec::new();
    for room in 0..plan.rooms {
        let mut owner = enter(plan, room).await?;
        let mut members: Vec<_> = (room..plan.clients)
            .step_by(plan.rooms)
            .map(Plan::subject)
            .collect();
        let later = members.split_off(members.len().min(MEMBERS));
        let new = json!({"title": "roomcast bench", "memberIds": members});
        let made: Made = ask(plan, &mut owner, "create_conversation", new).await?;
        let id = made.conversation.id;
        for user in later {
            let member = json!({"conversationId": id, "userId": user});
            let _: Value = ask(plan, &mut owner, "add_member", member).await?;
        }
        ids.push(id);
        let _ = owner.close().await;
    }
    Ok(ids)
}

/// Reads every conversation of the run, and compares it with what was sent.
///
/// # Errors
/// Why it could not be read.
pub(super) async fn verify(
    plan: &Plan,
    stamps: &Stamps,
    totals: &[Total],
) -> Result<Stored, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Page {
        messages: Vec<Row>,
        has_more: bool,
    }
    let mut stored = Stored::default();
    for room in 0..plan.rooms {
        let mut reader = enter(plan, room).await?;
        let mut book = Book::new(room, plan.rooms, totals);
        loop {
            let from = json!({
                "conversationId": plan.vocabulary.room(room),
                "afterSeq": book.last_seq,
                "limit": PAGE,
            });
            let page: Page = ask(plan, &mut reader, "message_history", from).await?;
            let is_last = !page.has_more || page.messages.is_empty();
            for row in page.messages {
                book.enter(&row, stamps, &mut stored);
            }
            if is_last {
                break;
            }
        }
        book.close(&mut stored);
        let _ = reader.close().await;
    }
    Ok(stored)
}

/// A stored message.
#[derive(Deserialize)]
struct Row {
    seq: u64,
    content: String,
}

/// What one conversation should have, and has.
struct Book<'a> {
    last_seq: u64,
    room: usize,
    rooms: usize,
    /// What the senders of the whole run have sent.
    totals: &'a [Total],
    /// What was found of each sender of this conversation.
    tracks: Vec<Track>,
}

impl<'a> Book<'a> {
    fn new(room: usize, rooms: usize, totals: &'a [Total]) -> Self {
        let senders = totals.iter().skip(room).step_by(rooms).count();
        Self {
            last_seq: 0,
            room,
            rooms,
            totals,
            tracks: vec![Track::default(); senders],
        }
    }

    /// A row, in the order of `seq`.
    fn enter(&mut self, row: &Row, stamps: &Stamps, stored: &mut Stored) {
        stored.gaps += row.seq.saturating_sub(self.last_seq + 1);
        self.last_seq = row.seq;
        let Found::Intact(stamp) = stamps.look(&row.content) else {
            return; // The one that was tried before the run; a corrupt one is missing.
        };
        let is_of_room = stamp.sender % self.rooms == self.room;
        let track = self.tracks.get_mut(stamp.sender / self.rooms);
        let Some((track, total)) = track
            .zip(self.totals.get(stamp.sender))
            .filter(|_| is_of_room)
        else {
            stored.doubled += 1;
            return;
        };
        match track.take(stamp.number) {
            Arrival::InOrder => stored.found += 1,
            Arrival::Late => {
                stored.found += 1;
                stored.out_of_order += 1;
            }
            Arrival::Duplicate => stored.doubled += 1,
        }
        if total.excused.binary_search(&stamp.number).is_ok() {
            stored.refused += 1;
        }
    }

    /// All rows have been entered.
    fn close(self, stored: &mut Stored) {
        let senders = self.totals.iter().skip(self.room).step_by(self.rooms);
        for (track, total) in self.tracks.iter().zip(senders) {
            // Of what nobody has answered, nobody can say.
            let mut unsure = [&total.excused[..], &total.unanswered].concat();
            unsure.sort_unstable();
            stored.missing += track.holes(&unsure) + track.tail(total.sent, &unsure);
        }
    }
}

/// The `seq` of the message in an event, if there is one.
pub(super) fn seq(args: &Args) -> Option<u64> {
    let json = args.raw(0)?;
    let behind = position(json, NAME)? + NAME.len();
    let digits = json.get(behind..)?.iter();
    let digits = digits.take_while(|byte| byte.is_ascii_digit()).take(19);
    digits.fold(None, |value: Option<u64>, digit| {
        Some(value.unwrap_or(0) * 10 + u64::from(digit - b'0'))
    })
}

const NAME: &[u8] = b"\"seq\":";

async fn enter(plan: &Plan, client: usize) -> Result<Connection, String> {
    let opened = Connection::open(&preflight::options(plan, client)).await;
    opened.map_err(|error| error.to_string())
}

/// One question. If the server wants it to be asked later, that is done.
async fn ask<T: DeserializeOwned>(
    plan: &Plan,
    connection: &mut Connection,
    event: &str,
    question: Value,
) -> Result<T, String> {
    let call = Call {
        event: event.into(),
        args: vec![question],
        ack: true,
    };
    let spoken = Spoken {
        call: &call,
        blanks: Blanks::default(),
    };
    let failed = |why: String| format!("{event}: {why}");
    for _ in 0..TRIES {
        let id = connection.request(event, &spoken);
        let id = id.map_err(|error| failed(error.to_string()))?;
        let answered = timeout(plan.client.connect_timeout, answer(connection, id));
        let args = answered
            .await
            .map_err(|_| failed("the server does not answer".into()))?
            .map_err(failed)?;
        match vocabulary::refusal(&args) {
            None => return args.get(0).map_err(|error| failed(error.to_string())),
            Some(reason) if reason == "RATE_LIMITED" => sleep(PAUSE).await,
            Some(reason) => return Err(failed(format!("the server says {reason}"))),
        }
    }
    Err(failed("the server limits how often it may be asked".into()))
}

async fn answer(connection: &mut Connection, id: u64) -> Result<Args, String> {
    loop {
        let packet = connection.next().await.map_err(|error| error.to_string())?;
        if packet.kind == Kind::Ack && packet.id == Some(id) {
            return Ok(packet.args);
        }
    }
}

/// Members that a conversation may have from the start.
const MEMBERS: usize = 1000;
/// Messages of a page of history, at most.
const PAGE: u64 = 200;
/// How often a question is asked again, and after which pause.
const TRIES: usize = 120;
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use roomcast_protocol::socket::{Decoder, Limits};

    use super::*;
    use crate::bench::stamp::Stamp;

    fn total(sent: u64, excused: &[u64], unanswered: &[u64]) -> Total {
        Total {
            sent,
            excused: excused.to_vec(),
            unanswered: unanswered.to_vec(),
            ended: false,
        }
    }

    /// The `seq` of a message, its sender, and its number.
    type Place = (u64, usize, u64);

    /// What is found in a conversation that has these messages, of senders 0 and 2 of three.
    fn found(totals: &[Total], rows: &[Place]) -> Stored {
        let stamps = Stamps::new(7, 40);
        let mut stored = Stored::default();
        let mut book = Book::new(0, 2, totals);
        for &(seq, sender, number) in rows {
            let content = stamps.write(Stamp { sender, number });
            book.enter(&Row { seq, content }, &stamps, &mut stored);
        }
        book.close(&mut stored);
        stored
    }

    #[test]
    fn what_was_acknowledged_is_there_once_and_in_order() {
        let totals = [total(2, &[], &[]), total(9, &[], &[]), total(3, &[1], &[2])];
        let stored = found(&totals, &[(1, 0, 0), (2, 2, 0), (3, 0, 1)]);
        assert_eq!((stored.found, stored.faults()), (3, 0));
        let stored = found(&totals, &[(1, 0, 0), (2, 2, 0), (3, 2, 2), (4, 0, 1)]);
        assert_eq!((stored.found, stored.faults()), (4, 0), "it may be there");
    }

    #[test]
    fn everything_else_is_a_fault() {
        let totals = [total(3, &[], &[]), total(0, &[], &[]), total(2, &[1], &[])];
        let all = [(1, 0, 0), (2, 0, 1), (3, 0, 2), (4, 2, 0)];
        let with = |change: fn(&mut Vec<Place>)| {
            let mut rows = all.to_vec();
            change(&mut rows);
            found(&totals, &rows)
        };
        assert_eq!(with(|_| ()).faults(), 0);
        assert_eq!(with(|rows| rows.truncate(3)).missing, 1);
        assert_eq!(with(|rows| rows.push((5, 0, 2))).doubled, 1);
        assert_eq!(with(|rows| rows.push((5, 2, 1))).refused, 1);
        assert_eq!(with(|rows| rows[3].0 = 6).gaps, 2);
        assert_eq!(
            with(|rows| rows.push((5, 1, 0))).doubled,
            1,
            "of another one"
        );
        let swapped = with(|rows| (rows[0].2, rows[1].2) = (1, 0));
        assert_eq!((swapped.out_of_order, swapped.missing), (1, 0));
    }

    #[test]
    fn the_number_of_a_message_is_found_in_its_event() {
        let args = |json: &str| {
            let text = Bytes::from(format!("2[\"message\",{json}]"));
            let packet = Decoder::new(Limits::default()).text(text).unwrap();
            packet.unwrap().args
        };
        assert_eq!(seq(&args(r#"{"id":"x","seq":120,"a":1}"#)), Some(120));
        for none in [r#"{"seq":"x"}"#, "{}", "1"] {
            assert_eq!(seq(&args(none)), None, "{none}");
        }
    }
}
