//! The log as JSON: one object on each line.

use std::io::Write;
use std::num::NonZeroU8;
use std::time::SystemTime;

use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use serde::Serialize;
use simplelog::{Config, SharedLogger};
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::{
    Config as TimeConfig, EncodedConfig, TimePrecision,
};

/// The target of the lines about requests and connections.
pub(crate) const ACCESS_TARGET: &str = "access";
/// The start of the targets that are not logged: the library logs payloads.
pub(super) const IGNORED_TARGET: &str = "tungstenite";

/// RFC 3339 with a fraction of three digits.
const MILLISECONDS: EncodedConfig = TimeConfig::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: NonZeroU8::new(3),
    })
    .encode();

/// Writes `time`, `level`, `thread` and `message`, and the named values of a record.
pub(super) struct JsonLogger<W>(Mutex<W>);

impl<W> JsonLogger<W> {
    pub(super) fn new(writer: W) -> Self {
        Self(Mutex::new(writer))
    }
}

impl<W: Write + Send> Log for JsonLogger<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.target().starts_with(IGNORED_TARGET)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record, SystemTime::now());
        // A log that cannot be written has nowhere to say so.
        self.0.lock().write_all(line.as_bytes()).ok();
    }

    fn flush(&self) {
        self.0.lock().flush().ok();
    }
}

impl<W: Write + Send + 'static> SharedLogger for JsonLogger<W> {
    fn level(&self) -> LevelFilter {
        LevelFilter::Trace
    }

    fn config(&self) -> Option<&Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}

/// Returns a record as one line. The named values of a request stand in place of its message.
fn line(record: &Record<'_>, now: SystemTime) -> String {
    let level = record.level().as_str().to_ascii_lowercase();
    let thread = std::thread::current();
    let message = match record.target() {
        ACCESS_TARGET => ACCESS_TARGET.to_owned(),
        _ => record.args().to_string(),
    };
    let mut fields = Fields(String::from("{"));
    fields.add("time", &timestamp(now));
    fields.add("level", &level);
    fields.add("thread", thread.name().unwrap_or("?"));
    fields.add("message", &message);
    // The visitor never fails.
    record.key_values().visit(&mut fields).ok();
    fields.0 + "}\n"
}

/// Returns a time in RFC 3339, in UTC and to the millisecond.
fn timestamp(now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    // `Rfc3339` leaves out zeros at the end of the fraction. Fails only for years of more than four digits.
    now.format(&Iso8601::<MILLISECONDS>).unwrap_or_default()
}

/// The fields of an object, in the order in which they are added.
struct Fields(String);

impl Fields {
    fn add<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        // Text and numbers: serializing them to memory cannot fail.
        self.0 += &serde_json::to_string(key).unwrap_or_default();
        self.0.push(':');
        self.0 += &serde_json::to_string(value).unwrap_or_default();
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let (key, fields) = (key.as_str(), self);
        value.visit(Field { key, fields })
    }
}

/// Adds a named value of a record. A value that is missing is left out.
struct Field<'a> {
    key: &'a str,
    fields: &'a mut Fields,
}

impl VisitValue<'_> for Field<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.fields.add(self.key, &value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.fields.add(self.key, &value);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.fields.add(self.key, &value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use log::Level;

    use super::*;

    fn parsed(message: &str, target: &str, values: &dyn kv::Source) -> serde_json::Value {
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_120);
        let text = line(
            &Record::builder()
                .level(Level::Warn)
                .target(target)
                .key_values(&values)
                .args(format_args!("{message}"))
                .build(),
            at,
        );
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn any_message_is_one_line_of_json() {
        for message in [
            "plain",
            "\"quoted\" \\ \n\r\t\u{0}\u{7f}\u{2028}",
            "房间 👩‍🚀",
            "",
        ] {
            let line = parsed(message, "wscast", &("key", "a\nb"));
            assert_eq!(line["message"], message);
            assert_eq!(line["time"], "2023-11-14T22:13:20.120Z");
            assert_eq!(line["level"], "warn");
            assert_eq!(line["key"], "a\nb");
        }
    }

    #[test]
    fn named_values_keep_their_types_and_missing_ones_are_left_out() {
        let values: &[(&str, Value<'_>)] = &[
            ("status", Value::from(200_u16)),
            ("duration_ms", Value::from(0.5)),
            ("user", Value::null()),
        ];
        let line = parsed("text", ACCESS_TARGET, &values);
        assert_eq!(line["message"], "access");
        assert_eq!(line["status"], 200);
        assert_eq!(line["duration_ms"], 0.5);
        assert_eq!(line.get("user"), None);
    }
}
