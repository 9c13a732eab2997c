//! The HTTP functions of backend services beyond those of users.
//!
//! Services publish events, inspect sockets and rooms, and execute commands on behalf of users.
//! This module must not know how a request is parsed. Changes to the chat are made by the chat.

mod admin;
mod alerts;
mod emit;
mod health;
mod http_commands;
mod keys;
mod nodes;
mod publications;
mod rooms;
mod sockets;
mod statistics;
mod trace;
mod users;

pub(crate) use admin::{Admin, NAMESPACE as ADMIN, RoomChange, UiAct, UiDisconnect, UiSocket};
pub(crate) use alerts::{AlertLog, AlertPage, ListAlerts, list_alerts};
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) use emit::prepare;
pub(crate) use emit::{Emission, Emit, followed, publish};
pub(crate) use health::word;
pub use health::{Losses, Readiness};
pub(crate) use http_commands::OnBehalfOf;
pub(crate) use keys::{BeginOutcome, HeldKey, RequestKeys, hash as hash_of};
pub(crate) use nodes::channels::{
    ChannelList, ListChannels, LiveLine, WatchChannel, WatchQuery, list_channels, watch_channel,
};
pub(crate) use nodes::cluster::{ClusterStatistics, ReadClusterStatistics, cluster_statistics};
pub(crate) use nodes::diagnosis::{
    ClusterDiagnosis, FindClients, FoundClients, ReadDiagnosis, diagnose, find_clients,
};
pub(crate) use nodes::log_level::{LogFilter, LogLevel, ReadLogLevel, SetLogLevel};
pub(crate) use nodes::requests::answer_peers;
pub(crate) use publications::Publications;
pub(crate) use rooms::{
    DescribeRoom, ListRooms, RoomList, RoomStatistics, describe_room, list_rooms,
};
pub(crate) use sockets::{
    DescribeSocket, Direction, Disconnect, Disconnected, ListSockets, MoveSocket, MovedSocket,
    SocketInfo, SocketList, describe_socket, disconnect, list_sockets, move_socket,
};
pub(crate) use statistics::gauge;
pub(crate) use trace::{Follow, Followed, StreamedLine, follow, trace_for_peers};
pub(crate) use users::{
    EraseQuery, EraseUser, Erasure, ExportQuery, ExportUser, FindUser, UserExport, UserPresence,
    erase_user, export_user, find_user,
};
