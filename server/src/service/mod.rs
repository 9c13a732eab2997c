//! The rules of the product: permissions, what is stored, and which events are emitted.
//!
//! A service is a concrete struct that the gateways, the HTTP API and commands share. It takes
//! [`Allowed`] commands, which only the permission check creates. It sees a
//! [`Principal`](crate::auth::Principal), never a token. It returns a value or a [`ServiceError`],
//! which the gateway renders for the client. This module must not know how an event is parsed or
//! how a row is written.
//!
//! Imports go one way:
//! * `cluster`, `fault`, `feed` and `rules` ← `hooks` ← `journals`
//! * `cluster`, `fault`, `feed` and `rules` ← `authorization`
//! * `authorization` ← `audit` ← `api`
//! * `journals` and `authorization` ← `channels` and `notifications` ← `market`
//! * `feed` and `notifications` ← `chat` ← `api`, and `channels` ← `api`

pub(crate) mod api;
pub(crate) mod audit;
mod authorization;
mod channels;
mod chat;
pub(crate) mod cluster;
mod fault;
mod feed;
mod hooks;
mod journals;
mod market;
mod notifications;
mod rules;

pub(crate) use crate::store::{
    DeletedConversation, List, Message, MessageKind, Messages, Pinned, ReactionChange,
    StoredResponse, Unpinned,
};
pub(crate) use authorization::{
    Access, Allowed, BlockPage, Blocks, EndLogin, ExplainQuery, Explanation, ListBlocks, ListNodes,
    MadeLogin, MadeRevocation, NewBlock, NewLogin, NewRevocation, RemoveBlock, RevocationApplier,
};
pub(crate) use channels::{
    Asker, ChannelEnds, Channels, KindFault, Kinds, answer_channel_peers, delete_channel,
    delete_event, read_presence, revoke_channel, schemas_of, subscribe_user, undeclared_roles,
    unsubscribe_user,
};
pub(crate) use chat::{
    Chat, ConversationList, ConversationNews, FindConversations, FoundConversation, FoundStatus,
    HandoverData, HandoverError, Leases, Pins, ReadConversation, ReadMessages, ReadPins,
    ReadStatus, RequestWriter, Retention, StatusNews, WhoIsIn, WriteEnd, Written,
};
pub(crate) use fault::ServiceError;
pub(crate) use feed::follower::Follower;
pub(crate) use feed::{Applier, ChangeFeed, FeedProgress};
pub(crate) use hooks::{Hooks, Source as HookSource};
pub(crate) use journals::{JournalNews, Journals};
pub(crate) use market::{
    Market, PriceApplier, PublishedPrices, Refused, SignalAccess, Subscriptions, TradeReply,
};
pub(crate) use notifications::Notifications;
pub(crate) use rules::admin::commands as admin;
pub(crate) use rules::commands::form::{whole_in_query, whole_or_none, word};
pub(crate) use rules::commands::{
    attendance, channels as channel_events, conversations, corrections, history, identity, invites,
    members, messages, notifications as notification_events, pages, portfolio, prices, signals,
    streams, trades, withdrawals,
};
pub(crate) use rules::event::{Argument, Command, Event, EventPolicy, Payload, TargetKind};
pub(crate) use rules::policy;
pub(crate) use rules::versions::Overlap;
#[cfg(test)]
pub(crate) use rules::versions::sample;
pub(crate) use rules::{bounds, documents, emissions};
