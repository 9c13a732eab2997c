//! The cases of the official client's tests (`packages/socket.io-client/test`), under their names.
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
