//! The tables with data of users, and the statements that find and erase it.
//!
//! The statements are written for PostgreSQL; the module `sqlite` translates the few differences.
//! They refer to `$1` the user, `$2` the key after which and `$3` the key through which rows are
//! visited, `$4` the user's id as a JSON string, `$5` the size of a window, and `$6` the user's id
//! as a field of JSON.
//!
//! `docs/erasure.md` states the decision for each table, also for those without a section.

use uuid::Uuid;

/// A table, or a part of it, with data of users.
#[derive(Debug)]
pub(in crate::store) struct Section {
    /// What its rows are in an export.
    pub(super) kind: &'static str,
    /// The key before all others.
    pub(super) first: &'static str,
    /// Returns the last key of the window after `$2`.
    pub(super) window: &'static str,
    /// Returns key, columns and body of the user's rows in a window, ordered by key.
    pub(super) find: &'static str,
    /// Erase the user's rows in a window.
    pub(super) erase: &'static [&'static str],
    /// Whether only PostgreSQL has the table.
    pub(super) is_shared_only: bool,
}

impl Section {
    const fn new(kind: &'static str, first: &'static str, window: &'static str) -> Self {
        Self {
            kind,
            first,
            window,
            find: "",
            erase: &[],
            is_shared_only: false,
        }
    }

    /// Returns the key after which a visit begins: the given one, or that before all others.
    pub(super) fn start<'a>(&'a self, after: &'a str) -> &'a str {
        if after.is_empty() { self.first } else { after }
    }

    /// Returns whether a text has the form of the section's keys.
    pub(super) fn has_key(&self, key: &str) -> bool {
        let is_uuid = |text: &str| Uuid::try_parse(text).is_ok() && text.len() == NO_UUID.len();
        match self.first {
            NO_UUID => is_uuid(key),
            "0" => key.parse::<i64>().is_ok(),
            "" => !key.contains('\0'),
            NO_CHANNEL => key.rsplit_once('\n').is_some_and(|(journal, place)| {
                !journal.contains('\0')
                    && place.len() == PLACE_DIGITS
                    && place.bytes().all(|byte| byte.is_ascii_digit())
            }),
            _ => key.split_once('/').is_some_and(|(message, version)| {
                is_uuid(message) && version.bytes().all(|byte| byte.is_ascii_graphic())
            }),
        }
    }

    const fn find(mut self, find: &'static str) -> Self {
        self.find = find;
        self
    }

    const fn erase(mut self, erase: &'static [&'static str]) -> Self {
        self.erase = erase;
        self
    }

    const fn shared_only(mut self) -> Self {
        self.is_shared_only = true;
        self
    }
}

const NO_UUID: &str = "00000000-0000-0000-0000-000000000000";

/// The key before those of all events of channels.
const NO_CHANNEL: &str = "channel\n1000000000000000000";
/// The number of digits of a revision in the key of an event of a channel.
const PLACE_DIGITS: usize = 19;

/// A window of messages, whoever wrote them: no index finds the messages of a user.
const MESSAGES: &str = "SELECT id::text FROM (SELECT id FROM messages WHERE id > $2::uuid
    ORDER BY id LIMIT $5) w ORDER BY id DESC LIMIT 1";
const CONVERSATIONS: &str = "SELECT id::text FROM (SELECT id FROM conversations
    WHERE id > $2::uuid ORDER BY id LIMIT $5) w ORDER BY id DESC LIMIT 1";

/// A window of one journal of a user. Keys are revisions.
macro_rules! journal {
    ($kind:literal, $name:literal) => {
        Section::new(
            $kind,
            "0",
            concat!(
                "SELECT CAST(max(revision) AS text) FROM (SELECT revision FROM journal_entries
                 WHERE journal = ",
                $name,
                " || $1 AND revision > CAST($2 AS bigint)
                 ORDER BY revision LIMIT $5) w"
            ),
        )
        .find(concat!(
            "SELECT CAST(revision AS text), json_build_object('key', key, 'revision', revision,
                 'isCurrent', is_current, 'createdAt', created_at), body
             FROM journal_entries WHERE journal = ",
            $name,
            " || $1
                 AND revision > CAST($2 AS bigint) AND revision <= CAST($3 AS bigint)
             ORDER BY revision"
        ))
        .erase(&[
            concat!(
                "DELETE FROM journal_entries WHERE journal = ",
                $name,
                " || $1
                     AND revision > CAST($2 AS bigint) AND revision <= CAST($3 AS bigint)"
            ),
            concat!(
                "DELETE FROM journals WHERE name = ",
                $name,
                " || $1 AND NOT EXISTS (
                     SELECT 1 FROM journal_entries WHERE journal = ",
                $name,
                " || $1)"
            ),
        ])
    };
}

