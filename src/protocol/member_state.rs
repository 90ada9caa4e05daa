//! The state that a client shows in a room, such as `{"typing":true}`: any JSON value, relayed verbatim.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{ErrorCode, Refusal};

/// Longest state, in bytes of JSON text.
const STATE_BYTES_MAX: usize = 256;

/// The JSON text of a state, at most 256 bytes and not `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState(Arc<str>);

/// A change of the state that a client shows in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StateChange {
    /// The state stays as it is.
    #[default]
    Keep,
    /// The client shows this state from now on, or none.
    Set(Option<MemberState>),
}

impl StateChange {
    /// Parses the field `state` of a request. `null` removes the state.
    pub(super) fn parse(field: Option<&RawValue>) -> Result<Self, Refusal> {
        let Some(text) = field.map(RawValue::get) else {
            return Ok(Self::Keep);
        };
        if text == "null" {
            return Ok(Self::Set(None));
        }
        if text.len() > STATE_BYTES_MAX {
            let given = text.len();
            let message = format!("`state` may have {STATE_BYTES_MAX} bytes of JSON, not {given}");
            return Err(Refusal::new(ErrorCode::StateTooLarge, message));
        }
        Ok(Self::Set(Some(MemberState(text.into()))))
    }
}

impl MemberState {
    /// Parses a state that another node reports.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_json = || serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get() == text);
        (text.len() <= STATE_BYTES_MAX && text != "null" && is_json()).then(|| Self(text.into()))
    }

    /// Returns the JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for MemberState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}
