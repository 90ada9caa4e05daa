//! A connection with its subscriptions to channels.

use std::time::Duration;

use redis::{Client, Connection, Value};

use super::super::client::{error_text, open_connection};

/// Silence after which the connection counts as lost: the node publishes to itself every second.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Maximum number of channels in one command.
const CHANNELS_MAX: usize = 200;

/// The reason why a connection is given up.
pub(crate) type Lost = String;

/// A connection that receives the messages of its channels.
pub(crate) struct Subscription {
    connection: Connection,
    /// Channels whose subscription Redis has not confirmed yet.
    unconfirmed: usize,
}

/// A message that Redis sends to a subscribed connection.
pub(crate) enum PushMessage {
    /// A message was published.
    Published { channel: Vec<u8>, payload: Vec<u8> },
    /// A subscription is confirmed.
    Subscribed { channel: Vec<u8> },
    /// Anything else, such as the confirmation of `UNSUBSCRIBE`.
    Other,
}

impl Subscription {
    pub(crate) fn open(client: &Client) -> Result<Self, Lost> {
        let connection = open_connection(client).map_err(|why| why.to_string())?;
        connection
            .set_read_timeout(Some(SILENCE_MAX))
            .map_err(|why| why.to_string())?;
        Ok(Self {
            connection,
            unconfirmed: 0,
        })
    }

    pub(crate) fn subscribe(&mut self, channels: &[String]) -> Result<(), Lost> {
        self.unconfirmed += channels.len();
        self.send("SUBSCRIBE", channels)
    }

    pub(crate) fn unsubscribe(&mut self, channels: &[String]) -> Result<(), Lost> {
        self.send("UNSUBSCRIBE", channels)
    }

    /// Returns whether Redis has confirmed every subscription.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.unconfirmed == 0
    }

    /// Blocks until the next message (RESP2: a kind, a channel, and content that depends on the kind).
    pub(crate) fn receive(&mut self) -> Result<PushMessage, Lost> {
        let invalid = || "Redis sent an invalid message".to_owned();
        let fields = match self.connection.recv_response() {
            Ok(Value::Array(fields)) => fields,
            Ok(Value::ServerError(error)) => return Err(error_text(&error)),
            Ok(_) => return Err(invalid()),
            Err(why) => return Err(why.to_string()),
        };
        let mut fields = fields.into_iter();
        let (Some(Value::BulkString(kind)), Some(Value::BulkString(channel)), content) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Err(invalid());
        };
        Ok(match (kind.as_slice(), content) {
            (b"message", Some(Value::BulkString(payload))) => {
                PushMessage::Published { channel, payload }
            }
            (b"subscribe", _) => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                PushMessage::Subscribed { channel }
            }
            _ => PushMessage::Other,
        })
    }

    fn send(&mut self, command: &str, channels: &[String]) -> Result<(), Lost> {
        for channels in channels.chunks(CHANNELS_MAX) {
            let packed = redis::cmd(command).arg(channels).get_packed_command();
            self.connection
                .send_packed_command(&packed)
                .map_err(|why| why.to_string())?;
        }
        Ok(())
    }
}
