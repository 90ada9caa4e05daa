//! The wire protocol as values: names, messages, codes and frames.
//!
//! Nothing here does I/O or knows a connection. [`ClientMessage::parse`] returns a value or an [`ErrorCode`] for
//! any text and never panics. A [`RoomName`] that exists is valid.

pub mod client_frames;
mod client_message;
mod code;
mod envelope;
mod event;
mod event_stream;
mod frame;
mod member_state;
mod names;
mod publication;
mod quote;
mod server_message;
mod ttl;
mod wire;

pub(crate) use client_message::invalid_room;
pub use client_message::{ClientMessage, ClientRequest, ParseError, PublishRequest};
pub(crate) use code::CloseCode;
pub use code::{ErrorCode, Refusal};
pub use envelope::DEPTH_MAX;
pub use event::{LastEventId, RETRY, refused_event, write_event, write_event_id};
pub(crate) use event_stream::{
    EventBodies, LastStreamId, RoomKey, STREAM_ROOMS_MAX, stream_id_chars_max, write_stream_id,
};
pub(crate) use frame::{FrameBuffer, Frames};
pub use member_state::{MemberState, StateChange};
pub(crate) use names::is_user;
pub use names::{ClientId, Epoch, NameError, RequestId, RoomName, Scope, SessionHash, UserHash};
pub use publication::{Backlog, Kind, Position, Publication, Since};
pub(crate) use publication::{PAGE_BYTES_MAX, PAGE_MESSAGES_DEFAULT, PAGE_MESSAGES_MAX, Page};
pub(crate) use quote::{cut, quote};
pub(crate) use server_message::{PresentClient, RoomState, SERVER, ServerMessage};
pub use ttl::{TTL_SECONDS_MAX, Ttl};
pub(crate) use wire::Wire;