/// All sections, in the order of an erasure. What gives access comes first.
pub(super) const SECTIONS: &[Section] = &[
    Section::new(
        "session",
        "",
        "SELECT max(id_hash) FROM (SELECT id_hash FROM sessions
         WHERE user_id = $1 AND id_hash > $2 ORDER BY id_hash LIMIT $5) w",
    )
    .find(
        "SELECT id_hash, json_build_object('roles', roles, 'createdAt', created_at,
             'expiresAt', expires_at), data
         FROM sessions WHERE user_id = $1 AND id_hash > $2 AND id_hash <= $3 ORDER BY id_hash",
    )
    .erase(&["DELETE FROM sessions WHERE user_id = $1 AND id_hash > $2 AND id_hash <= $3"]),
    // It is removed before the memberships, whose users are notified.
    Section::new(
        "status",
        "",
        "SELECT max(user_id) FROM (SELECT user_id FROM user_statuses
         WHERE user_id = $1 AND user_id > $2 LIMIT $5) w",
    )
    .find(
        "SELECT user_id, json_build_object('status', status, 'text', text, 'timestamp', set_at,
             'expiresAt', expires_at), NULL
         FROM user_statuses WHERE user_id = $1 AND user_id > $2 AND user_id <= $3",
    )
    .erase(&["DELETE FROM user_statuses WHERE user_id = $1 AND user_id > $2 AND user_id <= $3"]),
    Section::new(
        "invitation",
        "",
        "SELECT max(token_hash) FROM (SELECT token_hash FROM invites WHERE token_hash > $2
         ORDER BY token_hash LIMIT $5) w",
    )
    .find(
        "SELECT token_hash, json_build_object('conversationId', conversation_id,
             'expiresAt', expires_at, 'usesLeft', uses_left), NULL
         FROM invites WHERE created_by = $1 AND token_hash > $2 AND token_hash <= $3
         ORDER BY token_hash",
    )
    .erase(&["DELETE FROM invites WHERE created_by = $1 AND token_hash > $2 AND token_hash <= $3"]),
    Section::new(
        "delivery",
        NO_UUID,
        "SELECT id::text FROM (SELECT id FROM webhook_deliveries WHERE id > $2::uuid
         ORDER BY id LIMIT $5) w ORDER BY id DESC LIMIT 1",
    )
    .find(
        "SELECT id::text, json_build_object('createdAt', created_at), body
         FROM webhook_deliveries
         WHERE id > $2::uuid AND id <= $3::uuid AND strpos(body, $4) > 0 ORDER BY id",
    ),
    Section::new(
        "publication",
        "0",
        "SELECT CAST(max(id) AS text) FROM (SELECT id FROM publications
         WHERE id > CAST($2 AS bigint) ORDER BY id LIMIT $5) w",
    )
    .find(
        "SELECT CAST(id AS text), json_build_object('event', event, 'publishedAt', published_at),
             payload::text
         FROM publications WHERE id > CAST($2 AS bigint) AND id <= CAST($3 AS bigint)
             AND target = 'user' AND name = $1 ORDER BY id",
    )
    // The rows stay, because positions have no gaps.
    .erase(&["UPDATE publications SET name = 'erased', payload = NULL, key = NULL,
             refused = coalesce(refused, 'the user was erased')
         WHERE id > CAST($2 AS bigint) AND id <= CAST($3 AS bigint)
             AND target = 'user' AND name = $1"])
    .shared_only(),
    Section::new("reaction", NO_UUID, MESSAGES)
        .find(
            "SELECT message_id::text, json_build_object('messageId', message_id, 'emoji', emoji),
                 NULL
             FROM message_reactions
             WHERE message_id > $2::uuid AND message_id <= $3::uuid AND user_id = $1
             ORDER BY message_id",
        )
        // The lanes have removed all others: these are in deleted conversations.
        .erase(&["DELETE FROM message_reactions
             WHERE message_id > $2::uuid AND message_id <= $3::uuid AND user_id = $1"]),
    Section::new("pin", NO_UUID, MESSAGES)
        .find(
            "SELECT message_id::text, json_build_object('messageId', message_id,
                 'conversationId', conversation_id, 'pinnedAt', pinned_at), NULL
             FROM pins WHERE message_id > $2::uuid AND message_id <= $3::uuid AND pinned_by = $1
             ORDER BY message_id",
        )
        .erase(&["UPDATE pins SET pinned_by = 'erased'
             WHERE message_id > $2::uuid AND message_id <= $3::uuid AND pinned_by = $1"]),
    Section::new("mention", NO_UUID, MESSAGES)
        .find(
            "SELECT id::text, json_build_object('messageId', id,
                 'conversationId', conversation_id), NULL
             FROM messages WHERE id > $2::uuid AND id <= $3::uuid AND user_id <> $1
                 AND strpos(mentions, $4) > 0 ORDER BY id",
        )
        .erase(&["UPDATE messages SET mentions = replace(mentions, $4, '\"erased\"')
             WHERE id > $2::uuid AND id <= $3::uuid AND strpos(mentions, $4) > 0"]),
    Section::new("message", NO_UUID, MESSAGES)
        .find(
            "SELECT id::text, json_build_object('id', id, 'conversationId', conversation_id,
                 'seq', seq, 'userName', user_name, 'content', coalesce((SELECT s.text
                 FROM message_streams s WHERE s.message_id = messages.id), content), 'type', type,
                 'clientMessageId', client_message_id, 'replyTo', reply_to, 'mentions', mentions,
                 'version', version, 'createdAt', created_at, 'editedAt', edited_at,
                 'deletedAt', deleted_at), metadata
             FROM messages WHERE id > $2::uuid AND id <= $3::uuid AND user_id = $1 ORDER BY id",
        )
        // The lanes have erased all others: these are in deleted conversations.
        .erase(&["DELETE FROM messages
             WHERE id > $2::uuid AND id <= $3::uuid AND user_id = $1
                 AND conversation_id IN (SELECT id FROM conversations WHERE deleted_at IS NOT NULL)"]),
    // A message has many versions, so keys have both: the message, and the version in ten digits.
    Section::new(
        "messageVersion",
        "00000000-0000-0000-0000-000000000000/",
        "SELECT id::text || '/~' FROM (SELECT id FROM messages WHERE id >= substr($2, 1, 36)::uuid
         ORDER BY id LIMIT $5) w ORDER BY id DESC LIMIT 1",
    )
    .find(
        "SELECT v.message_id::text || '/' || CAST(1000000000 + v.version AS text) AS place,
             json_build_object('messageId', v.message_id, 'version', v.version,
                 'content', v.content, 'replacedAt', v.replaced_at), v.metadata
         FROM message_versions v JOIN messages m ON m.id = v.message_id
         WHERE v.message_id >= substr($2, 1, 36)::uuid
             AND v.message_id <= substr($3, 1, 36)::uuid
             AND (v.message_id::text || '/' || CAST(1000000000 + v.version AS text))
                 COLLATE \"C\" > $2
             AND m.user_id = $1
         ORDER BY v.message_id, v.version",
    )
    // Messages without an author lost it in an erasure, perhaps in one that was interrupted.
    .erase(&[
        "DELETE FROM message_versions
         WHERE message_id >= substr($2, 1, 36)::uuid AND message_id <= substr($3, 1, 36)::uuid
             AND message_id IN (SELECT id FROM messages
                 WHERE id >= substr($2, 1, 36)::uuid AND id <= substr($3, 1, 36)::uuid
                     AND user_id IN ($1, 'erased'))",
        "UPDATE message_versions SET replaced_by = 'erased'
         WHERE message_id >= substr($2, 1, 36)::uuid AND message_id <= substr($3, 1, 36)::uuid
             AND replaced_by = $1",
    ]),
    Section::new(
        "membership",
        NO_UUID,
        "SELECT conversation_id::text FROM (SELECT conversation_id FROM members
         WHERE user_id = $1 AND conversation_id > $2::uuid
         ORDER BY conversation_id LIMIT $5) w ORDER BY conversation_id DESC LIMIT 1",
    )
    .find(
        "SELECT conversation_id::text, json_build_object('conversationId', conversation_id,
             'title', title, 'isOwner', owner_id = $1, 'joinedAt', joined_at), NULL
         FROM members JOIN conversations ON id = conversation_id
         WHERE user_id = $1 AND conversation_id > $2::uuid AND conversation_id <= $3::uuid
         ORDER BY conversation_id",
    ),
    Section::new("ownership", NO_UUID, CONVERSATIONS)
        .find(
            "SELECT id::text, json_build_object('conversationId', id, 'title', title,
                 'createdAt', created_at, 'deletedAt', deleted_at), NULL
             FROM conversations WHERE id > $2::uuid AND id <= $3::uuid
                 AND (owner_id = $1 OR deleted_by = $1) ORDER BY id",
        )
        .erase(&[
            "UPDATE conversations SET owner_id = NULL
             WHERE id > $2::uuid AND id <= $3::uuid AND owner_id = $1",
            "UPDATE conversations SET deleted_by = 'erased'
             WHERE id > $2::uuid AND id <= $3::uuid AND deleted_by = $1",
        ]),
    Section::new("readMark", NO_UUID, CONVERSATIONS)
        .find(
            "SELECT conversation_id::text, json_build_object('conversationId', conversation_id,
                 'seq', seq), NULL
             FROM reads WHERE user_id = $1 AND conversation_id IN (
                 SELECT id FROM conversations WHERE id > $2::uuid AND id <= $3::uuid)
             ORDER BY conversation_id",
        )
        .erase(&["DELETE FROM reads WHERE user_id = $1 AND conversation_id IN (
                 SELECT id FROM conversations WHERE id > $2::uuid AND id <= $3::uuid)"]),
    Section::new("notificationLevel", NO_UUID, CONVERSATIONS)
        .find(
            "SELECT conversation_id::text, json_build_object('conversationId', conversation_id,
                 'level', level), NULL
             FROM notification_levels WHERE user_id = $1 AND conversation_id IN (
                 SELECT id FROM conversations WHERE id > $2::uuid AND id <= $3::uuid)
             ORDER BY conversation_id",
        )
        .erase(&["DELETE FROM notification_levels
             WHERE user_id = $1 AND conversation_id IN (
                 SELECT id FROM conversations WHERE id > $2::uuid AND id <= $3::uuid)"]),
    journal!("notification", "'notifications:'"),
    journal!("portfolio", "'portfolio:'"),
    journal!("trade", "'trades:'"),
    Section::new(
        "order",
        "0",
        "SELECT CAST(max(revision) AS text) FROM (SELECT revision FROM journal_entries
         WHERE journal = 'executions' AND revision > CAST($2 AS bigint)
         ORDER BY revision LIMIT $5) w",
    )
    .find(
        "SELECT CAST(revision AS text), json_build_object('key', key, 'createdAt', created_at), body
         FROM journal_entries WHERE journal = 'executions' AND revision > CAST($2 AS bigint)
             AND revision <= CAST($3 AS bigint) AND strpos(body, $6) > 0 ORDER BY revision",
    )
    .erase(&["DELETE FROM journal_entries
         WHERE journal = 'executions' AND revision > CAST($2 AS bigint)
             AND revision <= CAST($3 AS bigint) AND strpos(body, $6) > 0"]),
    // A channel has many events, so keys have both: the journal, and the revision in 19 digits. The
    // line end between them precedes all characters of names. The keys of entries begin with the
    // publisher and a line end.
    Section::new(
        "channelEvent",
        NO_CHANNEL,
        "SELECT name || '\n9999999999999999999' FROM (SELECT name FROM journals
         WHERE name >= substr($2, 1, length($2) - 20) AND name < 'channel;'
         ORDER BY name LIMIT $5) w ORDER BY name DESC LIMIT 1",
    )
    .find(
        "SELECT journal || '\n' || CAST(1000000000000000000 + revision AS text),
             json_build_object('journal', journal, 'revision', revision,
                 'id', substr(key, length($1) + 2), 'createdAt', created_at), body
         FROM journal_entries
         WHERE journal >= substr($2, 1, length($2) - 20)
             AND journal <= substr($3, 1, length($3) - 20)
             AND is_current AND key > $1 || '\n' AND key < $1 || '\u{b}'
             AND (journal || '\n' || CAST(1000000000000000000 + revision AS text))
                 COLLATE \"C\" > $2
         ORDER BY journal, revision",
    )
    .erase(&["DELETE FROM journal_entries
         WHERE journal >= substr($2, 1, length($2) - 20)
             AND journal <= substr($3, 1, length($3) - 20)
             AND is_current AND key > $1 || '\n' AND key < $1 || '\u{b}'
             AND (journal || '\n' || CAST(1000000000000000000 + revision AS text))
                 COLLATE \"C\" > $2
             AND (journal || '\n' || CAST(1000000000000000000 + revision AS text))
                 COLLATE \"C\" <= $3"]),
    Section::new(
        "response",
        "",
        "SELECT max(key) FROM (SELECT key FROM api_keys WHERE key > $2 ORDER BY key LIMIT $5) w",
    )
    .find(
        "SELECT key, json_build_object('status', status, 'expiresAt', expires_at), body
         FROM api_keys WHERE key > $2 AND key <= $3 AND strpos(body, $4) > 0 ORDER BY key",
    )
    // The key stays, so that a repeated request is not executed again.
    .erase(&["UPDATE api_keys SET body = NULL
         WHERE key > $2 AND key <= $3 AND strpos(body, $4) > 0"]),
    // An administrative record: it keeps tokens of the user from being accepted.
    Section::new(
        "revocation",
        "",
        "SELECT max(value) FROM (SELECT value FROM revocations
         WHERE kind = 'user' AND value = $1 AND value > $2 LIMIT $5) w",
    )
    .find(
        "SELECT value, json_build_object('createdAt', created_at, 'until', until), NULL
         FROM revocations WHERE kind = 'user' AND value = $1 AND value > $2 AND value <= $3",
    ),
];
