//! The fixed permissions, and sets of them.

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// A permission that a role can grant.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Permission {
            $($(#[$doc])* $name,)+
        }

        impl Permission {
            /// All permissions.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns the name of the permission in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

permissions! {
    /// Join, leave and read conversations, and see who is present.
    ChatRead = "chat:read",
    /// Send messages.
    ChatSend = "chat:send",
    /// Send messages of type `ai`.
    ChatSendAi = "chat:send_ai",
    /// Create conversations and change their members.
    ChatManage = "chat:manage",
    /// Change messages and conversations of other users.
    ChatModerate = "chat:moderate",
    /// Show a typing indicator.
    ChatType = "chat:type",
    /// Create and end logins over HTTP.
    ApiLogins = "api:sessions",
    /// Revoke tokens, logins, users and roles over HTTP.
    ApiRevocations = "api:revocations",
    /// Block networks over HTTP.
    ApiBlocks = "api:blocks",
    /// Read the metrics from another machine.
    ApiMetrics = "api:metrics",
    /// Request over HTTP why a user may or may not send an event.
    ApiExplain = "api:explain",
    /// Read and set the log level of a server over HTTP.
    ApiLogLevel = "api:log-level",
    /// Read over HTTP where users are present, and read and set their statuses.
    ApiPresence = "api:presence",
    /// Read conversations of any user over HTTP, and create and change them on behalf of users.
    ApiConversations = "api:conversations",
    /// Read messages of any user over HTTP, and send, edit and delete them on behalf of users.
    ApiMessages = "api:messages",
    /// Publish events over HTTP.
    ApiEmit = "api:emit",
    /// List and disconnect sockets over HTTP.
    ApiSockets = "api:sockets",
    /// List rooms and their sockets over HTTP.
    ApiRooms = "api:rooms",
    /// Export and erase the data of users over HTTP.
    ApiUsers = "api:users",
    /// Follow over HTTP what happens to a user, a socket or a conversation, without texts.
    ApiTrace = "api:trace",
    /// Follow it with texts and addresses.
    TraceUnmasked = "trace:unmasked",
    /// Read the audit log.
    AuditRead = "audit:read",
    /// Create logins over HTTP with more permissions than the caller has.
    RolesGrant = "roles:grant",
    /// Enter the admin namespace.
    Admin = "admin",
    /// Execute trades.
    TradesExecute = "trades:execute",
    /// Publish trades of users.
    TradesPublish = "trades:publish",
    /// Read trades of any user over HTTP.
    TradesRead = "trades:read",
    /// Publish signals.
    SignalsPublish = "signals:publish",
    /// Read signals over HTTP.
    SignalsRead = "signals:read",
    /// Publish portfolios of users.
    PortfolioPublish = "portfolio:publish",
    /// Read portfolios of any user over HTTP.
    PortfolioRead = "portfolio:read",
    /// Publish prices, at which paper trades are executed.
    PricesPublish = "prices:publish",
    /// Send notifications to users.
    NotificationsPublish = "notifications:publish",
    /// Read notifications of any user over HTTP.
    NotificationsRead = "notifications:read",
    /// Publish events to channels.
    ChannelsPublish = "channels:publish",
    /// Read events of channels over HTTP.
    ChannelsRead = "channels:read",
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u64);

impl Permissions {
    /// Returns whether the set contains a permission.
    #[must_use]
    pub fn has(self, permission: Permission) -> bool {
        self.0 & Self::of(permission).0 != 0
    }

    pub(super) const fn of(permission: Permission) -> Self {
        Self(1 << permission as u32)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether all permissions of this set are in the other set.
    pub(super) fn are_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}
