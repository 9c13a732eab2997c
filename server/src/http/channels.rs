//! Routes of channels: publishing events and reading them, below `/api/v1/channels`.

use axum::{
    Extension,
    extract::{Path, State},
    http::Method,
    response::Response,
};

use super::api::{Api, ApiError, By, JsonBody, Operation, Parameters, Routes};
use super::forwarding::forward;
use super::trace::streamed;
use crate::auth::Permission;
use crate::service::api::{
    ChannelList, ListChannels, LiveLine, WatchChannel, WatchQuery, list_channels, watch_channel,
};
use crate::service::bounds::{ChannelName, ClientId, UserId};
use crate::service::channel_events::{
    ChannelEvents, ChannelPageRequest, ChannelPresence, DeleteChannel, DeleteChannelEvent,
    EndedSubscriptions, EventPublisher, NewChannelEvents, NewChannelRevocation,
    NewChannelSubscriber, PublishAsService, PublishToChannels, Published, PublishedAsService,
    PublishedEvents, ReadAsService, ReadPresence, RevokeChannel, SubscribeUser, UnsubscribeUser,
    UserSubscriptions,
};
use crate::service::{
    delete_channel, delete_event, read_presence, revoke_channel, subscribe_user, unsubscribe_user,
};

/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    Routes::new()
        .on(
            Method::GET,
            "/channels",
            forward!(Parameters(query): Parameters<ListChannels> => list_channels(io, query)),
            Operation::new(
                "listChannels",
                "Lists the channels of all servers that have followers, or events in the last minute.",
                Permission::ChannelsRead,
            )
            .query::<ListChannels>()
            .answer::<ChannelList>(200),
        )
        .on(
            Method::GET,
            "/channels/{channel}/live",
            watch,
            Operation::new(
                "watchChannel",
                "Streams the events of a channel as they are published at any server, one JSON object per line (`application/x-ndjson`). Empty lines show that the stream is alive.",
                Permission::ChannelsRead,
            )
            .recorded()
            .segment::<ChannelName>("channel", "The name of the channel.")
            .query::<WatchQuery>()
            .answer::<LiveLine>(200)
            .refuses(404),
        )
        .on(
            Method::POST,
            "/channels/{channel}/events",
            forward!(Path(channel): Path<String>, JsonBody(new): JsonBody<NewChannelEvents> =>
                channels.publish_as_service(PublishAsService { channel, new }, namespace)),
            Operation::new(
                "publishToChannel",
                "Publishes one event to a channel, or several in their order.",
                Permission::ChannelsPublish,
            )
            .publishes()
            .segment::<ChannelName>("channel", "The name of the channel.")
            .body::<NewChannelEvents>()
            .body_bytes(EVENTS_BYTES)
            .answer::<PublishedAsService>(200)
            .refuses(404),
        )
        .on(
            Method::POST,
            "/channels/events",
            forward!(JsonBody(new): JsonBody<PublishToChannels> =>
                channels.publish_to_channels(new, namespace)),
            Operation::new(
                "publishToChannels",
                "Publishes events to several channels.",
                Permission::ChannelsPublish,
            )
            .publishes()
            .body::<PublishToChannels>()
            .body_bytes(EVENTS_BYTES)
            .answer::<PublishedEvents>(200)
            .refuses(409),
        )
        .on(
            Method::DELETE,
            "/channels/{channel}",
            forward!(Path(channel): Path<String> =>
                delete_channel(io, DeleteChannel { channel })),
            Operation::new(
                "deleteChannel",
                "Deletes the events of a channel, and ends all subscriptions to it.",
                Permission::ChannelsPublish,
            )
            .segment::<ChannelName>("channel", "The name of the channel.")
            .answer::<Published>(200)
            .refuses(404),
        )
        .on(
            Method::DELETE,
            "/channels/{channel}/events/{id}",
            forward!(Path((channel, id)): Path<(String, String)>,
                Parameters(publisher): Parameters<EventPublisher> =>
                delete_event(io, DeleteChannelEvent { channel, id, user: publisher.user_id })),
            Operation::new(
                "deleteChannelEvent",
                "Deletes an event of a channel. Its id stays taken.",
                Permission::ChannelsPublish,
            )
            .segment::<ChannelName>("channel", "The name of the channel.")
            .segment::<ClientId>("id", "The id that the publisher chose.")
            .query::<EventPublisher>()
            .answer::<Published>(200)
            .refuses(404),
        )
        .on(
            Method::POST,
            "/channels/{channel}/revoke",
            forward!(Path(channel): Path<String>, JsonBody(new): JsonBody<NewChannelRevocation> =>
                revoke_channel(io, RevokeChannel { channel, new })),
            Operation::new(
                "revokeChannel",
                "Lets the backend decide again who may follow a channel.",
                Permission::ChannelsPublish,
            )
            .segment::<ChannelName>("channel", "The name of the channel.")
            .body::<NewChannelRevocation>()
            .answer::<EndedSubscriptions>(200)
            .refuses(404),
        )
        .on(
            Method::POST,
            "/channels/{channel}/subscribers",
            forward!(Path(channel): Path<String>, JsonBody(new): JsonBody<NewChannelSubscriber> =>
                subscribe_user(io, SubscribeUser { channel, new })),
            Operation::new(
                "subscribeUser",
                "Lets the connected sockets of a user follow a channel.",
                Permission::ChannelsPublish,
            )
            .segment::<ChannelName>("channel", "The name of the channel.")
            .body::<NewChannelSubscriber>()
            .answer::<UserSubscriptions>(200)
            .refuses(404)
            .refuses(409),
        )
        .on(
            Method::DELETE,
            "/channels/{channel}/subscribers/{id}",
            forward!(Path((channel, user)): Path<(String, String)> =>
                unsubscribe_user(io, UnsubscribeUser { channel, user })),
            Operation::new(
                "unsubscribeUser",
                "Ends the subscriptions of all sockets of a user to a channel.",
                Permission::ChannelsPublish,
            )
            .segment::<ChannelName>("channel", "The name of the channel.")
            .segment::<UserId>("id", "The id of the user.")
            .answer::<EndedSubscriptions>(200)
            .refuses(404),
        )
        .on(
            Method::GET,
            "/channels/{channel}/presence",
            forward!(Path(channel): Path<String> => read_presence(io, ReadPresence { channel })),
            Operation::new(
                "readChannelPresence",
                "Reads the users who follow a channel.",
                Permission::ChannelsRead,
            )
            .segment::<ChannelName>("channel", "The name of the channel.")
            .answer::<ChannelPresence>(200)
            .refuses(404)
            .refuses(409),
        )
        .on(
            Method::GET,
            "/channels/{channel}/history",
            forward!(Path(channel): Path<String>, Parameters(page): Parameters<ChannelPageRequest> =>
                channels.history_for_service(ReadAsService { channel, page })),
            Operation::new(
                "readChannel",
                "Reads the events of a channel, the oldest first.",
                Permission::ChannelsRead,
            )
            .segment::<ChannelName>("channel", "The name of the channel.")
            .query::<ChannelPageRequest>()
            .answer::<ChannelEvents>(200)
            .refuses(404)
            .refuses(409),
        )
}

async fn watch(
    State(at): State<Api>,
    Extension(by): By,
    Path(channel): Path<String>,
    Parameters(query): Parameters<WatchQuery>,
) -> Result<Response, ApiError> {
    let allowed = at.access.allow(by, WatchChannel { channel, query })?;
    let watched = watch_channel(at.io(), &at.access, allowed)?;
    Ok(streamed(watched))
}

/// Maximum bytes of a request that publishes: the largest data that a kind of channels allows, and
/// what surrounds it. A list of events is not larger, so that it usually fits into the queue of a
/// client.
const EVENTS_BYTES: usize = 264 << 10;
