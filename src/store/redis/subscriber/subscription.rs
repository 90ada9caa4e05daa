//! A connection with its subscriptions to channels.

use std::time::Duration;

use redis::{Client, Connection, ServerErrorKind, Value};

use super::super::client::{error_text, open_connection};
use super::source::RelaySource;

/// Silence after which the connection counts as lost: the node publishes to itself every second, or once it has waited
/// for a server that does not reply.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Maximum number of channels in one command.
const CHANNELS_MAX: usize = 200;

/// The reason why a connection is given up.
pub(crate) type Lost = String;

/// A connection that receives the messages of its channels.
pub(crate) struct Subscription {
    connection: Connection,
    is_sharded: bool,
    /// Channels whose subscription Redis has not confirmed yet.
    unconfirmed: usize,
}

/// A message that Redis sends to a subscribed connection.
pub(crate) enum PushMessage {
    /// A message was published.
    Published { channel: Vec<u8>, payload: Vec<u8> },
    /// A subscription is confirmed.
    Subscribed { channel: Vec<u8> },
    /// A subscription has ended: at the request of this node, or because the slot of a sharded channel has moved.
    Unsubscribed { channel: Vec<u8> },
    /// A subscription was refused, because another server has the slot.
    Moved { slot: u16 },
    /// The server does not know sharded channels, or the user must not use them.
    Refused { reason: String },
    /// Anything else.
    Other,
}

impl Subscription {
    pub(crate) fn open(client: &Client, source: &RelaySource) -> Result<Self, Lost> {
        let connection = open_connection(client).map_err(|why| why.to_string())?;
        connection
            .set_read_timeout(Some(SILENCE_MAX))
            .map_err(|why| why.to_string())?;
        Ok(Self {
            connection,
            is_sharded: *source != RelaySource::AnyServer,
            unconfirmed: 0,
        })
    }

    pub(crate) fn subscribe(&mut self, channels: &[String]) -> Result<(), Lost> {
        self.unconfirmed += channels.len();
        self.send("SUBSCRIBE", "SSUBSCRIBE", channels)
    }

    pub(crate) fn unsubscribe(&mut self, channels: &[String]) -> Result<(), Lost> {
        self.send("UNSUBSCRIBE", "SUNSUBSCRIBE", channels)
    }

    /// Returns whether Redis has replied to every subscription.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.unconfirmed == 0
    }

    /// Blocks until the next message (RESP2: a kind, a channel, and content that depends on the kind).
    pub(crate) fn receive(&mut self) -> Result<PushMessage, Lost> {
        let invalid = || "Redis sent an invalid message".to_owned();
        let fields = match self.connection.recv_response() {
            Ok(Value::Array(fields)) => fields,
            Ok(Value::ServerError(error)) => return self.refusal(&error),
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
            (b"message" | b"smessage", Some(Value::BulkString(payload))) => {
                PushMessage::Published { channel, payload }
            }
            (b"subscribe" | b"ssubscribe", _) => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                PushMessage::Subscribed { channel }
            }
            (b"unsubscribe" | b"sunsubscribe", _) => PushMessage::Unsubscribed { channel },
            _ => PushMessage::Other,
        })
    }

    /// Interprets an error: the reply to the command for one sharded channel. The text of `MOVED` begins with the slot.
    fn refusal(&mut self, error: &redis::ServerError) -> Result<PushMessage, Lost> {
        let text = error_text(error);
        let slot = error
            .details()
            .and_then(|details| details.split(' ').next()?.parse().ok());
        match (error.kind(), slot) {
            (Some(ServerErrorKind::Moved), Some(slot)) => {
                // It may be the reply to the end of a subscription. Then a room is compared a little too early, and
                // again when its subscription is confirmed.
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                Ok(PushMessage::Moved { slot })
            }
            (Some(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError), _)
                if self.is_sharded =>
            {
                Ok(PushMessage::Refused { reason: text })
            }
            _ => Err(text),
        }
    }

    /// Sends a command for each sharded channel, because those of a command must be in one slot.
    fn send(&mut self, command: &str, sharded: &str, channels: &[String]) -> Result<(), Lost> {
        let (command, count_max) = match self.is_sharded {
            true => (sharded, 1),
            false => (command, CHANNELS_MAX),
        };
        let mut packed = Vec::new();
        for channels in channels.chunks(count_max) {
            redis::cmd(command)
                .arg(channels)
                .write_packed_command(&mut packed);
        }
        if packed.is_empty() {
            return Ok(());
        }
        let sent = self.connection.send_packed_command(&packed);
        sent.map_err(|why| why.to_string())
    }
}
