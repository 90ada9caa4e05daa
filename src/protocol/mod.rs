//! The wire protocol as values: names, messages, codes and frames.
//!
//! Nothing here does I/O or knows a connection. [`ClientMessage::parse`] returns a value or an [`ErrorCode`] for
//! any text and never panics. A [`RoomName`] that exists is valid.

mod client_message;
mod code;
mod event;
mod frame;
mod names;
mod publication;
mod quote;
mod server_message;

pub(crate) use client_message::invalid_room;
pub use client_message::{ClientMessage, ClientRequest, DEPTH_MAX, ParseError, PublishRequest};
pub(crate) use code::CloseCode;
pub use code::{ErrorCode, Refusal};
pub use event::{LastEventId, RETRY, refused_event, write_event};
pub(crate) use frame::{FrameBuffer, Frames};
pub use names::{ClientId, Epoch, NameError, RequestId, RoomName, Scope};
pub use publication::{Kind, Position, Publication, Since};
pub(crate) use publication::{PAGE_BYTES_MAX, PAGE_MESSAGES_DEFAULT, PAGE_MESSAGES_MAX, Page};
pub(crate) use quote::{cut, quote};
pub(crate) use server_message::{PresentClient, RoomState, SERVER, ServerMessage};
