//! The methods that [`Io`](crate::Io) and [`Namespace`](crate::Namespace) share. Both select all
//! sockets of a namespace.

/// Generates the methods for a type that has `all(&self) -> Broadcast`. `$who` completes the
/// documentation phrase "all sockets in …".
macro_rules! targets {
    ($who:literal) => {
        #[doc = concat!("Selects the members of rooms of ", $who, ".")]
        pub fn to<'a, M>(
            &self,
            rooms: impl crate::socket::types::IntoRooms<'a, M>,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().to(rooms)
        }

        #[doc = concat!("Selects the members of rooms of ", $who, ", like [`to`](Self::to).")]
        pub fn in_<'a, M>(
            &self,
            rooms: impl crate::socket::types::IntoRooms<'a, M>,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().to(rooms)
        }

        #[doc = concat!("Selects all sockets in ", $who, " except the members of rooms.")]
        pub fn except<'a, M>(
            &self,
            rooms: impl crate::socket::types::IntoRooms<'a, M>,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().except(rooms)
        }

        #[doc = concat!("Selects all sockets in ", $who, ", for an event that may be lost;")]
        /// see [`Broadcast::volatile`](crate::Broadcast::volatile).
        pub fn volatile<'a>(&self) -> crate::socket::api::Broadcast<'a> {
            self.all().volatile()
        }

        #[doc = concat!("Selects all sockets in ", $who, ", for an event that newer ones replace;")]
        /// see [`Broadcast::conflate`](crate::Broadcast::conflate).
        pub fn conflate<'a>(&self, key: &str) -> crate::socket::api::Broadcast<'a> {
            self.all().conflate(key)
        }

        #[doc = concat!("Selects all sockets in ", $who, ", for an event that newer ones replace, once per interval;")]
        /// see [`Broadcast::conflate_every`](crate::Broadcast::conflate_every).
        pub fn conflate_every<'a>(
            &self,
            key: &str,
            interval: std::time::Duration,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().conflate_every(key, interval)
        }

        #[doc = concat!("Selects all sockets in ", $who, ", for an event of which the last few are enough;")]
        /// see [`Broadcast::drop_oldest`](crate::Broadcast::drop_oldest).
        pub fn drop_oldest<'a>(
            &self,
            stream: &str,
            keep: u16,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().drop_oldest(stream, keep)
        }

        #[doc = concat!("Selects all sockets in ", $who, " on this server;")]
        /// see [`Broadcast::local`](crate::Broadcast::local).
        pub fn local<'a>(&self) -> crate::socket::api::Broadcast<'a> {
            self.all().local()
        }

        #[doc = concat!("Selects all sockets in ", $who, ", which receive the event uncompressed;")]
        /// see [`Broadcast::without_compression`](crate::Broadcast::without_compression).
        pub fn without_compression<'a>(&self) -> crate::socket::api::Broadcast<'a> {
            self.all().without_compression()
        }

        #[doc = concat!("Selects all sockets in ", $who, ", which must acknowledge within this time;")]
        /// see [`Broadcast::timeout`](crate::Broadcast::timeout).
        pub fn timeout<'a>(
            &self,
            timeout: std::time::Duration,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().timeout(timeout)
        }

        #[doc = concat!("Sends an event to all sockets in ", $who, ";")]
        /// see [`Broadcast::emit`](crate::Broadcast::emit).
        pub fn emit(
            &self,
            event: &str,
            args: impl roomcast_protocol::socket::Arguments,
        ) -> crate::socket::sending::Emitted {
            self.all().emit(event, args)
        }

        #[doc = concat!("Sends a typed event to all sockets in ", $who, ";")]
        /// see [`Contract`](crate::Contract).
        pub fn send(
            &self,
            event: impl crate::socket::types::Contract,
        ) -> crate::socket::sending::Emitted {
            self.all().send(event)
        }

        #[doc = concat!("Requests acknowledgements from all sockets in ", $who, ";")]
        /// see [`Broadcast::emit_with_acks`](crate::Broadcast::emit_with_acks).
        pub fn emit_with_acks<R: roomcast_protocol::socket::Argument>(
            &self,
            event: &str,
            args: impl roomcast_protocol::socket::Arguments,
        ) -> crate::socket::sending::Acks<R> {
            self.all().emit_with_acks(event, args)
        }

        #[doc = concat!("Returns all sockets in ", $who, " on this server.")]
        #[must_use]
        pub fn sockets(&self) -> Vec<crate::socket::core::Socket> {
            self.all().sockets()
        }

        #[doc = concat!("Returns descriptions of all sockets in ", $who, ", on all servers of the cluster;")]
        /// see [`Broadcast::fetch_sockets`](crate::Broadcast::fetch_sockets).
        pub async fn fetch_sockets(&self) -> crate::socket::api::Fetched {
            self.all().fetch_sockets().await
        }

        #[doc = concat!("Adds all sockets in ", $who, " to rooms;")]
        /// see [`Broadcast::join`](crate::Broadcast::join).
        pub fn join<'r, M>(&self, rooms: impl crate::socket::types::IntoRooms<'r, M>) {
            self.all().join(rooms);
        }

        #[doc = concat!("Removes all sockets in ", $who, " from rooms.")]
        pub fn leave<'r, M>(&self, rooms: impl crate::socket::types::IntoRooms<'r, M>) {
            self.all().leave(rooms);
        }

        #[doc = concat!("Disconnects all sockets in ", $who, ";")]
        /// see [`Broadcast::disconnect`](crate::Broadcast::disconnect).
        pub fn disconnect(&self) {
            self.all().disconnect();
        }

        #[doc = concat!("Closes the connections of all sockets in ", $who, ";")]
        /// see [`Broadcast::close_connections`](crate::Broadcast::close_connections).
        pub fn close_connections(&self) {
            self.all().close_connections();
        }

        #[doc = concat!("Returns the number of sockets in ", $who, " on this server.")]
        #[must_use]
        pub fn count(&self) -> usize {
            self.all().count()
        }
    };
}

pub(in crate::socket::api) use targets;
