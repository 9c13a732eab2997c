//! The cases of the official client's tests (`packages/socket.io-client/test`), under their names.
//!
//! They are run against our server and against the official one, with the exception of
//!
//! | file | cases | what they meet |
//! |---|---|---|
//! | `connection.ts` | should emit a connect_error event when reaching a Socket.IO server in v2.x, should not reopen a cached but active socket, should not reopen an already active socket, should close the engine upon decoding exception | a server that is played by hand (`tests/client/fake.rs`) |
//! | `retry.ts` | should preserve the order of the packets, should fail when the server does not acknowledge the packet, should not drain the queue while the socket is disconnected | the same |
//! | `socket.ts` | volatile: should discard a packet when the pipe is not ready | the same |
//! | `timeout.ts` | should timeout after the given delay when socket is not connected | the same |
//! | `connection.ts` | should reconnect delay increase every time, should stop trying to reconnect, the two of incorrect addresses and ports, should still try to reconnect twice after opening another socket asynchronously | nobody: nothing listens there |
//!
//! Left out:
//!
//! | file | cases | why |
//! |---|---|---|
//! | `connection.ts` | should start two connections with same path, with different querystrings, with different paths | clients are not cached: each `Client` is a connection of its own |
//! | `connection.ts` | should use overridden setTimeout by default, should use native setTimeout with useNativeSetTimers | timers of JavaScript |
//! | `connection.ts` | should get base64 data as a last resort, the three of Blobs | browsers |
//! | `socket.ts` | should enable compression by default, should disable compression | the client does not compress |
//! | `node.ts` | all | `unref` of Node's timers; here dropping the last handle ends the client |
//! | `url.ts` | all but host, port, path and query, which `src/client/options.rs` has | relative URLs of pages |
//! | `engine.io-client` | all | its transports are tested in `tests/server/client.rs` and `tests/client` |

mod binary;
mod connection;
mod reconnection;
mod recovery;
mod retry;
mod socket;
mod timeout;
mod watching;
