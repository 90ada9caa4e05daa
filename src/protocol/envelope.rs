//! The envelope of a request: finds the known fields of a JSON object without parsing their values.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{ErrorCode, Refusal};

/// Deepest nesting of arrays and objects in a client's frame, including the envelope.
///
/// The server relays payloads without parsing them, but members parse them, often recursively.
pub const DEPTH_MAX: usize = 64;

/// Most characters of a key that are repeated in a refusal. Escaping can make a key seven times as long.
const KEY_CHARS_SHOWN: usize = 64;

/// The known fields of a request, each as raw JSON text.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) kind: Option<&'a RawValue>,
    pub(super) payload: Option<&'a RawValue>,
    pub(super) room: Option<&'a RawValue>,
    pub(super) id: Option<&'a RawValue>,
    pub(super) presence: Option<&'a RawValue>,
    pub(super) since: Option<&'a RawValue>,
    pub(super) echo: Option<&'a RawValue>,
    pub(super) epoch: Option<&'a RawValue>,
    pub(super) last: Option<&'a RawValue>,
    pub(super) limit: Option<&'a RawValue>,
    pub(super) token: Option<&'a RawValue>,
    pub(super) state: Option<&'a RawValue>,
    pub(super) ttl: Option<&'a RawValue>,
    duplicate: Option<String>,
}

impl<'a> Envelope<'a> {
    /// Finds the known fields. Refuses texts that are not an object, nest too deep or repeat a key.
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        if nests_deeper_than(text, DEPTH_MAX) {
            let message = format!("nest arrays and objects at most {DEPTH_MAX} deep");
            return Err(Refusal::new(ErrorCode::TooDeep, message));
        }
        let envelope: Self = serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                let message =
                    "send a JSON object such as {\"type\":\"message\",\"payload\":\"hi\"}";
                Refusal::new(ErrorCode::NotAnObject, message)
            } else {
                Refusal::new(ErrorCode::InvalidJson, not_json(&error))
            }
        })?;
        match &envelope.duplicate {
            Some(key) => {
                let shown: String = key.chars().take(KEY_CHARS_SHOWN).collect();
                let message = format!("the key {shown:?} appears twice; send it once");
                Err(Refusal::new(ErrorCode::DuplicateField, message))
            }
            None => Ok(envelope),
        }
    }
}

/// Describes why a text is not JSON. Several objects in one text are mostly lines whose ends `curl -d` has removed.
fn not_json(error: &serde_json::Error) -> String {
    let why = error.to_string();
    let hint = match why.starts_with("trailing characters") {
        true => "; send one object in each frame or line (for lines curl needs --data-binary)",
        false => "",
    };
    format!("not valid JSON: {why}{hint}")
}

pub(super) fn wrong_type(field: &str, expected: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidField,
        format!("`{field}` must be {expected}"),
    )
}

/// Returns the value of a string field; `null` counts as missing.
pub(super) fn optional_string<'a>(
    field: &str,
    raw: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some(text) = raw.map(RawValue::get) else {
        return Ok(None);
    };
    // Most strings have no escapes and need no copy.
    match text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) if !inner.contains('\\') => return Ok(Some(Cow::Borrowed(inner))),
        _ => {}
    }
    serde_json::from_str::<Option<String>>(text)
        .map(|text| text.map(Cow::Owned))
        .map_err(|_| wrong_type(field, "a string"))
}

pub(super) fn optional_bool(field: &str, raw: Option<&RawValue>) -> Result<Option<bool>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| wrong_type(field, "true or false"))
}

pub(super) fn optional_number(field: &str, raw: Option<&RawValue>) -> Result<Option<u64>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| wrong_type(field, "a whole number, 0 or more"))
}

/// Counts brackets outside strings. The parser checks later whether they match.
fn nests_deeper_than(text: &str, depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return true;
        }
    }
    false
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// Checks every key, known or not, because two parsers may use different values of a duplicate key.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        let mut others = HashSet::new();
        while let Some(ObjectKey(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            let field = match &*key {
                "type" => &mut envelope.kind,
                "payload" => &mut envelope.payload,
                "room" => &mut envelope.room,
                "id" => &mut envelope.id,
                "presence" => &mut envelope.presence,
                "since" => &mut envelope.since,
                "echo" => &mut envelope.echo,
                "epoch" => &mut envelope.epoch,
                "last" => &mut envelope.last,
                "limit" => &mut envelope.limit,
                "token" => &mut envelope.token,
                "state" => &mut envelope.state,
                "ttl" => &mut envelope.ttl,
                _ => {
                    if others.contains(&*key) {
                        envelope.duplicate = Some(key.into_owned());
                    } else {
                        others.insert(key.into_owned());
                    }
                    continue;
                }
            };
            if field.replace(value).is_some() {
                envelope.duplicate = Some(key.into_owned());
            }
        }
        Ok(envelope)
    }
}

/// A key of an object, borrowed if it contains no escapes.
struct ObjectKey<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for ObjectKey<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = ObjectKey<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<ObjectKey<'de>, E> {
                Ok(ObjectKey(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ObjectKey<'de>, E> {
                Ok(ObjectKey(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_a_long_key_is_short() {
        let key = "\u{7f}".repeat(30_000);
        let text = format!(r#"{{"type":"ping","{key}":1,"{key}":2}}"#);
        let refusal = Envelope::parse(&text).err().unwrap();
        assert_eq!(refusal.code, ErrorCode::DuplicateField);
        assert!(refusal.message.len() < 1024, "{}", refusal.message.len());
    }
}
