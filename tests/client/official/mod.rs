//! The cases of the official client's tests (`packages/socket.io-client/test`), under their names.
//!
//! They run against this server and the official server, except for these cases.
//!
//! Against a server controlled by the test (`tests/client/fake.rs`):
//!
//! - `connection.ts`: should emit a connect_error event when reaching a Socket.IO server in v2.x,
//!   should not reopen a cached but active socket, should not reopen an already active socket,
//!   should close the engine upon decoding exception
//! - `retry.ts`: should preserve the order of the packets, should fail when the server does not
//!   acknowledge the packet, should not drain the queue while the socket is disconnected
//! - `socket.ts`: volatile: should discard a packet when the pipe is not ready
//! - `timeout.ts`: should timeout after the given delay when socket is not connected
//!
//! Against an address without a server:
//!
//! - `connection.ts`: should reconnect delay increase every time, should stop trying to reconnect,
//!   the two of incorrect addresses and ports, should still try to reconnect twice after opening
//!   another socket asynchronously
//!
//! Cases that are left out:
//!
//! - `connection.ts`: should start two connections with same path, with different querystrings,
//!   with different paths. Clients are not cached: each `Client` has its own connection.
//! - `connection.ts`: should use overridden setTimeout by default, should use native setTimeout
//!   with useNativeSetTimers. These test timers of JavaScript.
//! - `connection.ts`: should get base64 data as a last resort, the three of Blobs. These test
//!   browsers.
//! - `socket.ts`: should enable compression by default, should disable compression. The client does
//!   not compress.
//! - `node.ts`: all cases. They test `unref` of Node's timers; here dropping the last handle ends
//!   the client.
//! - `url.ts`: all cases but host, port, path and query, which `src/client/options.rs` tests. They
//!   test relative URLs of pages.
//! - `engine.io-client`: all cases. Its transports are tested in `tests/server/client.rs` and
//!   `tests/client`.

mod binary;
mod connection;
mod reconnection;
mod recovery;
mod retry;
mod socket;
mod timeout;
mod watching;
