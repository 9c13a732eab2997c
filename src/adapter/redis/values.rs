//! Values and locks in Redis. Each change is an atomic script.
//!
//! All keys share a hash tag, so that they are on one node of a cluster. Values are the fields of
//! one hash: a version, a colon, and the text. A lock is a key that expires with its lease.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, RedisError};

use super::connection::{BrokerConnection, RedisAddress};
use crate::adapter::{
    common::SharedAddress,
    interface::BoxFuture,
    values::{Expected, MAX_KEYS, Put, StoredValue, ValueError, ValueStore},
};

/// Uses its own connection, which is established on first use and again after it broke.
#[derive(Clone)]
pub(super) struct RedisValues(Arc<RedisValuesInner>);

struct RedisValuesInner {
    place: SharedAddress<RedisAddress>,
    /// The prefix of all keys.
    key: String,
    line: Mutex<Option<BrokerConnection>>,
}

impl RedisValues {
    pub(super) fn new(place: SharedAddress<RedisAddress>, key: &str) -> Self {
        // A hash tag must not contain braces.
        let tag = key.replace(['{', '}'], "_");
        Self(Arc::new(RedisValuesInner {
            place,
            key: format!("{{{tag}-roomcast}}"),
            line: Mutex::new(None),
        }))
    }

    fn name(&self, what: &str) -> String {
        format!("{}:{what}", self.0.key)
    }

    fn run<T: FromRedisValue + Send + 'static>(
        &self,
        script: &str,
        keys: &[String],
        args: &[&str],
    ) -> BoxFuture<Result<T, ValueError>> {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(keys.len()).arg(keys).arg(args);
        self.query(command)
    }

    fn query<T: FromRedisValue + Send + 'static>(
        &self,
        command: Cmd,
    ) -> BoxFuture<Result<T, ValueError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let unavailable = |error: RedisError| ValueError::Unavailable(error.to_string());
            // The connection is cloned, so that no lock is held while it waits for Redis.
            let cached = inner.line.lock().clone();
            let mut line = match cached {
                Some(line) => line,
                // Concurrent callers may each establish a connection; the last connection is kept.
                None => {
                    let made = inner.place.now().connect(None).await.map_err(unavailable)?;
                    inner.line.lock().insert(made).clone()
                }
            };
            let answer = line.query(&command).await;
            let answer = answer.and_then(|value| Ok(redis::from_redis_value::<T>(value)?));
            if answer.as_ref().err().is_some_and(is_broken) {
                *inner.line.lock() = None;
            }
            answer.map_err(unavailable)
        })
    }
}

/// Returns whether a connection is no longer usable.
fn is_broken(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_timeout()
}

// Lua formats large numbers with an exponent, so the scripts format stored numbers explicitly.
/// Returns `{1, version}` on success, `{0, current version or 0}` on a conflict, or `{-1, 0}` if
/// the store is full.
const PUT: &str = r"
local known = redis.call('HGET', KEYS[1], ARGV[1])
local version = known and string.match(known, '^%d+') or '0'
if ARGV[2] ~= '-' and ARGV[2] ~= version then return {0, tonumber(version)} end
if ARGV[3] == '1' and not known and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return {-1, 0} end
local next = redis.call('INCR', KEYS[2])
if ARGV[3] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', next) .. ':' .. ARGV[4])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return {1, next}";

/// Returns the fencing number, or 0.
const LOCK: &str = r"
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^%d+ (.*)$') ~= ARGV[1] then return 0 end
local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], string.format('%.0f', fence) .. ' ' .. ARGV[1], 'PX', ARGV[2])
return fence";

/// Returns 1 if the lock is held under this number, and renews its lease.
const RENEW: &str = r"
local held = redis.call('GET', KEYS[1])
if not held or string.match(held, '^%d+') ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1";

/// Returns 1 if the lock was held under this number, and releases it.
const UNLOCK: &str = r"
local held = redis.call('GET', KEYS[1])
if not held or string.match(held, '^%d+') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1";

impl ValueStore for RedisValues {
    fn get(&self, key: &str) -> BoxFuture<Result<Option<StoredValue>, ValueError>> {
        let mut command = redis::cmd("HGET");
        command.arg(self.name("values")).arg(key);
        let query_result = self.query::<Option<String>>(command);
        Box::pin(async move {
            let malformed = || ValueError::Decode("no version".to_owned());
            let read = |stored: String| {
                let (version, text) = stored.split_once(':').ok_or_else(malformed)?;
                let version = version.parse().map_err(|_| malformed())?;
                let text = text.into();
                Ok(StoredValue { version, text })
            };
            query_result.await?.map(read).transpose()
        })
    }

    fn put(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> BoxFuture<Result<Put, ValueError>> {
        let expected = match expected {
            Expected::Anything => "-".to_owned(),
            Expected::Nothing => "0".to_owned(),
            // No version is zero, so `0` represents `Expected::Nothing` in the script.
            Expected::Version(0) => "none".to_owned(),
            Expected::Version(version) => version.to_string(),
        };
        let is_there = if text.is_some() { "1" } else { "0" };
        let (text, most) = (text.as_deref().unwrap_or_default(), MAX_KEYS.to_string());
        let keys = [self.name("values"), self.name("last")];
        let query_result =
            self.run::<(i64, u64)>(PUT, &keys, &[key, &expected, is_there, text, &most]);
        Box::pin(async move {
            Ok(match query_result.await? {
                (1, version) => Put::Stored(version),
                (0, 0) => Put::Conflict(None),
                (0, version) => Put::Conflict(Some(version)),
                _ => return Err(ValueError::Full),
            })
        })
    }

    fn lock(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> BoxFuture<Result<Option<u64>, ValueError>> {
        let keys = [self.name(&format!("lock:{name}")), self.name("last")];
        let query_result = self.run::<u64>(LOCK, &keys, &[holder, &lease.as_millis().to_string()]);
        Box::pin(async move { Ok(Some(query_result.await?).filter(|fence| *fence > 0)) })
    }

    fn renew(
        &self,
        name: &str,
        fence: u64,
        lease: Duration,
    ) -> BoxFuture<Result<bool, ValueError>> {
        let keys = [self.name(&format!("lock:{name}"))];
        let args = [fence.to_string(), lease.as_millis().to_string()];
        self.run(RENEW, &keys, &args.each_ref().map(String::as_str))
    }

    fn unlock(&self, name: &str, fence: u64) -> BoxFuture<Result<bool, ValueError>> {
        let keys = [self.name(&format!("lock:{name}"))];
        self.run(UNLOCK, &keys, &[&fence.to_string()])
    }
}
