//! The methods that [`Io`](crate::Io) and [`Namespace`](crate::Namespace) share. Both select all
//! sockets of a namespace.

/// Generates the methods for a type that has `all(&self) -> Broadcast`. `$who` completes the
/// documentation phrase "everybody …".
macro_rules! targets {
    ($who:literal) => {
        #[doc = concat!("The members of rooms of ", $who, ".")]
        pub fn to<'a, M>(
            &self,
            rooms: impl crate::socket::types::IntoRooms<'a, M>,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().to(rooms)
        }

        #[doc = concat!("The members of rooms of ", $who, ", as [`to`](Self::to) says it.")]
        pub fn in_<'a, M>(
            &self,
            rooms: impl crate::socket::types::IntoRooms<'a, M>,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().to(rooms)
        }

        #[doc = concat!("Everybody in ", $who, " but the members of rooms.")]
        pub fn except<'a, M>(
            &self,
            rooms: impl crate::socket::types::IntoRooms<'a, M>,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().except(rooms)
        }

        #[doc = concat!("Everybody in ", $who, ", for an event that may be lost;")]
        /// see [`Broadcast::volatile`](crate::Broadcast::volatile).
        pub fn volatile<'a>(&self) -> crate::socket::api::Broadcast<'a> {
            self.all().volatile()
        }

        #[doc = concat!("Everybody in ", $who, ", for an event of which the newest is enough;")]
        /// see [`Broadcast::conflate`](crate::Broadcast::conflate).
        pub fn conflate<'a>(&self, key: &str) -> crate::socket::api::Broadcast<'a> {
            self.all().conflate(key)
        }

        #[doc = concat!("Everybody in ", $who, ", for an event of which the newest is enough, now and then;")]
        /// see [`Broadcast::conflate_every`](crate::Broadcast::conflate_every).
        pub fn conflate_every<'a>(
            &self,
            key: &str,
            interval: std::time::Duration,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().conflate_every(key, interval)
        }

        #[doc = concat!("Everybody in ", $who, ", for an event of which the last ones are enough;")]
        /// see [`Broadcast::drop_oldest`](crate::Broadcast::drop_oldest).
        pub fn drop_oldest<'a>(
            &self,
            stream: &str,
            keep: u16,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().drop_oldest(stream, keep)
        }

        #[doc = concat!("Everybody in ", $who, " on this server;")]
        /// see [`Broadcast::local`](crate::Broadcast::local).
        pub fn local<'a>(&self) -> crate::socket::api::Broadcast<'a> {
            self.all().local()
        }

        #[doc = concat!("Everybody in ", $who, ", with this compression flag;")]
        /// see [`Broadcast::compress`](crate::Broadcast::compress).
        pub fn compress<'a>(&self, compress: bool) -> crate::socket::api::Broadcast<'a> {
            self.all().compress(compress)
        }

        #[doc = concat!("Everybody in ", $who, ", who must acknowledge in this time;")]
        /// see [`Broadcast::timeout`](crate::Broadcast::timeout).
        pub fn timeout<'a>(
            &self,
            timeout: std::time::Duration,
        ) -> crate::socket::api::Broadcast<'a> {
            self.all().timeout(timeout)
        }

        #[doc = concat!("Sends an event to everybody in ", $who, ";")]
        /// see [`Broadcast::emit`](crate::Broadcast::emit).
        pub fn emit(
            &self,
            event: &str,
            args: impl roomcast_protocol::socket::Arguments,
        ) -> crate::socket::sending::Emitted {
            self.all().emit(event, args)
        }

        #[doc = concat!("Sends a typed event to everybody in ", $who, ";")]
        /// see [`Contract`](crate::Contract).
        pub fn send(
            &self,
            event: impl crate::socket::types::Contract,
        ) -> crate::socket::sending::Emitted {
            self.all().send(event)
        }

        #[doc = concat!("Asks everybody in ", $who, ";")]
        /// see [`Broadcast::emit_with_acks`](crate::Broadcast::emit_with_acks).
        pub async fn emit_with_acks<R: roomcast_protocol::socket::Argument>(
            &self,
            event: &str,
            args: impl roomcast_protocol::socket::Arguments,
        ) -> crate::socket::sending::Acks<R> {
            self.all().emit_with_acks(event, args).await
        }

        #[doc = concat!("All sockets in ", $who, " on this server.")]
        pub async fn sockets(&self) -> Vec<crate::socket::core::Socket> {
            self.all().sockets().await
        }

        #[doc = concat!("What is known of all sockets in ", $who, ", on all servers of the cluster;")]
        /// see [`Broadcast::fetch_sockets`](crate::Broadcast::fetch_sockets).
        pub async fn fetch_sockets(&self) -> crate::socket::api::Fetched {
            self.all().fetch_sockets().await
        }

        #[doc = concat!("Lets everybody in ", $who, " join rooms;")]
        /// see [`Broadcast::join`](crate::Broadcast::join).
        pub fn join<'r, M>(&self, rooms: impl crate::socket::types::IntoRooms<'r, M>) {
            self.all().join(rooms);
        }

        #[doc = concat!("Lets everybody in ", $who, " leave rooms.")]
        pub fn leave<'r, M>(&self, rooms: impl crate::socket::types::IntoRooms<'r, M>) {
            self.all().leave(rooms);
        }

        #[doc = concat!("Disconnects everybody in ", $who, ";")]
        /// see [`Broadcast::disconnect`](crate::Broadcast::disconnect).
        pub fn disconnect(&self, close: bool) {
            self.all().disconnect(close);
        }

        #[doc = concat!("How many sockets are connected in ", $who, " on this server.")]
        #[must_use]
        pub fn count(&self) -> usize {
            self.all().count()
        }
    };
}

pub(in crate::socket::api) use targets;
